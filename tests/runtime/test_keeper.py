"""Which version serves: loading, swapping between two queries, refusing what is damaged."""

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.pipes import pipe
from fakes.versions import ANSWER, OTHER_ANSWER, QUESTION, Tiny
from shammah_data.errors import ArtifactError
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.manifest import Manifest
from shammah_data.store import ModelStore
from shammah_data.verification import Verification
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.doctor import examine
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.memory import needed
from shammah_runtime.engine.model import Model, open_model
from shammah_runtime.models import ModelKeeper
from shammah_runtime.status import status_lines
from shammah_runtime.trial import falls_to

PATIENCE = 30.0

Open = Callable[..., Model]


def said(model: Model | None) -> str:
    assert model is not None
    return model.decoder.generate(model.prompt(QUESTION, [], 16).ids, Decoding(max_tokens=16)).text


@pytest.fixture
def make_keeper(home: Home) -> Iterator[Callable[..., ModelKeeper]]:
    made: list[ModelKeeper] = []

    def make(opener: Open = open_model, store: ModelStore | None = None, **more: Any) -> ModelKeeper:
        keeper = ModelKeeper(store or ModelStore(home.models), Wanted(threads=1), opener, poll_seconds=0.005, **more)
        made.append(keeper)
        return keeper

    yield make
    for keeper in made:
        keeper.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "model-keeper"]


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.005)


def damage(home: Home, version: str, name: str = "int8/weights.bin") -> Path:
    path = home.models / version / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_without_a_model_there_is_a_reason(make_keeper: Callable[..., ModelKeeper]) -> None:
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None
    assert keeper.reason == "no model has been trained yet: run shammah-train"
    assert keeper.notes() == []


def test_the_champion_serves(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.start()
    assert said(keeper.current()) == ANSWER
    assert keeper.notes() == []


def test_a_version_that_is_not_promoted_does_not_serve(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home, promote=False)
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None


def test_a_refused_version_is_a_reason_and_a_note(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    path = damage(home, "v0001")
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None
    assert keeper.reason.startswith(f"v0001 is refused: {path}: not the bytes that were published")
    assert keeper.notes() == [keeper.reason]
    assert keeper.notes() == []


def test_an_unreadable_pointer_is_a_reason(make_keeper: Callable[..., ModelKeeper], home: Home) -> None:
    home.models.mkdir()
    (home.models / "pointer.json").write_text("{", encoding="utf-8")
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None
    assert "pointer.json: cannot be read" in keeper.reason


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("boom"), "RuntimeError: boom"),
        (OSError("disk"), "OSError: disk"),
        (MemoryError(), "there is not enough memory to load it"),
    ],
)
def test_whatever_goes_wrong_queries_do_not_wait_for_ever(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home, error: Exception, says: str
) -> None:
    tiny.publish(home)

    def fail(*_: Any) -> Model:
        raise error

    keeper = make_keeper(fail)
    keeper.look()
    assert keeper.current() is None
    assert keeper.reason == f"v0001 is refused: {says}"


def test_a_new_champion_serves_the_next_query_and_says_so(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.start()
    before = keeper.current()
    assert said(before) == ANSWER
    other_tiny.publish(home)
    eventually(lambda: keeper.current() is not before, "the new version never came")
    assert said(keeper.current()) == OTHER_ANSWER
    assert said(before) == ANSWER  # an answer that is under way goes on
    assert keeper.notes() == ["now answering with v0002 (int8, cpu), before with v0001"]


def test_a_rollback_serves_the_next_query(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    assert said(keeper.current()) == OTHER_ANSWER
    ModelStore(home.models).rollback()
    keeper.look()
    assert said(keeper.current()) == ANSWER


def test_no_query_waits_while_a_new_version_loads(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def slow(folder: Path, manifest: Any, *rest: Any) -> Model:
        if manifest.version == "v0002":
            loading.set()
            assert go_on.wait(PATIENCE)
        return open_model(folder, manifest, *rest)

    tiny.publish(home)
    keeper = make_keeper(slow)
    keeper.look()
    assert said(keeper.current()) == ANSWER
    other_tiny.publish(home)
    keeper.start()
    assert loading.wait(PATIENCE)
    assert said(keeper.current()) == ANSWER
    go_on.set()
    eventually(lambda: said(keeper.current()) == OTHER_ANSWER, "the new version never came")
    keeper.close()
    assert said(keeper.current()) == OTHER_ANSWER


def test_a_damaged_new_version_is_refused_and_the_old_one_goes_on(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    assert said(keeper.current()) == ANSWER
    other_tiny.publish(home)
    damage(home, "v0002")
    keeper.look()
    assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert note.startswith("v0002 is refused: ")
    assert note.endswith("(v0001 goes on answering)")
    keeper.look()  # and it is not read again and again
    assert keeper.notes() == []


def test_a_new_version_that_fails_its_self_test_is_refused(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    right = other_tiny.goldens["int8"]
    other_tiny.publish(home, graphs=[{"golden": (right[0], *tiny.goldens["int8"][1:])}])
    for _ in range(3):
        keeper.look()
        assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert note == (
        "v0002 is refused: v0002: its answer to golden prompt 2 of 2 is not the one it was published with "
        "(v0001 goes on answering)"
    )


@pytest.mark.parametrize("name", ["int8/model.onnx", "int8/weights.bin", "tokenizer.json", "manifest.json"])
def test_a_new_version_with_a_missing_file_never_serves(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, name: str
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    other_tiny.publish(home)
    (home.models / "v0002" / name).unlink()
    for _ in range(3):
        keeper.look()
        assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert name in note


@pytest.mark.parametrize("name", ["int8/weights.bin", "tokenizer.json", "manifest.json"])
def test_a_pipe_among_the_files_of_a_new_version_is_not_waited_for(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, name: str
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    other_tiny.publish(home)
    with pipe(home.models / "v0002" / name):
        keeper.look()
        assert said(keeper.current()) == ANSWER
        (note,) = keeper.notes()
        assert f"{name}: " in note
        assert "not a plain file: run `shammah-train rollback`" in note
        (told,) = (check for check in examine(home) if check.name == "model")
        assert told.level == "fail"
        assert "not a plain file" in str(told)


def test_a_pipe_in_place_of_the_pointer_is_not_waited_for(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    with pipe(home.models / "pointer.json"):
        keeper.look()
        assert said(keeper.current()) == ANSWER
        (note,) = keeper.notes()
        assert "pointer.json: cannot be read (not a plain file): run `shammah-train promote VERSION`" in note


def test_a_stop_id_that_the_model_has_not_is_a_fault_of_its_version(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    other_tiny.publish(home)
    path = home.models / "v0002" / "manifest.json"
    raw = json.loads(path.read_bytes())
    raw["stop_ids"].append(384)
    path.write_text(json.dumps(raw))
    keeper.look()
    assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert "the stop id 384 is beyond its vocabulary of 384 tokens" in note


def test_a_graph_that_was_damaged_before_it_was_published_never_serves(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, tmp_path: Path
) -> None:
    """Its digest is right; ONNX Runtime or the golden prompt must find out."""
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    for name in ("model.onnx", "weights.bin"):
        spoilt = dataclasses.replace(other_tiny, folder=Path(shutil.copytree(other_tiny.folder, tmp_path / name)))
        content = bytearray((spoilt.folder / "int8" / name).read_bytes())
        quarter = len(content) // 4
        content[quarter : 3 * quarter] = bytes(2 * quarter)
        (spoilt.folder / "int8" / name).write_bytes(content)
        version = spoilt.publish(home)
        keeper.look()
        assert said(keeper.current()) == ANSWER, name
        (note,) = keeper.notes()
        assert note.startswith(f"{version} is refused: ")


class Paused:
    """An answer of a model that is under way until it is let go."""

    def __init__(self, model: Model | None) -> None:
        assert model is not None
        self._began, self._go_on = threading.Event(), threading.Event()
        self._found: list[str] = []
        self._thread = threading.Thread(target=self._answer, args=(model,))
        self._thread.start()
        assert self._began.wait(PATIENCE)

    def _answer(self, model: Model) -> None:
        def shown(_: str) -> None:
            self._began.set()
            assert self._go_on.wait(PATIENCE)

        self._found.append(model.decoder.generate(model.prompt(QUESTION, [], 16).ids, Decoding(max_tokens=16), shown).text)

    def ended(self) -> str:
        self._go_on.set()
        self._thread.join(PATIENCE)
        return self._found[0]


def test_an_answer_under_way_ends_on_the_version_that_it_began_with_and_then_that_is_gone(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    old = weakref.ref(keeper.current())
    answer = Paused(keeper.current())
    other_tiny.publish(home)
    keeper.look()
    assert said(keeper.current()) == OTHER_ANSWER
    keeper.look()
    assert old() is not None
    assert answer.ended() == ANSWER
    keeper.look()
    assert old() is None


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_swapping_back_and_forth_leaves_no_memory_behind(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    store = ModelStore(home.models)
    keeper = make_keeper()
    sizes = []
    for number in range(24):
        keeper.look()
        assert said(keeper.current()) == (ANSWER if number % 2 else OTHER_ANSWER)
        store.rollback()
        sizes.append(resident())
    # An engine takes about 2 MB here: 20 of them kept would be 40.
    assert sizes[-1] - sizes[3] < 8 * 2**20, sizes


@pytest.mark.parametrize("name", ["int8/weights.bin", "int8/model.onnx", "tokenizer.json", "manifest.json"])
def test_a_damaged_champion_at_the_start_falls_back_to_the_previous_one(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, name: str
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    (home.models / "v0002" / name).unlink()
    keeper = make_keeper()
    keeper.look()
    assert said(keeper.current()) == ANSWER
    refused, instead = keeper.notes()
    assert refused.startswith("v0002 is refused: ")
    assert name in refused
    assert instead == "answering with v0001, the one before, instead"


def test_two_damaged_versions_leave_none(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    for version in ("v0001", "v0002"):
        damage(home, version)
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None
    assert len(keeper.notes()) == 2


def test_a_repaired_store_is_noticed(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    damage(home, "v0001")
    keeper = make_keeper()
    keeper.look()
    assert keeper.current() is None
    tiny.publish(home)
    keeper.look()
    assert said(keeper.current()) == ANSWER


def test_the_first_query_waits_for_the_first_version(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    go_on = threading.Event()

    def slow(*given: Any) -> Model:
        assert go_on.wait(PATIENCE)
        return open_model(*given)

    tiny.publish(home)
    keeper = make_keeper(slow)
    keeper.start()
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(said(keeper.current())))
    asking.start()
    assert asking.is_alive()
    assert not found
    go_on.set()
    asking.join(PATIENCE)
    assert found == [ANSWER]


def test_a_store_that_refuses_tells_why(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    class Locked(ModelStore):
        def verification(self, version: str) -> Any:
            raise ArtifactError(f"{version}: no")

    tiny.publish(home)
    keeper = make_keeper(store=Locked(home.models))
    keeper.look()
    assert keeper.reason == "v0001 is refused: v0001: no"


@pytest.mark.parametrize("whole", [True, False])
def test_nobody_is_answered_before_the_weights_are_verified(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home, whole: bool
) -> None:
    go_on, opened = threading.Event(), threading.Event()

    class Slow(Verification):
        def whole(self) -> Manifest:
            assert go_on.wait(PATIENCE)
            return super().whole()

    class Slowly(ModelStore):
        def verification(self, version: str) -> Verification:
            return Slow(self._verified(version))

    def opener(*given: Any) -> Model:
        model = open_model(*given)
        opened.set()
        return model

    tiny.publish(home)
    if not whole:
        damage(home, "v0001")
    keeper = make_keeper(opener, Slowly(home.models))
    keeper.start()
    # Damaged weights may fail the golden prompts, too; what is said is what is the matter.
    assert not whole or opened.wait(PATIENCE)
    assert not keeper.wait(0.1)
    go_on.set()
    assert (keeper.current() is not None) is whole
    assert whole or "weights.bin: not the bytes that were published" in keeper.reason


# -- a candidate beside the champion ----------------------------------------------------------------------------------


class Machine:
    """A memory that holds so many engines of the tiny models, and what was opened in it."""

    def __init__(self, engines: float) -> None:
        self.engines = engines
        self._open: list[weakref.ref[Model]] = []
        self.opened: list[str] = []
        self.most = 0
        self._bytes = 0

    def alive(self) -> int:
        return sum(model() is not None for model in self._open)

    def available(self) -> int:
        return int((self.engines - self.alive()) * self._bytes)

    def opener(self, folder: Path, manifest: Manifest, *rest: Any) -> Model:
        self.opened.append(manifest.version)
        model = open_model(folder, manifest, *rest)
        self._open.append(weakref.ref(model))
        self.most = max(self.most, self.alive())
        return model

    def publish(self, home: Home, *tinies: Tiny) -> None:
        """The first is the champion, the second there to be tried."""
        store = ModelStore(home.models)
        for number, tiny in enumerate(tinies):
            manifest = store.verify(tiny.publish(home, promote=number == 0))
            self._bytes = max(self._bytes, needed(manifest, manifest.graphs[0]))


def versions(keeper: ModelKeeper, count: int) -> list[str]:
    """Which version answers each of so many sessions."""
    models = [keeper.current(f"session {number}") for number in range(count)]
    return [model.manifest.version for model in models if model is not None]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_a_candidate_gets_its_share_of_the_sessions(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, share: float
) -> None:
    machine = Machine(2.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).set_candidate("v0002", share)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    split = versions(keeper, 1000)
    # Five standard deviations of 1000 draws, of which the hash is as good as one.
    assert abs(split.count("v0002") - 1000 * share) <= 5 * (1000 * share * (1 - share)) ** 0.5
    assert keeper.trial() == f"v0002 (int8, cpu) on {share:.0%} of the sessions"
    assert machine.opened == ["v0001", "v0002"]
    assert keeper.notes() == []


def test_a_session_stays_with_its_version_and_the_other_one_is_its_rival(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home, promote=False)
    keeper = make_keeper()
    keeper.look()
    assert keeper.rival("v0001") is None
    ModelStore(home.models).set_candidate("v0002", 0.4)
    keeper.look()
    first = versions(keeper, 20)
    assert first == versions(keeper, 20)
    assert set(first) == {"v0001", "v0002"}
    # In another process, too.
    again = make_keeper()
    again.look()
    assert versions(again, 20) == first
    for version in set(first):
        rival = keeper.rival(version)
        assert rival is not None
        assert {version, rival.manifest.version} == {"v0001", "v0002"}
    assert keeper.rival("v0003") is None
    # A larger share takes sessions from the champion, and gives none back.
    ModelStore(home.models).set_candidate("v0002", 0.8)
    keeper.look()
    assert all(now == "v0002" for was, now in zip(first, versions(keeper, 20), strict=True) if was == "v0002")


def test_what_audits_want_is_loaded_beside_the_champion_and_answers_nobody(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(2.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).promote("v0002")
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    assert keeper.compared() is None
    keeper.compare_with("v0001")
    keeper.look()
    rival = keeper.rival("v0002")
    assert rival is not None
    assert rival.manifest.version == "v0001"
    del rival
    assert set(versions(keeper, 20)) == {"v0002"}
    assert keeper.compared() == "v0001, which audits ask too until v0002 has proved itself"
    keeper.compare_with(None)
    keeper.look()
    assert keeper.rival("v0002") is None
    assert machine.alive() == 1


def test_where_memory_holds_one_version_audits_ask_one_and_the_status_says_so(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).promote("v0002")
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    keeper.compare_with("v0001")
    keeper.look()
    keeper.look()
    assert keeper.rival("v0002") is None
    assert machine.opened == ["v0002"]
    assert str(keeper.compared()).startswith("no memory for v0001: audits ask v0002 alone")
    assert set(versions(keeper, 5)) == {"v0002"}


def test_every_answer_says_which_version_gave_it(
    make_appliance: Callable[..., Appliance], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home, promote=False)
    ModelStore(home.models).set_candidate("v0002", 0.5)
    appliance = make_appliance(Options(watch=True, offline=True), context_turns=0)
    told = set()
    for number in range(8):
        appliance.conversation.session = f"session {number}"
        asked = {(exchange.model_version, exchange.answer) for exchange in (_ask(appliance) for _ in range(2))}
        assert len(asked) == 1
        told |= asked
    assert told == {("v0001", ANSWER), ("v0002", OTHER_ANSWER)}
    assert any(line == "candidate  v0002 (int8, cpu) on 50% of the sessions" for line in status_lines(appliance))


def _ask(appliance: Appliance) -> Exchange:
    appliance.conversation.ask(QUESTION, lambda _: None)
    assert appliance.conversation.last is not None
    return appliance.conversation.last[0]


@pytest.mark.parametrize("version", ["v0001", "v0002"])
def test_for_one_query_only_the_version_that_answers_it_is_loaded(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, version: str
) -> None:
    machine = Machine(2.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).set_candidate("v0002", 0.3)
    session = next(name for name in map(str, range(100)) if falls_to("v0002", name, 0.3) == (version == "v0002"))
    keeper = make_keeper(machine.opener, session=session)
    keeper.start(watch=False)
    model = keeper.current(session)
    keeper.close()
    assert model is not None
    assert model.manifest.version == version
    assert machine.opened == [version]
    assert keeper.notes() == []


def test_a_version_is_in_use_until_its_last_query_has_ended(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home
) -> None:
    store = ModelStore(home.models)
    tiny.publish(home)
    keeper = make_keeper()
    keeper.look()
    asking = keeper.current()
    assert store.in_use() == {"v0001"}
    tiny.publish(home)
    tiny.publish(home)
    keeper.look()
    assert store.in_use() == {"v0001", "v0003"}
    # Neither champion nor the one before, and not among the newest: only the query under way keeps it.
    assert store.collect(0) == []
    del asking
    keeper.look()
    assert store.in_use() == {"v0003"}
    assert store.collect(0) == ["v0001"]


def test_a_version_that_fails_to_load_is_not_in_use(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    def fail(*_: object) -> Model:
        raise MemoryError

    tiny.publish(home)
    keeper = make_keeper(fail)
    keeper.look()
    assert keeper.current() is None
    assert ModelStore(home.models).in_use() == set()


def test_a_candidate_that_is_promoted_need_not_be_loaded_again(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(2.5)
    machine.publish(home, tiny, other_tiny)
    store = ModelStore(home.models)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    store.set_candidate("v0002", 0.2)
    keeper.look()
    assert keeper.notes() == ["trying v0002 (int8, cpu) on 20% of the sessions"]
    store.promote("v0002")
    keeper.look()
    assert set(versions(keeper, 20)) == {"v0002"}
    assert machine.opened == ["v0001", "v0002"]
    assert machine.alive() == 1
    assert keeper.notes() == ["now answering with v0002 (int8, cpu), before with v0001"]
    assert keeper.trial() is None


def test_a_candidate_that_is_cleared_leaves(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(2.5)
    machine.publish(home, tiny, other_tiny)
    store = ModelStore(home.models)
    store.set_candidate("v0002", 0.5)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    assert machine.alive() == 2
    store.clear_candidate()
    keeper.look()
    assert set(versions(keeper, 20)) == {"v0001"}
    assert machine.alive() == 1


def test_a_candidate_that_fails_its_self_test_is_not_tried_and_this_is_said_once(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home, promote=False, graphs=[{"golden": tiny.goldens["int8"]}])
    store = ModelStore(home.models)
    store.set_candidate("v0002", 0.5)
    keeper = make_keeper()
    for share in (0.5, 0.5, 0.6):
        store.set_candidate("v0002", share)
        keeper.look()
        assert set(versions(keeper, 10)) == {"v0001"}
        assert keeper.trial() is None
    (note,) = keeper.notes()
    assert note.startswith("candidate v0002 is refused: v0002: its answer to golden prompt 1 of 2")
    assert note.endswith("(v0001 goes on answering)")
    once = make_keeper()
    once.start(watch=False)
    assert versions(once, 1) == ["v0001"]


def test_without_memory_for_two_the_candidate_has_its_share_of_the_time(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).set_candidate("v0002", 0.3)
    now = [0.0]
    keeper = make_keeper(machine.opener, available=machine.available, clock=lambda: now[0])
    for seconds, version in ((100.0, "v0002"), (179.0, "v0002"), (181.0, "v0001"), (599.0, "v0001"), (600.0, "v0002")):
        now[0] = seconds
        keeper.look()
        assert set(versions(keeper, 10)) == {version}
        assert machine.alive() == 1
    assert machine.most == 1
    # Swapped at the boundaries only; the very first look finds out that there is no room.
    assert machine.opened == ["v0001", "v0002", "v0001", "v0002"]
    part = "in the first 3.0 of every 10 minutes, audits ask one version alone"
    assert keeper.notes() == [f"trying v0002 {part}: there is memory for one version at a time"]
    assert keeper.trial() == f"v0002 (int8, cpu) {part}"
    ModelStore(home.models).clear_candidate()
    keeper.look()
    assert set(versions(keeper, 3)) == {"v0001"}
    assert machine.most == 1


@pytest.mark.parametrize("turn", ["of the champion", "of the candidate"])
def test_two_that_take_turns_are_tried_side_by_side_once_there_is_memory(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, turn: str
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny, other_tiny)
    ModelStore(home.models).set_candidate("v0002", 0.3)
    now = 100.0 if turn == "of the candidate" else 300.0
    keeper = make_keeper(machine.opener, available=machine.available, clock=lambda: now)
    for _ in range(3):
        keeper.look()
    served = "v0002" if turn == "of the candidate" else "v0001"
    assert set(versions(keeper, 10)) == {served}
    assert machine.most == 1
    keeper.notes()
    settled: list[bool] = []
    machine.engines, opener = 2.5, keeper._opener

    def watched(*given: Any) -> Model:
        # Nobody waits: what serves goes on while the other is loaded.
        settled.append(keeper.wait(0.0) and keeper.current("session") is not None)
        return opener(*given)

    keeper._opener = watched
    opened = len(machine.opened)
    for _ in range(3):
        keeper.look()
    assert settled == [True]
    keeper._opener = opener
    assert machine.opened[opened:] == [{"v0001": "v0002", "v0002": "v0001"}[served]]
    assert keeper.notes() == ["trying v0002 (int8, cpu) on 30% of the sessions"]
    assert keeper.trial() == "v0002 (int8, cpu) on 30% of the sessions"
    found = versions(keeper, 200)
    assert 20 < found.count("v0002") < 100
    # And apart again, where memory is short when the next version is tried.
    machine.engines = 1.5
    store = ModelStore(home.models)
    store.clear_candidate()
    keeper.look()
    store.set_candidate("v0002", 0.3)
    keeper.look()
    assert len(set(versions(keeper, 10))) == 1
    assert machine.alive() == 1


def test_what_audits_ask_beside_the_champion_is_loaded_once_there_is_memory(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny, other_tiny)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.compare_with("v0002")
    for _ in range(3):
        keeper.look()
    assert keeper.rival("v0001") is None
    assert machine.opened == ["v0001"]
    machine.engines = 2.5
    for _ in range(3):
        keeper.look()
    rival = keeper.rival("v0001")
    assert rival is not None
    assert rival.manifest.version == "v0002"
    assert machine.opened == ["v0001", "v0002"]
    assert set(versions(keeper, 10)) == {"v0001"}


def test_without_memory_for_two_a_candidate_that_fails_leaves_the_champion(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny, dataclasses.replace(other_tiny, goldens=tiny.goldens))
    ModelStore(home.models).set_candidate("v0002", 0.3)
    keeper = make_keeper(machine.opener, available=machine.available, clock=lambda: 0.0)
    for _ in range(3):
        keeper.look()
        assert [said(keeper.current()) for _ in range(3)] == [ANSWER] * 3
    assert machine.opened == ["v0001", "v0002", "v0001"]
    assert machine.most == 1
    assert len([note for note in keeper.notes() if "refused" in note]) == 1


def test_without_memory_for_two_a_new_champion_waits_for_the_answer_under_way(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    answer = Paused(keeper.current())
    other_tiny.publish(home)
    keeper.start()
    found: list[str] = []
    # The next query waits for the new version; it never comes to have none.
    eventually(lambda: not keeper._settled, "the new version was not noticed")
    asking = threading.Thread(target=lambda: found.append(said(keeper.current())))
    asking.start()
    assert machine.opened == ["v0001"]
    assert answer.ended() == ANSWER
    asking.join(PATIENCE)
    assert found == [OTHER_ANSWER]
    assert machine.most == 1
    assert keeper.notes() == ["now answering with v0002 (int8, cpu), before with v0001"]


def test_a_version_for_which_there_is_no_memory_is_refused_and_the_old_one_comes_back(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    other_tiny.publish(home, shape=dataclasses.replace(other_tiny.shape, context=1_000_000))
    for _ in range(2):
        keeper.look()
        assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert note.startswith("v0002 is refused: v0002: int8 needs about ")
    assert "of which" in note
    assert note.endswith("insist with --precision (v0001 goes on answering)")


def test_a_version_is_tried_again_once_there_is_memory_for_it(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    """As a night is over that took it, or another program."""
    room, opened = [1_000_000], []

    def opener(*given: Any) -> Model:
        opened.append(given[1].version)
        return open_model(*given)

    tiny.publish(home)
    keeper = make_keeper(opener, available=lambda: room[0])
    for _ in range(3):
        keeper.look()
        assert keeper.current() is None
    assert "of memory, of which 1 MB are free" in keeper.reason
    room[0] = 10**9
    keeper.look()
    assert said(keeper.current()) == ANSWER
    assert opened == ["v0001", "v0001"]
    assert keeper.notes()[1:] == ["now answering with v0001 (int8, cpu), the first version"]


def test_a_new_version_is_tried_again_once_there_is_memory_beside_the_old_one(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine = Machine(1.5)
    machine.publish(home, tiny)
    keeper = make_keeper(machine.opener, available=machine.available)
    keeper.look()
    other_tiny.publish(home, shape=dataclasses.replace(other_tiny.shape, context=100_000))
    for _ in range(3):
        keeper.look()
        assert said(keeper.current()) == ANSWER
    machine.engines = 20
    keeper.look()
    assert said(keeper.current()) == OTHER_ANSWER
    assert machine.opened == ["v0001", "v0002"]


def test_where_closing_the_old_version_frees_too_little_it_is_not_closed_again_and_again(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    machine, more = Machine(0.0), [0.0]
    machine.publish(home, tiny)
    manifest = ModelStore(home.models).verify("v0001")
    size = needed(manifest, manifest.graphs[0])

    def available() -> int:
        """What serves gives back seven tenths of what is reckoned with."""
        return int(((0.5 if machine.alive() else 1.2) + more[0]) * size)

    keeper = make_keeper(machine.opener, available=available)
    keeper.look()
    tokens = int(0.4 * size) // (2 * 4 * tiny.shape.layers * tiny.shape.kv_heads * tiny.shape.head_dim)
    other_tiny.publish(home, shape=dataclasses.replace(other_tiny.shape, context=other_tiny.shape.context + tokens))
    for _ in range(3):
        keeper.look()
        assert said(keeper.current()) == ANSWER
    assert machine.opened == ["v0001", "v0002", "v0001"]
    more[0] = 0.3
    keeper.look()
    assert said(keeper.current()) == OTHER_ANSWER
    assert machine.opened == ["v0001", "v0002", "v0001", "v0002"]
