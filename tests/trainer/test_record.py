"""What a run says of its held-out answers, the model's own and earlier ones that are repeated."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from shammah_data.home import Home
from shammah_data.manifest import Calibration, Step
from shammah_data.past import Past
from shammah_data.shares import Share
from shammah_trainer.dataset import Example
from shammah_trainer.evaluate import Kind, Outcome
from shammah_trainer.figures import by_kind
from shammah_trainer.history import heldout_answers
from shammah_trainer.lookups import Tried
from shammah_trainer.record import counts, given, intervals, summary, write_outcomes


def figures(**repeated: int) -> dict[str, Any]:
    counts = {"asked": 40, "right": 30, "accepted": 20, "accepted_right": 19}
    none = {"asked": 10, "right": 0, "accepted": 1, "accepted_right": 0}
    return {"loss_before": 3.0, "loss_after": 1.0, "heldout": {"phrasing": counts | repeated, "group": none, "outside": none}}


def test_earlier_answers_that_are_repeated_are_told_apart() -> None:
    told = summary(figures(repeated=5, repeated_right=4))
    assert "answered at its threshold 20 (19 right) and with an earlier answer 5 more (4 right); never" in told
    assert "earlier" not in summary(figures())


def test_shares_are_of_what_is_given_whoever_it_comes_from() -> None:
    shares = intervals(figures(repeated=5, repeated_right=4)["heldout"])
    assert (shares["phrasings answered"]["count"], shares["phrasings answered"]["total"]) == (25, 40)
    assert (shares["answers given right"]["count"], shares["answers given right"]["total"]) == (23, 27)
    assert intervals(figures()["heldout"])["phrasings answered"]["count"] == 20


def outcome(kind: Kind, query: str, surety: float, right: bool) -> Outcome:
    features = {"mean": surety, "least": 0.0, "opening": 0.0, "support": 0.0}
    return Outcome(Example(query, query, f"{query}!"), kind, f"{query}?", features, True, right, "lacks 3", 1.0)


def test_the_table_the_tile_and_the_list_of_wrong_answers_know_the_earlier_ones(tmp_path: Path) -> None:
    sure = Calibration({"mean": 1.0, "least": 0.0, "opening": 0.0, "support": 0.0}, 0.0, 0.6, 0.95, 9, 9, 9, True)
    outcomes = [
        outcome("phrasing", "a", 1.0, True),
        outcome("phrasing", "b", 1.0, False),
        outcome("phrasing", "c", 0.0, True),
        outcome("phrasing", "d", 0.0, True),
        outcome("phrasing", "e", 0.0, False),
        outcome("phrasing", "f", 0.0, False),
        outcome("group", "g", 0.0, False),
    ]
    wrong, good = Tried("another's", {}, False), Tried("known", {}, True)
    repeated = [None, None, None, wrong, good, None, wrong]
    heldout = counts(outcomes, sure, repeated)
    night = Past("20261001T032200123Z", "published", datetime(2026, 10, 1), None, "", None, {"heldout": heldout})
    table = by_kind(night)
    assert table is not None
    # asked; right and wrong, given and withheld: of c the model's own right answer is withheld, of d it is not.
    assert [row[2:] for row in table.rows] == [("6", "2", "1", "2", "1"), ("1", "0", "0", "1", "0")]
    assert night.answered == Share(2, 5)
    before = {kind: {name: n for name, n in found.items() if name != "withheld_right"} for kind, found in heldout.items()}
    (old, _) = (by_kind(replace(night, figures={"heldout": before})) or table).rows
    assert old[2:] == ("6", "2", "-", "2", "-")

    home = Home(tmp_path)
    folder = home.runs / night.id
    folder.mkdir(parents=True)
    write_outcomes(folder / "heldout.jsonl", outcomes, sure, repeated=repeated)
    answers = heldout_answers(home, night, None)
    assert [(one.query, one.said, one.why.split(",")[0]) for one in answers if one.bluffed] == [
        ("b", "b?", "lacks 3"),
        ("d", "another's", "an earlier answer"),
        ("g", "another's", "an earlier answer"),
    ]
    assert [one.query for one in answers if one.missed] == ["f"]
    assert sum(one.given for one in answers) == 5


def test_a_question_is_answered_once(tmp_path: Path) -> None:
    """With an earlier answer only where the version, at the threshold that it serves with, gives none of its own."""
    sure = Calibration({"mean": 1.0, "least": 0.0, "opening": 0.0, "support": 0.0}, 0.0, 0.6, 0.95, 9, 9, 9, True)
    sure = replace(sure, ladder=(Step(0.8, 0.5, 9, 9, True), Step(0.95, 0.6, 9, 9, True)))
    outcomes = [outcome("phrasing", "a", 1.0, True), outcome("phrasing", "b", 0.0, True), outcome("phrasing", "c", 1.0, True)]
    outcomes[2] = replace(outcomes[2], finished=False)
    assert given(outcomes, sure) == {0.8: [True, True, False], 0.95: [True, False, False]}
    wrong = Tried("another's", {}, False)
    found = counts(outcomes, sure, [wrong, wrong, None])["phrasing"]
    assert (found["accepted"], found["repeated"], found["withheld_right"]) == (1, 1, 1)
    write_outcomes(tmp_path / "heldout.jsonl", outcomes, sure, repeated=[wrong, wrong, None])
    lines = [json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines()]
    assert [line["repeated"] is not None for line in lines] == [False, True, False]
