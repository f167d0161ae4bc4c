"""The tests that decide a trial: exact capitals, and simulated trials."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shammah_data.sequential import (
    FINE_ERROR,
    WORSE_ERROR,
    Audit,
    allowed_rate,
    audit_probability,
    reference_rate,
    standing,
)

RUNS = 200
_spec = importlib.util.spec_from_file_location("bench_trials", Path(__file__).parents[2] / "scripts" / "bench_trials.py")
assert _spec is not None
assert _spec.loader is not None
bench: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)
paired, single, SHARE = bench.paired, bench.single, bench.SHARE


def verdicts(make: Callable[[random.Random], list[Audit]], reference: float, verdict: str) -> float:
    return float(bench.share_of(make, reference, verdict, RUNS))


@pytest.mark.parametrize("precision", [0.9, 0.98])
def test_a_version_15_points_worse_goes_back_within_50_audits(precision: float) -> None:
    assert verdicts(lambda rng: paired(rng, 50, 0.15, precision), 1 - precision, "worse") >= 0.9


@pytest.mark.parametrize("precision", [0.9, 0.98])
def test_a_healthy_version_hardly_ever_goes_back_however_long_it_is_audited(precision: float) -> None:
    assert verdicts(lambda rng: paired(rng, 250, 0.0, precision), 1 - precision, "worse") <= 0.01


def test_a_healthy_version_is_promoted_and_one_15_points_worse_is_not() -> None:
    assert verdicts(lambda rng: paired(rng, 150, 0.0), 0.05, "fine") >= 0.9
    assert verdicts(lambda rng: paired(rng, 150, 0.15), 0.05, "fine") <= FINE_ERROR


def test_without_the_rival_s_answers_it_takes_more_audits_and_errs_no_more() -> None:
    assert verdicts(lambda rng: single(rng, 200, 0.2), 0.05, "worse") >= 0.9
    assert verdicts(lambda rng: single(rng, 200, 0.05), 0.05, "worse") <= WORSE_ERROR
    assert verdicts(lambda rng: single(rng, 200, 0.05), 0.05, "fine") >= 0.9
    assert verdicts(lambda rng: single(rng, 200, 0.15), 0.05, "fine") <= FINE_ERROR


def test_trials_as_they_are_served_find_a_version_15_points_worse_and_let_a_healthy_one_be() -> None:
    """With shares that fall, queries that one of the two would have declined, and a reference that the audits give."""
    assert bench.back(bench.World(0.95, 0.02, 0.15), 50, RUNS) >= 0.9
    assert bench.back(bench.World(0.95, 0.02, 0.15, sessions=1.0), 50, RUNS) >= 0.9
    assert bench.back(bench.World(0.95, 0.02), 250, RUNS) <= WORSE_ERROR
    assert bench.back(bench.World(0.95, 0.02, asks_both=False), 250, RUNS) <= WORSE_ERROR


def test_a_reference_of_few_audits_leaves_room_for_doubt() -> None:
    few, many = [Audit(False, 1.0)] * 40, [Audit(False, 1.0)] * 4000
    assert reference_rate(few, 0.95) == reference_rate(many, 0.95) == 0.02
    assert allowed_rate(few, 0.95) == pytest.approx(0.02 + 1.5 * (0.02 * 0.98 / 60) ** 0.5)
    assert allowed_rate(many, 0.95) < 0.024
    assert allowed_rate([], 0.95) == pytest.approx(0.05 + 1.5 * (0.05 * 0.95 / 20) ** 0.5)
    # Where probabilities differ, as many audits say less.
    mixed = [Audit(False, 1.0)] * 2000 + [Audit(False, 0.1)] * 2000
    assert reference_rate(mixed, 0.95) == 0.02
    assert allowed_rate(mixed, 0.95) > allowed_rate(many, 0.95)


def test_answers_that_only_the_bolder_version_gives_are_not_held_against_the_common_ones() -> None:
    """They err more often in any healthy version, so that alone they condemn only what is bad on the whole."""
    bold = [Audit(n % 4 == 0, 0.3, rival_declined=True) for n in range(40)]
    common = [Audit(False, 0.1, False)] * 160
    mixed = [audit for n in range(40) for audit in (bold[n], *common[4 * n : 4 * n + 4])]
    assert standing(mixed, 0.05).verdict != "worse"
    assert standing([Audit(audit.wrong, audit.probability) for audit in bold], 0.05).verdict == "worse"
    assert standing([Audit(True, 0.3, rival_declined=True)] * 20, 0.05).verdict == "worse"


def test_auditing_risky_answers_more_often_condemns_no_healthy_version() -> None:
    """Half of the answers are risky, err in 9 of 100 and are audited three times as often: unweighted it looks like 7."""

    def risky(rng: random.Random, audits: int) -> list[Audit]:
        found: list[Audit] = []
        while len(found) < audits:
            wrong, probability = rng.choice(((0.09, SHARE), (0.01, SHARE / 3)))
            if rng.random() < probability:
                found.append(Audit(rng.random() < wrong, probability))
        return found

    assert verdicts(lambda rng: risky(rng, 200), 0.05, "worse") <= WORSE_ERROR
    many = risky(random.Random(0), 20_000)
    assert sum(audit.wrong for audit in many) / len(many) == pytest.approx(0.07, abs=0.006)
    assert reference_rate(many, 0.95) == pytest.approx(0.05, abs=0.006)


def test_the_capital_is_that_of_the_bets() -> None:
    # Alone, each bet is the likelihood ratio of 20% against 5% wrong, and of 5% against 15%.
    found = standing([Audit(True, 0.3), Audit(False, 0.3)], 0.05)
    assert found.worse == pytest.approx(0.2 / 0.05)
    assert found.fine == pytest.approx(1.0)
    right = standing([Audit(False, 0.3)] * 2, 0.05)
    assert right.fine == pytest.approx((0.95 / 0.85) ** 2)
    assert right.worse == pytest.approx(1.0)
    # Audited twice as often, an answer counts half.
    assert standing([Audit(False, 0.1), Audit(True, 0.2)], 0.05).worse == pytest.approx(
        (0.8 / 0.95) * (1 + (0.15 / (0.05 * 0.95)) * 0.5 * 0.95)
    )
    pair = standing([Audit(True, 1.0, False)], 0.05)
    # A quarter of the capital is bet on all answers of the version, where disagreements count a tenth.
    whole = 1 + (0.15 / (0.05 * 0.95)) * 0.1 * 0.95
    assert pair.worse == pytest.approx(0.75 * (1.5 + 1.85) / 2 + 0.25 * whole)
    assert standing([Audit(True, 1.0, False, given=False)], 0.05).worse == pytest.approx(0.75 * (1.5 + 1.85) / 2 + 0.25)
    # Where the other one would have declined, only that part is bet.
    bold = standing([Audit(True, 0.3, rival_declined=True)], 0.05)
    assert bold.worse == pytest.approx(0.75 + 0.25 * 4.0)
    assert (pair.audited, pair.wrong, pair.pairs) == (1, 1, 1)


@pytest.mark.parametrize("rival", [True, False])
def test_what_both_got_right_or_wrong_says_nothing_of_which_is_worse(rival: bool) -> None:
    assert standing([Audit(rival, 0.1, rival)] * 50, 0.05).worse == pytest.approx(1.0)


def test_the_first_verdict_stands() -> None:
    good, bad = [Audit(False, 0.3)] * 40, [Audit(True, 0.3)] * 40
    first = standing(good, 0.05)
    assert first.verdict == "fine"
    later = standing([*good, *bad], 0.05)
    assert (later.verdict, later.decided) == ("fine", first.decided)
    assert standing([*bad, *good], 0.05).verdict == "worse"
    nothing = standing([], 0.05)
    assert (nothing.verdict, nothing.decided, nothing.worse, nothing.audited) == (None, None, 1.0, 0)


def test_a_long_record_does_not_overflow() -> None:
    assert standing([Audit(True, 0.5)] * 5000, 0.02).verdict == "worse"
    assert standing([Audit(True, 0.5, False)] * 5000, 0.02).verdict == "worse"


@pytest.mark.parametrize(
    ("audits", "rate"),
    [
        ([], 0.05),
        ([Audit(False, 1.0)] * 1000, 0.02),
        ([Audit(True, 1.0)] * 1000, 0.5),
        ([Audit(True, 0.5)] * 4 + [Audit(False, 0.5)] * 16, (4 + 1) / 40),
        ([Audit(True, 1.0)] * 4 + [Audit(False, 0.5)] * 18, (2 + 1) / 40),
    ],
)
def test_the_reference_is_drawn_to_the_target_and_kept_in_bounds(audits: list[Audit], rate: float) -> None:
    assert reference_rate(audits, 0.95) == pytest.approx(rate)


def test_disagreements_are_audited_and_of_the_rest_a_few() -> None:
    assert audit_probability(False, 0.02) == 1.0
    assert audit_probability(True, 0.3) == 0.1
    assert audit_probability(True, 0.02) == 0.02
    assert audit_probability(None, 0.3) == 0.3
