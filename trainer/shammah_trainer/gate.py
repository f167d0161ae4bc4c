"""May a version be published? Pure numbers in, checks with their reasons out. Knows no model.

The loss of a model that has learned only the tone of the answers falls too; so the held-out answers must also be more
likely after their own queries than other groups' answers are, and more so than chance could bring about. Beside a champion
a version must be better at the same questions, and must not have forgotten what was known before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shammah_data.binomial import lower_bound
from shammah_data.text import counted
from shammah_trainer.compare import LossDifference, Paired
from shammah_trainer.matching import Matching

LEAST_WINS = 0.75
MOST_P_VALUE = 0.001
# Six answers can be dealt out in 720 ways only: so few can hardly show more than this, however well they do.
FEW, MOST_P_VALUE_OF_FEW = 8, 0.01
# Perplexity of the graph over that of the weights it was made from, on the held-out answers.
MOST_PERPLEXITY_RATIO = 1.05
# Of unanswerable questions so many may surely be answered; the 95% lower bound counts, for there are few of them.
MOST_OUTSIDE = 0.02
# A version is worse when it is by more than the tolerance and as bad a count would come of chance at most this often; older
# groups share it, for among many one of two equal versions looks worse at some group nearly every night.
TOLERANCE = 0.02
CHANCE = 0.2
# An older group is judged by itself from so many held-out questions on; the smaller ones are judged together.
LEAST_GROUP = 20
# With fewer questions than this that the champion was not trained on, the two cannot be compared.
LEAST_COMPARED = 8
_NONE_FITS = "no held-out answer fits into max_length tokens behind its question: raise train.max_length in config.toml"


@dataclass(frozen=True)
class Against:
    """The new version beside the champion, on held-out phrasings that neither was trained on.

    `groups`: those of groups that the champion's snapshot had, the large ones by name; `older`: those of its smaller groups,
    together. `answered_right`: right answers above the own threshold, (new, champion). `left_out`: questions that the champion
    was trained on.
    """

    version: str
    overall: Paired
    older: Paired
    groups: Sequence[tuple[str, Paired]]
    answered_right: tuple[int, int]
    loss: LossDifference
    left_out: int


@dataclass(frozen=True)
class Figures:
    """What the gate looks at; losses are mean negative log-likelihoods per response token, in nats.

    `loss_torch`: of the trained weights before they were quantized, `loss_after`: of the graph. `outside`: (answered, asked)
    of the unanswerable questions. `fitting`: held-out answers whose loss was measured, None where it is not known; without one
    the losses are no numbers.
    """

    loss_before: float
    loss_after: float
    matching: Matching
    parity_reasons: Sequence[str] = ()
    loss_torch: float | None = None
    leaks: Sequence[str] = ()
    outside: tuple[int, int] = (0, 0)
    against: Against | None = None
    fitting: int | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, told in one line; `reason` says why it refuses, where it does."""

    name: str
    told: str
    reason: str | None = field(default=None)

    @property
    def passed(self) -> bool:
        """Whether it allows the publication."""
        return self.reason is None


def checks(figures: Figures) -> list[Check]:
    """Everything that was looked at, in the order in which it matters."""
    if figures.fitting == 0:
        # What rests on their likelihood would be refused for a number that is none.
        parity = _quantized(replace(figures, loss_torch=None))
        return [_split(figures), parity, Check("held-out loss", _NONE_FITS, _NONE_FITS), _outside(figures)]
    found = [_split(figures), _quantized(figures), _loss(figures), _matching(figures), _outside(figures)]
    if figures.against is not None:
        found += _beside(figures.against)
    return found


def refusals(figures: Figures) -> list[str]:
    """Why a version must not be published; empty when it may."""
    return [check.reason for check in checks(figures) if check.reason is not None]


def _split(figures: Figures) -> Check:
    told = "nothing held out was trained on"
    if not figures.leaks:
        return Check("split", told)
    reason = f"the split leaks: {'; '.join(figures.leaks)}"
    return Check("split", reason, reason)


def _quantized(figures: Figures) -> Check:
    reasons = [f"parity: {reason}" for reason in figures.parity_reasons]
    told = "the graph agrees with the weights it was made from"
    if figures.loss_torch is not None:
        ratio = math.exp(min(figures.loss_after - figures.loss_torch, 50.0))
        told += f"; perplexity ratio {ratio:.3f}, at most {MOST_PERPLEXITY_RATIO}"
        if not ratio <= MOST_PERPLEXITY_RATIO:
            reasons.append(
                f"quantization: perplexity on held-out answers is {ratio:.3f} times that of the weights, above "
                f"{MOST_PERPLEXITY_RATIO}"
            )
    return Check("quantization", told, "; ".join(reasons) or None)


def _loss(figures: Figures) -> Check:
    told = f"{figures.loss_before:.3f} before, {figures.loss_after:.3f} after"
    fell = figures.loss_after < figures.loss_before
    return Check("held-out loss", told, None if fell else f"held-out loss did not fall: {told}")


def _matching(figures: Figures) -> Check:
    found = figures.matching
    told = f"{found.wins:.0%} of comparisons over {counted(found.queries, 'query', 'queries')} (p = {found.p_value:.4f})"
    most = MOST_P_VALUE if found.queries >= FEW else MOST_P_VALUE_OF_FEW
    if found.wins >= LEAST_WINS and found.p_value <= most:
        return Check("answers follow from questions", told)
    return Check(
        "answers follow from questions",
        told,
        f"held-out answers outscore other groups' answers in only {found.wins:.0%} of comparisons over "
        f"{counted(found.queries, 'query', 'queries')} (p = {found.p_value:.4f}; {LEAST_WINS:.0%} and p <= {most} are needed, "
        "style alone gives 50%): "
        "the answers do not follow from the questions",
    )


def _outside(figures: Figures) -> Check:
    answered, asked = figures.outside
    told = f"{answered} of {counted(asked, 'unanswerable question')} answered"
    if asked and lower_bound(answered, asked) > MOST_OUTSIDE:
        return Check("unanswerable", told, f"{told}: surely more than {MOST_OUTSIDE:.0%}")
    return Check("unanswerable", told)


def _beside(against: Against) -> list[Check]:
    version, overall = against.version, against.overall
    if overall.asked < LEAST_COMPARED:
        told = (
            f"only {counted(overall.asked, 'held-out question')} that {version} was not trained on, {LEAST_COMPARED} are "
            "needed to compare: judged as a first version"
        )
        return [Check(f"against {version}", told)]
    now, before = against.answered_right
    fair = f"; {against.left_out} left out that {version} was trained on" if against.left_out else ""
    told = f"{_counts(overall, version)}{fair}; answered right at the own threshold: {now}, {version} {before}"
    surely_likelier = against.loss.high < 0.0
    if _worse(overall):
        first = Check(f"against {version}", told, f"worse than {version}: {_counts(overall, version)}")
    elif overall.difference > 0.0 or now > before or surely_likelier:
        first = Check(f"against {version}", told)
    else:
        loss = f"held-out loss {against.loss.now:.3f}, {version} {against.loss.before:.3f}"
        first = Check(f"against {version}", told, f"no better than {version}: {told}; {loss}")
    others = "older groups of fewer questions" if against.groups else "older groups"
    older = [(name, found) for name, found in (*against.groups, (others, against.older)) if found.asked]
    forgot = [f"{name}: {_counts(found, version)}" for name, found in older if _worse(found, len(older))]
    reason = f"forgot more than {TOLERANCE:.0%}: {'; '.join(forgot)}" if forgot else None
    all_told = "; ".join(f"{name}: {_counts(found, version)}" for name, found in older)
    return [first, Check("older groups", all_told if against.groups else _counts(against.older, version), reason)]


def _worse(found: Paired, tests: int = 1) -> bool:
    return found.difference < -TOLERANCE and found.p_worse <= CHANCE / tests


def _counts(found: Paired, version: str) -> str:
    if not found.asked:
        return "none"
    return (
        f"{found.right} right, {version} {found.before}, of {found.asked} ({100 * found.difference:+.1f} points, 95% "
        f"{100 * found.low:+.1f} to {100 * found.high:+.1f}; p = {min(found.p_worse, found.p_better):.2f})"
    )
