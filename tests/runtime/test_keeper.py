"""Which version serves: loading, swapping between two queries, refusing what is damaged."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.versions import ANSWER, OTHER_ANSWER, QUESTION, Tiny
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.store import ModelStore
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model, open_model
from shammah_runtime.models import ModelKeeper

PATIENCE = 30.0

Open = Callable[..., Model]


def said(model: Model | None) -> str:
    assert model is not None
    return model.decoder.generate(model.prompt(QUESTION, [], 16), Decoding(max_tokens=16)).text


@pytest.fixture
def make_keeper(home: Home) -> Iterator[Callable[..., ModelKeeper]]:
    made: list[ModelKeeper] = []

    def make(opener: Open = open_model, store: ModelStore | None = None) -> ModelKeeper:
        keeper = ModelKeeper(store or ModelStore(home.models), "auto", 1, opener, poll_seconds=0.005)
        made.append(keeper)
        return keeper

    yield make
    for keeper in made:
        keeper.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "model-keeper"]


def look(keeper: ModelKeeper) -> None:
    """Let a keeper look at the store once, to the end."""
    keeper.start(watch=False)
    keeper.close()


def damage(home: Home, version: str, name: str = "int8/weights.bin") -> Path:
    path = home.models / version / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_without_a_model_there_is_a_reason(make_keeper: Callable[..., ModelKeeper]) -> None:
    keeper = make_keeper()
    look(keeper)
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
    look(keeper)
    assert keeper.current() is None


def test_a_refused_version_is_a_reason_and_a_note(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    path = damage(home, "v0001")
    keeper = make_keeper()
    look(keeper)
    assert keeper.current() is None
    assert keeper.reason.startswith(f"v0001 is refused: {path}: not the bytes that were published")
    assert keeper.notes() == [keeper.reason]
    assert keeper.notes() == []


def test_an_unreadable_pointer_is_a_reason(make_keeper: Callable[..., ModelKeeper], home: Home) -> None:
    home.models.mkdir()
    (home.models / "pointer.json").write_text("{", encoding="utf-8")
    keeper = make_keeper()
    look(keeper)
    assert keeper.current() is None
    assert "pointer.json: cannot be read" in keeper.reason


@pytest.mark.parametrize("error", [RuntimeError("boom"), OSError("disk"), MemoryError()])
def test_whatever_goes_wrong_queries_do_not_wait_for_ever(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home, error: Exception
) -> None:
    tiny.publish(home)

    def fail(*_: Any) -> Model:
        raise error

    keeper = make_keeper(fail)
    look(keeper)
    assert keeper.current() is None
    assert keeper.reason == f"v0001 is refused: {type(error).__name__}: {error}"


def test_a_new_champion_serves_the_next_query_and_says_so(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    keeper.start()
    before = keeper.current()
    assert said(before) == ANSWER
    other_tiny.publish(home)
    deadline = time.monotonic() + PATIENCE
    while keeper.current() is before:
        assert time.monotonic() < deadline, "the new version never came"
        threading.Event().wait(0.005)
    assert said(keeper.current()) == OTHER_ANSWER
    assert said(before) == ANSWER  # an answer that is under way goes on
    assert keeper.notes() == ["now answering with v0002 (int8, cpu), before with v0001"]


def test_a_rollback_serves_the_next_query(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    keeper = make_keeper()
    look(keeper)
    assert said(keeper.current()) == OTHER_ANSWER
    ModelStore(home.models).rollback()
    look(keeper)
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
    look(keeper)
    assert said(keeper.current()) == ANSWER
    other_tiny.publish(home)
    keeper.start(watch=False)
    assert loading.wait(PATIENCE)
    assert said(keeper.current()) == ANSWER
    go_on.set()
    keeper.close()
    assert said(keeper.current()) == OTHER_ANSWER


def test_a_damaged_new_version_is_refused_and_the_old_one_goes_on(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    look(keeper)
    assert said(keeper.current()) == ANSWER
    other_tiny.publish(home)
    damage(home, "v0002")
    look(keeper)
    assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert note.startswith("v0002 is refused: ")
    assert note.endswith("(v0001 goes on answering)")
    look(keeper)  # and it is not read again and again
    assert keeper.notes() == []


def test_a_new_version_that_fails_its_self_test_is_refused(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home)
    keeper = make_keeper()
    look(keeper)
    other_tiny.publish(home, graphs=[{"golden": tiny.goldens["int8"]}])
    look(keeper)
    assert said(keeper.current()) == ANSWER
    (note,) = keeper.notes()
    assert "golden" in note


@pytest.mark.parametrize("name", ["int8/weights.bin", "int8/model.onnx", "tokenizer.json", "manifest.json"])
def test_a_damaged_champion_at_the_start_falls_back_to_the_previous_one(
    make_keeper: Callable[..., ModelKeeper], tiny: Tiny, other_tiny: Tiny, home: Home, name: str
) -> None:
    tiny.publish(home)
    other_tiny.publish(home)
    (home.models / "v0002" / name).unlink()
    keeper = make_keeper()
    look(keeper)
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
    look(keeper)
    assert keeper.current() is None
    assert len(keeper.notes()) == 2


def test_a_repaired_store_is_noticed(make_keeper: Callable[..., ModelKeeper], tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    damage(home, "v0001")
    keeper = make_keeper()
    look(keeper)
    assert keeper.current() is None
    tiny.publish(home)
    look(keeper)
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
        def verify(self, version: str) -> Any:
            raise ArtifactError(f"{version}: no")

    tiny.publish(home)
    keeper = make_keeper(store=Locked(home.models))
    look(keeper)
    assert keeper.reason == "v0001 is refused: v0001: no"
