import random
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.auditing import AuditRate, Judged, agreement, evidence, is_drawn, measured, slipped
from shammah_data.errors import ArtifactError
from shammah_data.guard import Guard, Raised

RATE = AuditRate()


def test_a_new_version_is_audited_often_and_an_old_one_seldom() -> None:
    shares = [RATE.share(audited, 0) for audited in range(300)]
    assert shares[0] == 0.3
    assert shares[-1] == 0.02
    assert shares == sorted(shares, reverse=True)
    assert RATE.share(25, 0) == pytest.approx(0.15)


def test_a_days_audits_end_with_its_budget() -> None:
    assert RATE.share(0, 49) == 0.3
    assert RATE.share(0, 50) == 0.0


def test_ids_are_drawn_with_their_probability() -> None:
    rng = random.Random(0)
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(20_000)]
    for probability in (0.02, 0.3, 0.9):
        share = sum(is_drawn(each, probability) for each in ids) / len(ids)
        assert share == pytest.approx(probability, abs=0.01)
    assert not any(is_drawn(each, 0.0) for each in ids)
    assert all(is_drawn(each, 1.0) for each in ids)


@given(st.uuids(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_who_is_drawn_seldom_is_drawn_often_too(one: uuid.UUID, a: float, b: float) -> None:
    assert is_drawn(str(one), max(a, b)) or not is_drawn(str(one), min(a, b))
    assert is_drawn(str(one), a) == is_drawn(str(one).upper(), a)


@pytest.mark.parametrize(
    ("teacher", "local", "agree"),
    [
        ("The office opens at nine.", "The office opens at 9.", True),
        ("The office opens at nine. It closes at five, and on Fridays at three.", "The office opens at nine.", True),
        ("The office opens at nine.", "The office opens at ten.", False),
        ("Run `git fetch`.", "Run `git pull`.", False),
        ("You can change it.", "You cannot change it.", False),
        (
            "Enter /good right after an answer; the rating is kept in the log.",
            "Give /good right after an answer; it is then never trained on.",
            False,
        ),
    ],
)
def test_answers_agree_when_one_holds_the_facts_of_the_other(teacher: str, local: str, agree: bool) -> None:
    found, reason = agreement(teacher, local)
    assert found == agree
    assert bool(reason) != agree


def test_nothing_audited_is_not_measured() -> None:
    assert measured([]).precision is None


def test_the_estimate_is_unbiased_however_often_was_audited() -> None:
    """Surer answers, audited less often, must not weigh less: 90% of the sure and 50% of the unsure ones are right."""
    rng = random.Random(1)
    estimates = []
    for _ in range(200):
        answers = []
        for _ in range(400):
            sure = rng.random() < 0.75
            probability = 0.1 if sure else 0.8
            agrees = rng.random() < (0.9 if sure else 0.5)
            if rng.random() < probability:
                answers.append(Judged(0.99 if sure else 0.8, agrees, probability))
        estimates.append(measured(answers))
    mean = sum(each.precision or 0.0 for each in estimates) / len(estimates)
    assert mean == pytest.approx(0.8, abs=0.015)
    covered = sum(each.low <= 0.8 <= each.high for each in estimates)
    assert covered >= 180


def history(rng: random.Random, precision: float, count: int) -> list[Judged]:
    """Answers whose confidence is what they are worth, on average `precision`."""
    found = []
    for _ in range(count):
        sure = min(1.0, max(0.0, rng.gauss(precision, 0.03)))
        found.append(Judged(sure, rng.random() < sure, 0.3))
    return found


def test_a_version_that_keeps_its_promise_is_left_alone() -> None:
    rng = random.Random(2)
    suspected = 0
    for _ in range(200):
        answers = history(rng, 0.955, 120)
        suspected += any(slipped(answers[:seen], 0.95, 0.9) for seen in range(1, len(answers) + 1, 5))
    assert suspected <= 10


def test_a_version_that_slips_is_noticed_within_fifty_audits() -> None:
    rng = random.Random(3)
    noticed = sum(
        any(slipped(answers[:seen], 0.95, 0.9) for seen in range(1, 51))
        for answers in (history(rng, 0.80, 50) for _ in range(200))
    )
    assert noticed >= 170


def test_however_long_a_healthy_version_serves_it_is_left_alone() -> None:
    """Exactly at the target, looked at whenever an answer disagreed: only then does the evidence grow."""
    rng = random.Random(4)
    suspected = 0
    for _ in range(60):
        answers = [Judged(0.95, rng.random() < 0.95, 0.1) for _ in range(1500)]
        looks = [seen for seen, each in enumerate(answers, 1) if not each.agrees]
        suspected += any(slipped(answers[:seen], 0.95, 0.9) for seen in looks)
    assert suspected <= 6


def test_at_the_target_fewer_than_one_of_twenty_histories_raise_the_alarm() -> None:
    rng = random.Random(5)
    histories = ([Judged(0.95, rng.random() < 0.95, 0.1) for _ in range(1500)] for _ in range(600))
    assert sum(max(evidence(answers, 0.95)) >= 20.0 for answers in histories) <= 30


@pytest.mark.parametrize(("good", "median", "most"), [(0, 30, 70), (300, 65, 115), (1000, 75, 130)])
def test_a_late_slip_is_found_as_well(good: int, median: int, most: int) -> None:
    """Audits until a version that fell by 15 points is found: half of the time, and nine times of ten."""
    rng = random.Random(6)
    needed = []
    for _ in range(200):
        chances = [0.95] * good + [0.80] * 300
        found = evidence([Judged(0.95, rng.random() < chance, 0.1) for chance in chances], 0.95)
        needed.append(next((seen for seen, capital in enumerate(found[good:], 1) if capital >= 20.0), 999))
    needed.sort()
    assert needed[100] <= median
    assert needed[180] <= most


def test_the_evidence_begins_anew_with_every_audit() -> None:
    assert evidence([], 0.95) == []
    # Four fifths of it from the first answer on, which is four times as likely in a version 15 points worse.
    first = 0.8 + 0.2 / 201
    assert evidence([Judged(0.9, False, 0.3)], 0.95) == pytest.approx([4.0 * first + 1.0 - first])
    # Of two answers that both say something the one that is audited seldom says more.
    seldom, always = Judged(0.9, False, 0.1), Judged(0.9, False, 1.0)
    assert evidence([seldom, seldom], 0.95)[-1] > evidence([seldom, always], 0.95)[-1]


def test_the_threshold_rises_above_what_disagreed() -> None:
    sure = [Judged(0.99, True, 1.0)] * 40
    unsure = [Judged(0.8, False, 1.0)] * 20
    slip = slipped([each for pair in zip(sure, [*unsure, *unsure], strict=True) for each in pair], 0.95, 0.7)
    assert slip is not None
    assert slip.threshold == 0.99
    assert "40 of 80 audited answers disagreed" in slip.reason


@pytest.mark.parametrize(
    ("right", "wrong", "rises_to"),
    [
        # Two of 102 were wrong, but they stand for twenty of 120.
        ([Judged(0.96, True, 1.0)] * 100, [Judged(0.96, False, 0.1)] * 2, 0.98),
        # Three of 33 were wrong, but the others stand for 300.
        ([Judged(0.96, True, 0.1)] * 30, [Judged(0.96, False, 1.0)] * 3, 0.96),
    ],
)
def test_the_threshold_rises_by_what_the_answers_stand_for(right: list[Judged], wrong: list[Judged], rises_to: float) -> None:
    slip = slipped([*[Judged(0.98, True, 0.1)] * 40, *right, *wrong, *[Judged(0.91, False, 0.1)] * 20], 0.95, 0.9)
    assert slip is not None
    assert slip.threshold == rises_to


def test_where_no_answer_can_be_trusted_none_is_given() -> None:
    slip = slipped([Judged(0.9, False, 1.0)] * 10, 0.95, 0.7)
    assert slip is not None
    assert slip.threshold > 1.0


# -- the guard --------------------------------------------------------------------------------------------------------


def test_a_raised_threshold_holds_for_its_version_in_every_process(tmp_path: Path) -> None:
    mine, other = Guard(tmp_path), Guard(tmp_path)
    assert other.threshold("v0001", 0.7) == 0.7
    assert mine.raise_to("v0001", Raised(0.9, "slipped", "2026-01-01"))
    assert other.threshold("v0001", 0.7) == 0.9
    assert other.threshold("v0001", 0.95) == 0.95
    assert other.threshold("v0002", 0.7) == 0.7


def test_a_threshold_is_never_lowered(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard.raise_to("v0001", Raised(0.9, "slipped", "2026-01-01"))
    assert not guard.raise_to("v0001", Raised(0.8, "slipped less", "2026-01-02"))
    held = guard.of("v0001")
    assert held is not None
    assert held.reason == "slipped"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"v0001": {"threshold": "high"}}',
        '{"v0001": {"threshold": NaN, "reason": "slipped", "since": "2026-01-01"}}',
        '{"v0001": 1}',
    ],
)
def test_a_guard_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "guard.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"guard\.json: cannot be read .*: delete it"):
        Guard(tmp_path).of("v0001")
