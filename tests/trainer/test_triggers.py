from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shammah_data.settings import TrainSettings
from shammah_trainer.triggers import LastRun, State, due

NOW = datetime(2030, 1, 10, 3)
TRAIN = TrainSettings(min_examples=100, new_examples=20, max_age_days=7.0, local_share_drop=0.15)
LAST = LastRun("r1", False, NOW - timedelta(days=1), "recipe")
# Nothing that calls for a run, and a little that is new.
QUIET = State(500, 5, LAST, [(200, 150), (200, 160)], None, "recipe", False, (), None, NOW)


def reasons(**state: Any) -> tuple[str, ...]:
    return due(replace(QUIET, **state), TRAIN).reasons


def test_a_pinned_version_that_knows_too_much_calls_for_no_run_but_for_its_end() -> None:
    found = due(replace(QUIET, stale=("v0002",), pinned=True), TRAIN)
    assert found.reasons == ()
    assert found.waits.endswith("; v0002 may know what was forgotten and is pinned: shammah-train unpin lets another one serve")


def test_when_nothing_is_due_it_says_what_it_waits_for() -> None:
    found = due(QUIET, TRAIN)
    assert found.reasons == ()
    assert found.waits.startswith("5 of 20 new exchanges and ratings since run r1: waits for the others, until 2030-01-16")
    nothing = due(replace(QUIET, new=0), TRAIN)
    assert (nothing.reasons, nothing.waits) == ((), "nothing new since run r1: waits for 20 exchanges or ratings")
    few = due(replace(QUIET, learnable=99), TRAIN)
    assert (few.reasons, few.waits) == ((), "99 of 100 exchanges")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"last": None}, "the first run"),
        ({"last": replace(LAST, again=True)}, "something was forgotten during the last run"),
        ({"new": 20}, "20 new exchanges and ratings"),
        ({"last": replace(LAST, finished=NOW - timedelta(days=7))}, "the last run was 7 days ago"),
        ({"local": [(200, 120), (200, 150)]}, "the local share fell from 75% to 60%"),
        (
            {"slipped": "the precision fell below 95%: 9 of the newest 30 audited answers of v0002 were wrong"},
            "the precision fell below 95%: 9 of the newest 30",
        ),
        ({"recipe": "another"}, "the base or the settings of the training changed"),
        ({"last": replace(LAST, failed=True)}, "the last run failed"),
        ({"gone": True}, "the last run's version is gone"),
        ({"stale": ("v0002",)}, "v0002 may know what was forgotten"),
    ],
)
def test_each_trigger_is_a_reason(state: dict[str, Any], words: str) -> None:
    (reason,) = reasons(**state)
    assert reason.startswith(words)


@pytest.mark.parametrize(
    "state",
    [
        {"new": 19},
        {"last": replace(LAST, finished=NOW - timedelta(days=6, hours=23))},
        {"local": [(200, 121), (200, 150)]},
        # Too few answers to say so.
        {"local": [(200, 0), (49, 49)]},
        {"local": [(200, 0)]},
        {"local": []},
        # Another run without anything new would make the same version again.
        {"new": 0, "last": replace(LAST, finished=NOW - timedelta(days=70))},
        {"new": 0, "local": [(200, 0), (200, 200)]},
        {"new": 0, "slipped": "all wrong"},
        {"learnable": 99, "new": 90},
    ],
)
def test_just_below_it_nothing_is_due(state: dict[str, Any]) -> None:
    assert reasons(**state) == ()


def test_a_trial_is_waited_for_unless_something_must_be_forgotten() -> None:
    trial = due(replace(QUIET, new=500, trial="v0003, 1 of 12 audited answers wrong"), TRAIN)
    assert trial.reasons == ()
    assert trial.waits == "waits for the end of a trial: v0003, 1 of 12 audited answers wrong"
    assert reasons(trial="v0003", stale=("v0002",)) == ("v0002 may know what was forgotten",)


def test_every_reason_is_given() -> None:
    assert len(reasons(new=50, recipe="another", last=replace(LAST, failed=True))) == 3
