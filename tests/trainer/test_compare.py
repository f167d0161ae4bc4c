import random

import pytest

from shammah_trainer.compare import Share, loss_difference, paired


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # From the tables of Clopper and Pearson's interval.
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (48, 50, 0.8629, 0.9951)],
)
def test_a_share_has_its_exact_interval(count: int, total: int, low: float, high: float) -> None:
    share = Share.of(count, total)
    assert share.share == count / total
    assert share.low == pytest.approx(low, abs=1e-4)
    assert share.high == pytest.approx(high, abs=1e-4)


def test_nothing_counted_says_nothing() -> None:
    assert (Share.of(0, 0).low, Share.of(0, 0).high) == (0.0, 1.0)


def test_paired_counts_what_changed() -> None:
    found = paired([True, True, True, False, False], [True, False, False, True, False], 0)
    assert (found.asked, found.right, found.before, found.gained, found.lost) == (5, 3, 2, 2, 1)
    assert found.difference == pytest.approx(0.2)
    # Two of three by chance: 1/2; one or more of three: 7/8.
    assert found.p_better == pytest.approx(0.5)
    assert found.p_worse == pytest.approx(0.875)
    same = paired([True, False], [True, False], 0)
    assert (same.difference, same.low, same.high, same.p_better, same.p_worse) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert paired([], [], 0).difference == 0.0


def test_the_interval_of_a_difference_covers_it_about_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for seed in range(200):
        drawn = [rng.random() for _ in range(150)]
        now = [each < 0.75 for each in drawn]
        before = [0.05 < each < 0.70 for each in drawn]
        found = paired(now, before, seed)
        covered += found.low <= 0.10 <= found.high
    assert 0.88 <= covered / 200 <= 1.0


def test_losses_are_compared_answer_by_answer() -> None:
    rng = random.Random(0)
    before = [(rng.uniform(5, 50), 10) for _ in range(60)]
    now = [(nats - rng.uniform(0, 2), tokens) for nats, tokens in before]
    found = loss_difference(now, before, 0)
    assert found.answers == 60
    assert found.now - found.before == pytest.approx(-0.1, abs=0.02)
    # Surely likelier, though the answers themselves differ far more than that.
    assert found.low < found.now - found.before < found.high < 0.0
    assert loss_difference(before, before, 0).high == 0.0
    nothing = loss_difference([], [], 0)
    assert nothing.low < 0.0 < nothing.high
