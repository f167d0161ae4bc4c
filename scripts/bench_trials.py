"""What the tests that decide a trial find in simulated trials. Run by `scripts/bench trials`; the same figures every time.

Two versions answer the same queries; one that is a candidate has a fifth of the sessions, one that is champion all. The other
version's precision is given; `apart` is how often each of two equally good versions errs where the other does not, and the new
one errs in `worse_by` more of its answers. In a tenth of the queries the version that does not answer would have declined:
these are harder, and err three times as often.

"both": as serving does it where memory holds both: audits are drawn as `audit_probability` advises after the other version was
asked, shares fall as audits add up, the reference is what the champion's own audits give. "alone": only the version that
answers is asked. Every query that the teacher is asked counts as an audit, whatever it says of the new version.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass

from shammah_data.auditing import AuditRate
from shammah_data.sequential import Audit, Verdict, allowed_rate, audit_probability, reference_rate, standing

SHARE = 0.3
# Of the queries, and how much harder these are.
_DECLINED, _HARDER = 0.1, 3.0
# How often one looks, in audits.
_LOOK = 10
Make = Callable[[random.Random], list[Audit]]


def paired(rng: random.Random, audits: int, worse_by: float, precision: float = 0.95, apart: float = 0.02) -> list[Audit]:
    """So many audits of a trial with two engines, in which both versions answer each query."""
    found: list[Audit] = []
    while len(found) < audits:
        wrong, rival_wrong, agree = _both(rng, worse_by, 1 - precision, apart)
        probability = audit_probability(agree, SHARE)
        if rng.random() < probability:
            found.append(Audit(wrong, probability, rival_wrong))
    return found


def single(rng: random.Random, audits: int, wrong: float) -> list[Audit]:
    """So many audits of a version that was asked alone, half of its answers three times as often as the others."""
    found: list[Audit] = []
    while len(found) < audits:
        probability = rng.choice((SHARE, SHARE / 3))
        if rng.random() < probability:
            found.append(Audit(rng.random() < wrong, probability))
    return found


def _both(rng: random.Random, worse_by: float, wrong: float, apart: float) -> tuple[bool, bool, bool]:
    """Whether the new version errs, whether the other one does, and whether they say the same."""
    drawn = rng.random()
    alone, rival_alone = drawn < apart + worse_by, apart + worse_by <= drawn < 2 * apart + worse_by
    both = not (alone or rival_alone) and drawn < apart + worse_by + wrong
    # Two wrong answers may be the same one.
    return alone or both, rival_alone or both, not (alone or rival_alone) and not (both and rng.random() < 0.5)


def share_of(make: Make, reference: float, verdict: str, runs: int) -> float:
    """The share of the simulated trials that end with a verdict."""
    return sum(standing(make(random.Random(seed)), reference).verdict == verdict for seed in range(runs)) / runs


@dataclass(frozen=True)
class World:
    """What the two versions are like. `bolder`: of the queries that the other one declines, so many more are wrong."""

    precision: float
    apart: float
    worse_by: float = 0.0
    bolder: float = 0.0
    asks_both: bool = True
    sessions: float = 0.2


def trial(rng: random.Random, world: World, audits: int) -> Verdict | None:
    """How a trial stands after so many queries that the teacher was asked."""
    shares = AuditRate()
    harder = min(1.0, _HARDER * (1 - world.precision))
    easier = max(0.0, (1 - world.precision - _DECLINED * harder) / (1 - _DECLINED))
    apart = min(world.apart, easier)
    found: list[Audit] = []
    references: list[Audit] = []
    asked = 0
    counts = {True: 0, False: 0}
    while asked < audits:
        gives = rng.random() < world.sessions
        probability = shares.share(counts[gives], 0)
        declined = rng.random() < _DECLINED
        if declined:
            wrong = rng.random() < harder + (world.worse_by + world.bolder if gives else 0.0)
            rival_wrong = None
        else:
            worse, rival_worse, agree = _both(rng, world.worse_by, easier, apart)
            wrong, rival_wrong = (worse, rival_worse) if gives else (rival_worse, worse)
            probability = audit_probability(agree if world.asks_both else None, probability)
        if rng.random() >= probability:
            continue
        asked += 1
        counts[gives] += 1
        both = world.asks_both and not declined
        if gives:
            found.append(Audit(wrong, probability, rival_wrong if both else None, declined and world.asks_both))
        else:
            references.append(Audit(wrong, probability))
            if both:
                found.append(Audit(bool(rival_wrong), probability, wrong, given=False))
        if asked % _LOOK == 0 or asked == audits:
            reference, allowed = (rate(references, world.precision) for rate in (reference_rate, allowed_rate))
            verdict = standing(found, reference, allowed).verdict
            if verdict is not None:
                return verdict
    return None


def back(world: World, audits: int, runs: int) -> float:
    """The share of such trials in which the new version goes back within so many audits."""
    return sum(trial(random.Random(seed), world, audits) == "worse" for seed in range(runs)) / runs


def main() -> None:
    """Print the tables of decision 7."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="simulated trials for each figure")
    runs = parser.parse_args().runs
    if runs < 1:
        parser.error("--runs: at least 1")
    print(f"{runs} simulated trials for each figure")
    print("asked  the new one  precision  apart  15 points worse, in 50  healthy, in 400  5 points worse, in 200")
    for asked, role, sessions in (("both", "candidate", 0.2), ("both", "champion", 1.0), ("alone", "candidate", 0.2)):
        for precision in (0.98, 0.95, 0.90):
            for apart in (0.01, 0.02, 0.03, 0.04) if asked == "both" else (0.02,):
                if apart > 1 - precision + 1e-9:
                    continue
                shares = [
                    back(World(precision, apart, by, asks_both=asked == "both", sessions=sessions), audits, runs)
                    for audits, by in ((50, 0.15), (400, 0.0), (200, 0.05))
                ]
                told = f"{shares[0]:22.1%}  {shares[1]:15.1%}  {shares[2]:21.1%}"
                print(f"{asked:<5}  {role:<11}  {precision:9.0%}  {apart:5.0%}  {told}")
    for wrong in (0.02, 0.05):
        shares = [
            share_of(lambda rng, n=n, by=by: single(rng, n, wrong + by), wrong, "worse", runs)  # noqa: B023
            for n, by in ((50, 0.15), (400, 0.0))
        ]
        print(f"alone, all 50 of the new version, {1 - wrong:.0%}: {shares[0]:.1%}, healthy {shares[1]:.1%}")
    for bolder in (0.3, 0.5):
        found = [back(World(0.95, 0.02, bolder=bolder), audits, runs) for audits in (50, 200, 400)]
        told = ", ".join(f"{share:.1%} within {audits}" for share, audits in zip(found, (50, 200, 400), strict=True))
        print(f"as good where both answer, wrong in {bolder:.0%} more of what the other declines: {told}")


if __name__ == "__main__":
    main()
