import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.tiny import Night, Said, TinyHome, other_phrasings
from shammah_data.exchange import Message
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.store import ModelStore
from shammah_trainer.continuing import (
    Lineage,
    Predecessor,
    begin,
    champion,
    lineage_after,
    runs_that_serve,
    split,
    tonight,
    without_known,
)
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.leak import leaks

LEARNED = [Example(str(n), f"what is thing number {n}", f"answer {n}", group=n // 4) for n in range(400)]
NEW = [Example(f"n{n}", f"how about thing number {n}", f"answer {n}", group=n // 4) for n in range(50)]
LINEAGE = lineage_after(None, LEARNED, 400)
KNOWN = {example.id: example.query for example in LEARNED}
CHAMPION = Predecessor(Path("merged"), "run/merged", "base", LINEAGE, saw_forgotten=False)
ROWS = {example.id for example in (*LEARNED, *NEW)}


def reason(
    start: Any = "auto", base: str = "base", found: Any = CHAMPION, rows: Any = ROWS, nights: int = 7, last: Any = None
) -> str:
    beginning = begin(start, base, found, rows, nights, last)
    return "continues" if beginning.predecessor else beginning.reason


def test_it_continues_where_nothing_speaks_against_it() -> None:
    assert reason() == "continues"
    assert reason("champion") == "continues"


def test_it_starts_from_the_base_where_the_settings_say_so() -> None:
    assert reason("base") == "the settings say so"


@pytest.mark.parametrize("start", ["auto", "champion"])
def test_it_never_continues_from_what_is_not_a_prefix_of_today(start: str) -> None:
    forgotten = "what the champion learned was forgotten or rated bad since"
    assert reason(start, found="there is no champion") == "there is no champion"
    assert reason(start, base="other") == "the base is another one"
    assert reason(start, found=replace(CHAMPION, saw_forgotten=True)) == forgotten
    assert reason(start, rows=ROWS - {"7"}) == forgotten


def after(nights: int) -> Predecessor:
    return replace(CHAMPION, lineage=replace(LINEAGE, nights=nights))


def test_every_so_many_nights_it_starts_from_the_base() -> None:
    assert reason(found=after(7)) == "7 nights were built upon one another"
    assert reason(found=after(6)) == reason(found=after(8)) == "continues"
    assert reason(found=after(14)) == "14 nights were built upon one another"
    assert reason("champion", found=after(7)) == "continues"


def test_where_starting_from_the_base_was_refused_the_next_nights_go_on() -> None:
    refused: dict[str, Any] = {"status": "refused", "figures": {"start": {"from": "base"}}}
    assert reason(found=after(7), last=refused) == "continues"
    for other in (
        refused | {"status": "failed"},
        refused | {"figures": {"start": {"from": "run/merged"}}},
        refused | {"figures": {}},
    ):
        assert reason(found=after(7), last=other) == "7 nights were built upon one another"


def test_however_much_a_log_has_grown_it_is_gone_on_with() -> None:
    assert reason(rows=ROWS | {f"m{n}" for n in range(5000)}) == "continues"


def test_a_lineage_grows_and_is_read_back(tmp_path: Path) -> None:
    second = lineage_after(CHAMPION, NEW, 450)
    assert second.learned.keys() == ROWS
    assert (second.nights, second.rows) == (2, 400)
    second.write(tmp_path)
    assert Lineage.read(tmp_path) == second
    assert Lineage.read(tmp_path / "none") is None
    (tmp_path / "lineage.json").write_text("[]")
    assert Lineage.read(tmp_path) is None


def test_a_corrected_answer_is_new() -> None:
    corrected = [replace(LEARNED[3], target="corrected"), *LEARNED[4:]]
    new, old = split(corrected, LINEAGE.learned)
    assert [example.id for example in new] == ["3"]
    assert len(old) == 396


def test_a_night_takes_as_long_as_its_day_was() -> None:
    examples, older = tonight([*LEARNED, *NEW], LINEAGE.learned, seed=0)
    assert {example.id for example in NEW} <= {example.id for example in examples}
    assert older == 200
    assert len(examples) == 250
    # As many from each group.
    per_group = [sum(example.group == group for example in examples if example in LEARNED) for group in range(100)]
    assert set(per_group) == {2}
    later = {example.id: "" for example in LEARNED} | LINEAGE.learned | {"x": ""}
    assert {e.id for e in tonight([*LEARNED, *NEW], later, seed=0)[0]} != {e.id for e in examples}


def test_from_the_base_everything_is_new() -> None:
    examples, older = tonight(LEARNED, {}, seed=0)
    assert examples == tuple(LEARNED)
    assert older == 0


def test_what_was_trained_on_is_not_held_out() -> None:
    dataset = Dataset(tuple(LEARNED[10:]), tuple(LEARNED[:1]) + tuple(NEW[:9]), tuple(NEW[40:44]), 100)
    found = without_known(dataset, KNOWN)
    assert found is not None
    assert found.heldout_phrasings == tuple(NEW[:9])
    assert LEARNED[0] in found.train
    # A whole group of which something was learned is no test of declining.
    assert found.heldout_groups == ()
    assert set(NEW[40:44]) <= set(found.train)


def test_what_is_no_longer_held_out_is_not_trained_on_behind_what_is() -> None:
    context = (Message("user", NEW[0].query), Message("assistant", NEW[0].target))
    behind = replace(NEW[40], id="behind", context=context)
    dataset = Dataset(tuple(LEARNED[10:]), (LEARNED[0], *NEW[:9]), (NEW[41], behind), 100)
    found = without_known(dataset, KNOWN)
    assert found is not None
    assert NEW[41] in found.train
    assert "behind" not in {example.id for example in found.train}
    assert found.excluded["behind a held-out exchange"] == 1


def test_neither_is_its_like() -> None:
    like = Example("like", "what is thing number 5 ?", "answer 5", group=999)
    dataset = Dataset(tuple(LEARNED), (like, *NEW[:9]), (), 100)
    found = without_known(dataset, KNOWN)
    assert found is not None
    assert like not in found.heldout_phrasings


def test_with_too_little_left_to_measure_there_is_no_dataset() -> None:
    assert without_known(Dataset(tuple(LEARNED[10:]), tuple(LEARNED[:4]) + tuple(NEW[:6]), (), 100), KNOWN) is None
    assert without_known(Dataset(tuple(LEARNED[10:]), (), tuple(LEARNED[:4]), 100), KNOWN) is None


def test_a_question_that_was_trained_on_is_not_held_out_when_it_is_asked_again() -> None:
    """The exchange that was trained on is no longer in the dataset: of those with the same query the newest stands for all."""
    again = Example("again", "When is the rent due?", "On the first.", group=200)
    beside = Example("beside", "How much is the rent?", "100.", group=200)
    known = KNOWN | {"earlier": "when is the rent due"}
    found = without_known(Dataset(tuple(LEARNED), (again, *NEW[:9]), (), 100), known)
    assert found is not None
    assert found.heldout_phrasings == tuple(NEW[:9])
    assert again in found.train
    # A whole group, too.
    found = without_known(Dataset(tuple(LEARNED), tuple(NEW[:9]), (again, beside), 100), known)
    assert found is not None
    assert found.heldout_groups == ()
    assert leaks(Dataset(tuple(LEARNED), (again, *NEW[:9]), (), 100)) == []
    assert leaks(Dataset(tuple(LEARNED), (again, *NEW[:9]), (), 100), known.values()) == [
        "1 of 10 held-out questions was trained on"
    ]


def test_a_pointer_that_cannot_be_read_ends_no_run(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert champion(store, tmp_path, []) == "there is no champion"
    assert runs_that_serve(store) == set()
    (tmp_path / "pointer.json").write_text("torn")
    assert "pointer.json" in str(champion(store, tmp_path, []))
    assert runs_that_serve(store) == set()
    (tmp_path / "pointer.json").write_text('{"champion": "v0001"}')
    assert "manifest.json" in str(champion(store, tmp_path, []))
    assert runs_that_serve(store) == set()


@pytest.fixture
def second(night: Night, tmp_path: Path) -> TinyHome:
    """The home of the first night with a day more."""
    shutil.copytree(night.home.root, tmp_path / "home")
    home = TinyHome(tmp_path / "home", night.home.base)
    home.configure(keep_versions=2, epochs=6)
    home.import_(other_phrasings())
    return home


def start(home: TinyHome) -> dict[str, Any]:
    found: dict[str, Any] = ExchangeLog(Home(home.root)).runs(1)[0]["figures"]["start"]
    return found


def test_a_second_night_continues_and_a_forgotten_exchange_ends_that(second: TinyHome, train: Callable[..., Said]) -> None:
    (first,) = (path.name for path in (second.root / "runs").iterdir() if path.is_dir())
    said = train(second)
    assert said.code == 0, said.err
    found = start(second)
    assert found["from"] == f"{first}/merged"
    assert found["nights"] == 2
    assert found["new"] >= 20
    assert f"starting from {first}/merged (night 2 upon one another)" in said.err
    log = ExchangeLog(Home(second.root))
    doomed = str(log.recent(200)[-1]["id"])
    assert second.run("shammah-log", "forget", doomed, "--yes").code == 0
    said = train(second, "--force")
    assert said.code == 0, said.err
    assert start(second)["from"] == "base"


def test_the_weights_of_what_serves_are_not_swept(second: TinyHome, train: Callable[..., Said]) -> None:
    (first,) = (path for path in (second.root / "runs").iterdir() if path.is_dir())
    second.configure(keep_versions=2, start="base")
    # Refused runs leave the first version serving.
    for n in range(3):
        assert train(second, "--force", "--epochs", f"0.0{n + 1}").out.startswith("refused")
    assert (first / "merged" / "model.safetensors").exists()
    kept = [path for path in (second.root / "runs").iterdir() if (path / "merged").exists()]
    assert len(kept) == 3
