"""What the tests that decide a trial find in simulated trials. Run by `scripts/bench trials`; the same figures every time.

Two versions answer the same queries. One version's precision is given; `apart` is how often each of two equally good versions
errs where the other does not, and the new version errs in `worse_by` more of the answers. Audits are drawn as
`audit_probability` advises. "alone": only the new version is asked, and half of its answers are audited three times as often.
"""

import argparse
import random
from collections.abc import Callable

from shammah_data.sequential import Audit, audit_probability, standing

SHARE = 0.3
Make = Callable[[random.Random], list[Audit]]


def paired(rng: random.Random, audits: int, worse_by: float, precision: float = 0.95, apart: float = 0.02) -> list[Audit]:
    """So many audits of a trial with two engines, in which both versions answer each query."""
    found: list[Audit] = []
    while len(found) < audits:
        drawn = rng.random()
        alone, rival_alone = drawn < apart + worse_by, apart + worse_by <= drawn < 2 * apart + worse_by
        both = not (alone or rival_alone) and drawn < apart + worse_by + (1 - precision)
        # Two wrong answers may be the same one.
        probability = audit_probability(not (alone or rival_alone or (both and rng.random() < 0.5)), SHARE)
        if rng.random() < probability:
            found.append(Audit(alone or both, probability, rival_alone or both))
    return found


def single(rng: random.Random, audits: int, wrong: float) -> list[Audit]:
    """So many audits of a version that was asked alone."""
    found: list[Audit] = []
    while len(found) < audits:
        probability = rng.choice((SHARE, SHARE / 3))
        if rng.random() < probability:
            found.append(Audit(rng.random() < wrong, probability))
    return found


def share_of(make: Make, reference: float, verdict: str, runs: int) -> float:
    """The share of the simulated trials that end with a verdict."""
    return sum(standing(make(random.Random(seed)), reference).verdict == verdict for seed in range(runs)) / runs


def main() -> None:
    """Print the table of decision 7."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="simulated trials for each figure")
    runs = parser.parse_args().runs
    print("precision  apart  15 points worse, back within 50  healthy, back within 400  5 points worse, back within 200")
    for precision in (0.98, 0.95, 0.90):
        for apart in (0.01, 0.02, 0.03, 0.04):
            if apart > 1 - precision + 1e-9:
                continue
            wrong = 1 - precision
            shares = [
                share_of(lambda rng, n=n, by=by: paired(rng, n, by, precision, apart), wrong, "worse", runs)  # noqa: B023
                for n, by in ((50, 0.15), (400, 0.0), (200, 0.05))
            ]
            print(f"{precision:9.0%}  {apart:5.0%}  {shares[0]:31.1%}  {shares[1]:24.1%}  {shares[2]:30.1%}")
    for wrong in (0.02, 0.05):
        shares = [
            share_of(lambda rng, n=n, by=by: single(rng, n, wrong + by), wrong, "worse", runs)  # noqa: B023
            for n, by in ((50, 0.15), (400, 0.0))
        ]
        print(f"{1 - wrong:9.0%}  alone  {shares[0]:31.1%}  {shares[1]:24.1%}")


if __name__ == "__main__":
    main()
