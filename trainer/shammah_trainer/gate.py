"""May a version be published? Pure numbers in, reasons out. Knows no model.

The loss of a model that has learned only the tone of the answers falls too; so the held-out answers must also be more
likely after their own queries than other groups' answers are, and more so than chance could bring about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shammah_trainer.matching import Matching

LEAST_WINS = 0.75
MOST_P_VALUE = 0.001


@dataclass(frozen=True)
class Figures:
    """What the gate looks at; losses are mean negative log-likelihoods per response token, in nats."""

    loss_before: float
    loss_after: float
    matching: Matching
    parity_reasons: Sequence[str] = ()


def refusals(figures: Figures) -> list[str]:
    """Why a version must not be published; empty when it may."""
    reasons = [f"parity: {reason}" for reason in figures.parity_reasons]
    if not figures.loss_after < figures.loss_before:
        reasons.append(f"held-out loss did not fall: {figures.loss_before:.3f} before, {figures.loss_after:.3f} after")
    found = figures.matching
    if not (found.wins >= LEAST_WINS and found.p_value <= MOST_P_VALUE):
        reasons.append(
            f"held-out answers outscore other groups' answers in only {found.wins:.0%} of comparisons over {found.queries} "
            f"queries (p = {found.p_value:.4f}; {LEAST_WINS:.0%} and p <= {MOST_P_VALUE} are needed, style alone gives 50%): "
            "the answers do not follow from the questions"
        )
    return reasons
