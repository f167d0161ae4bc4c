"""When an answer may be shown before it has ended: a second curve, for the first tokens of held-out answers. Pure numbers.

What is shown early must hardly ever be taken back: it has to end above the threshold that decides over whole answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shammah_data.binomial import upper_tail
from shammah_data.manifest import Early, EarlyStep
from shammah_runtime.engine.confidence import confidence
from shammah_trainer.calibrate import NOTHING, PROBABLE, chosen, fit, out_of_fold
from shammah_trainer.evaluate import COMMITTED_AFTER, Outcome

# So many of the answers that are shown early are given in the end: on those that were held out, and at least likely.
KEPT = 0.98
LIKELY_KEPT = 0.9


def fit_early(
    outcomes: Sequence[Outcome], given: Mapping[float, Sequence[bool]], groups: Sequence[int], most_tokens: int
) -> Early | None:
    """The curve and, for each target, its threshold; None where none of them lets anything be shown.

    `given`: of each answer, whether it is given for a target, by the curve that was fitted without its group. On confidences
    that come from such curves too, the threshold lets the most answers be shown early of which KEPT are given in the end, and
    LIKELY_KEPT as likely as not (7 of 7 are the fewest), and no more than are right by the rule of `calibrate`.
    """
    longer = [n for n, outcome in enumerate(outcomes) if outcome.early is not None]
    labels = [(found, outcomes[n].right) for n in longer if (found := outcomes[n].early) is not None]
    weights, intercept = fit(labels)
    apart = out_of_fold(labels, [groups[n] for n in longer])
    curve = Early(COMMITTED_AFTER, most_tokens, weights, intercept, len(labels), ())
    surest = sorted((confidence(curve, found) for found, _ in labels), reverse=True)

    def step(target: float) -> EarlyStep:
        kept = [given[target][n] and outcomes[n].finished for n in longer]
        order = sorted(range(len(labels)), key=lambda n: (-apart[n], kept[n], labels[n][1]))
        stays = [(apart[n], kept[n]) for n in order]
        right = [(apart[n], labels[n][1]) for n in sorted(order, key=lambda n: (-apart[n], labels[n][1]))]
        count = _most_kept(stays, chosen(right, target)[0])
        threshold = surest[count - 1] if count else NOTHING
        return EarlyStep(
            target, threshold, count, sum(one for _, one in stays[:count]), sum(labels[n][1] for n in order[:count])
        )

    steps = tuple(map(step, sorted(given)))
    return replace(curve, steps=steps) if any(one.committed for one in steps) else None


def _most_kept(stays: Sequence[tuple[float, bool]], most: int) -> int:
    """How many of the surest may be shown; `stays`: (confidence, whether it is given in the end), the surest first."""
    count = kept = 0
    for n, (sure, stay) in enumerate(stays[:most], 1):
        kept += stay
        # A threshold cannot part answers of the same confidence.
        parted = n == len(stays) or stays[n][0] < sure
        if parted and kept >= KEPT * n and upper_tail(kept, n, LIKELY_KEPT) <= PROBABLE:
            count = n
    return count
