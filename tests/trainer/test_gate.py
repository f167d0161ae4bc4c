import math
from dataclasses import replace
from typing import Any

import pytest

from shammah_trainer.compare import LossDifference, Paired, paired
from shammah_trainer.gate import LEAST_COMPARED, LEAST_WINS, MOST_P_VALUE, Against, Check, Figures, checks, refusals
from shammah_trainer.matching import Matching

GOOD = Figures(loss_before=3.0, loss_after=1.0, matching=Matching(12, 0.9, 0.0001), loss_torch=0.99, outside=(0, 48))


def changed(**figures: Any) -> Figures:
    return replace(GOOD, **figures)


def test_where_no_heldout_answer_fits_it_refuses_in_plain_words() -> None:
    found = checks(
        Figures(math.nan, math.nan, Matching(0, 0.0, 1.0), ["mean KL 3 nats is above 0.1"], math.nan, fitting=0, against=None)
    )
    assert [check.reason for check in found if check.reason] == [
        "parity: mean KL 3 nats is above 0.1",
        "no held-out answer fits into max_length tokens behind its question: raise train.max_length in config.toml",
    ]
    assert "nan" not in " ".join(check.told for check in found).split()
    against = replace(beside(counted(40)), loss_before=math.nan, loss_after=math.nan, loss_torch=math.nan, fitting=0)
    assert failed(against) == ["held-out loss"]


def counted(same: int, gained: int = 0, lost: int = 0, neither: int = 0) -> Paired:
    """Right both times, only now, only before, never."""
    now = [True] * same + [True] * gained + [False] * lost + [False] * neither
    before = [True] * same + [False] * gained + [True] * lost + [False] * neither
    return paired(now, before, 0)


def beside(overall: Paired, **against: Any) -> Figures:
    # Equal in all that a test does not say otherwise.
    loss = LossDifference(overall.asked, 1.0, 1.0, -0.1, 0.1)
    return changed(against=replace(Against("v0003", overall, overall, (), (5, 5), loss, 0), **against))


def failed(figures: Figures) -> list[str]:
    return [check.name for check in checks(figures) if not check.passed]


def test_a_version_that_learned_may_be_published() -> None:
    assert refusals(GOOD) == []
    assert refusals(changed(matching=Matching(12, LEAST_WINS, MOST_P_VALUE))) == []
    # As a night of fifty exchanges had them.
    assert refusals(changed(matching=Matching(6, 0.96, 0.0036))) == []
    assert all(check.told and len(check.told.splitlines()) == 1 for check in checks(GOOD))


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (changed(parity_reasons=["mean KL 3 nats is above 0.1"]), "parity: mean KL 3 nats"),
        (changed(loss_torch=0.9), "perplexity on held-out answers is 1.105 times that of the weights, above 1.05"),
        (changed(leaks=["3 of 20 held-out questions were trained on"]), "the split leaks: 3 of 20"),
        (changed(outside=(4, 48)), "4 of 48 unanswerable questions answered: surely more than 2%"),
        (changed(loss_after=3.0, loss_torch=3.0), "held-out loss did not fall: 3.000 before, 3.000 after"),
        (changed(loss_after=3.1, loss_torch=3.1), "did not fall"),
        (changed(loss_before=math.nan), "did not fall"),
        (changed(matching=Matching(50, LEAST_WINS - 0.05, 0.0001)), "in only 70% of comparisons over 50 queries"),
        (changed(matching=Matching(4, 0.9, 0.04)), "in only 90% of comparisons over 4 queries (p = 0.0400"),
        (changed(matching=Matching(8, 0.96, 0.0036)), "over 8 queries (p = 0.0036; 75% and p <= 0.001 are needed"),
        (changed(matching=Matching(6, 0.96, 0.0101)), "over 6 queries (p = 0.0101; 75% and p <= 0.01 are needed"),
        (changed(matching=Matching(0, 0.0, 1.0)), "over 0 queries"),
        (changed(matching=Matching(9, math.nan, 0.0001)), "the answers do not follow from the questions"),
        (beside(counted(40, neither=10)), "no better than v0003: 40 right, v0003 40, of 50"),
        (beside(counted(40, lost=3), older=counted(0)), "worse than v0003: 40 right, v0003 43, of 43 (-7.0 points"),
        (beside(counted(40, gained=9, lost=4), older=counted(30, gained=1, lost=4)), "forgot more than 2%: older groups: 31"),
        (
            beside(counted(90, gained=9, lost=4), older=counted(70), groups=[("“How?”", counted(16, lost=4))]),
            "forgot more than 2%: “How?”: 16 right, v0003 20, of 20",
        ),
    ],
)
def test_each_refusal_says_why(figures: Figures, words: str) -> None:
    (reason,) = refusals(figures)
    assert words in reason
    assert len(reason.splitlines()) == 1


def test_figures_that_are_no_numbers_never_pass() -> None:
    assert failed(changed(loss_after=math.nan)) == ["quantization", "held-out loss"]


def test_every_reason_is_given_on_one_screen() -> None:
    worst = Figures(1.0, 2.0, Matching(20, 0.5, 0.5), ["a", "b"], 1.0, ["c"], (48, 48))
    worst = replace(worst, against=beside(counted(10, lost=40)).against)
    assert len(refusals(worst)) == len(checks(worst)) == 7
    assert all(len(reason) < 400 for reason in refusals(worst))


@pytest.mark.parametrize(
    "figures",
    [
        beside(counted(40, gained=1)),
        # A count that chance brings about is no evidence that anything was forgotten.
        beside(counted(40, lost=1), answered_right=(6, 5)),
        beside(counted(40, lost=2), answered_right=(6, 5)),
        beside(counted(40), answered_right=(6, 5)),
        beside(counted(40), loss=LossDifference(40, 0.9, 1.0, -0.15, -0.05)),
        # What was lost of a small older group is weighed against all small ones.
        beside(counted(40, gained=6, lost=3), older=counted(30, gained=3, lost=3)),
        beside(counted(3, lost=LEAST_COMPARED - 4), older=counted(0)),
    ],
)
def test_a_version_that_is_better_or_not_worse_and_covers_more_passes(figures: Figures) -> None:
    assert refusals(figures) == []


def test_the_tolerance_is_two_points_and_more_than_chance() -> None:
    for same, lost, passes in ((400, 8, True), (400, 9, False), (20, 2, True), (20, 3, False)):
        figures = beside(counted(500, gained=20, lost=10), older=counted(same, lost=lost))
        assert (refusals(figures) == []) == passes, (same, lost)


@pytest.mark.parametrize(
    ("lost", "others", "small", "forgot"),
    [(4, 2, 0, True), (4, 3, 0, False), (4, 2, 4, False), (5, 4, 4, True), (5, 5, 4, False)],
)
def test_older_groups_share_what_may_come_of_chance(lost: int, others: int, small: int, forgot: bool) -> None:
    # Four lost of four that changed are one history of 16: a third of one in five is more than that, a fourth is less.
    groups = [("“How?”", counted(20 - lost, lost=lost)), *[("“Who?”", counted(16, gained=2, lost=2))] * others]
    figures = beside(counted(200, gained=9, lost=5), older=counted(small), groups=groups)
    assert failed(figures) == (["older groups"] if forgot else [])


def test_with_too_few_fair_questions_it_is_judged_as_a_first_version() -> None:
    (told,) = [check for check in checks(beside(counted(0, lost=LEAST_COMPARED - 1))) if check.name == "against v0003"]
    assert told.passed
    assert told.told.startswith(f"only {LEAST_COMPARED - 1} held-out questions that v0003 was not trained on")
    assert "older groups" not in [check.name for check in checks(beside(counted(0)))]


def test_what_was_left_out_is_told() -> None:
    (told,) = [check.told for check in checks(beside(counted(40, gained=2), left_out=7)) if check.name == "against v0003"]
    assert "; 7 left out that v0003 was trained on; " in told


def test_a_check_without_a_reason_passes() -> None:
    assert Check("a", "b").passed
    assert not Check("a", "b", "c").passed


def test_what_is_told_of_older_groups_is_of_the_large_ones_too() -> None:
    """Where all of them are large there are no small ones, and yet not none."""
    large = [("“How?”", counted(30, gained=2)), ("“Where?”", counted(20))]
    (one, *_) = [check.told for check in checks(beside(counted(90, gained=9), older=counted(0), groups=large))][-1:]
    assert one.startswith("“How?”: 32 right, v0003 30, of 32")
    assert "“Where?”: 20 right" in one
    (both, *_) = [check.told for check in checks(beside(counted(90, gained=9), older=counted(7), groups=large))][-1:]
    assert "; older groups of fewer questions: 7 right" in both
    (small, *_) = [check.told for check in checks(beside(counted(90, gained=9), older=counted(7)))][-1:]
    assert small.startswith("7 right, v0003 7, of 7")
