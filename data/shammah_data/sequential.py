"""Is the version on trial worse, or good enough? Sequential tests on audited answers; pure numbers, no versions, no log.

Each test is a bet against its null hypothesis: the capital is a supermartingale while that holds, so that it ever reaches
1/error with probability at most `error`, however often one looks (Ville's inequality; Waudby-Smith and Ramdas, "Estimating
means of bounded random variables by betting", 2024). An audited answer counts with the inverse of the probability with
which it was audited, relative to the least one so far: all bets stay below the capital. That is exact as long as the
probabilities take few values, and as long as they say nothing of right and wrong beyond the version's answer itself.

Three kinds of outcomes are told apart. Where both versions answer a query, only their difference counts, and no rate has to
be known. Where the other version was not asked, the answer is compared with the reference rate. Where the other one would have
declined, the answer belongs to the harder ones that a bolder version gives: alone it proves nothing. A part of the capital is
therefore bet on all answers that the version gave, with the reference rate: it finds a version that is bold and wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# A healthy version is taken for worse, a worse one for good enough, with at most these probabilities.
WORSE_ERROR = 0.01
FINE_ERROR = 0.05
# What a version is suspected of, in wrong answers more per answer given.
SUSPECTED = 0.15
# Good enough: shown not to be worse by as much as this.
MARGIN = 0.10
# Shares of the capital that are put on each pair of which one is wrong: large for a bad version, small for a slightly bad one.
_PAIR_BETS = (0.5, 0.85)
_FINE_BET = 0.8
# No version is suspected for erring as rarely as this; a faultless record of a few answers promises no more.
LEAST_REFERENCE, _MOST_REFERENCE = 0.02, 0.5
# What is not known yet of the reference speaks for the version on trial: so many standard errors of it.
_DOUBT = 1.5
# The part of the capital that is bet on the pairs, and on what was asked of one version alone.
_PAIRED = 0.75
# So many answers at the target stand beside those of the reference that were audited.
_PRIOR_ANSWERS = 20.0
# Of the answers that both versions agree on, so many are audited.
_AGREEING = 0.1

Verdict = Literal["worse", "fine"]


@dataclass(frozen=True)
class Audit:
    """One audited answer of the version on trial.

    `probability`: that with which it was audited. `rival_wrong`: of the other version's answer to the same query, where that
    was judged as well; `rival_declined`: it would have given none. `given`: not only what the version would have said.
    """

    wrong: bool
    probability: float
    rival_wrong: bool | None = None
    rival_declined: bool = False
    given: bool = True


@dataclass(frozen=True)
class Standing:
    """Where the tests are. `worse` and `fine`: the highest capital of each, 1 at the start; `verdict` after `decided` audits.

    `rate`: the share of wrong ones among all answers, audited or not, as estimated; NaN before the first audit.
    """

    audited: int
    wrong: int
    rate: float
    pairs: int
    worse: float
    fine: float
    verdict: Verdict | None
    decided: int | None


def standing(audits: Sequence[Audit], reference: float, allowed: float | None = None) -> Standing:
    """Bet on the audits in the order in which they came; the first verdict stands.

    `reference`: the share of wrong answers of the version that it is compared with, see `reference_rate`. `allowed`: the share
    for which none is condemned, see `allowed_rate`; the reference itself where that is known.
    """
    allowed = reference if allowed is None else allowed
    worse = [math.log(1.0 / len(_PAIR_BETS))] * len(_PAIR_BETS)
    alone = whole = fine = 0.0
    discordant_least = single_least = whole_least = 1.0
    # Known before the first one: pairs that agree are audited with no more, those that do not often come first.
    pair_least = _AGREEING
    highest_worse = highest_fine = 0.0
    verdict: Verdict | None = None
    decided = None
    suspected = min(allowed + SUSPECTED, 0.98)
    bet = (suspected - allowed) / (allowed * (1.0 - allowed))
    margin = min(reference + MARGIN, 0.98)
    fine_bet = (margin - reference) / (margin * (1.0 - margin))
    for number, audit in enumerate(audits, 1):
        if audit.given:
            paired = audit.rival_wrong is not None
            whole_least = min(whole_least, audit.probability, pair_least if paired else 1.0)
            # What the other version got wrong too makes this one no worse.
            worse_here = audit.wrong and not audit.rival_wrong
            whole += math.log1p(bet * (whole_least / audit.probability) * (worse_here - allowed))
        if audit.rival_wrong is None:
            single_least = min(single_least, audit.probability)
            weight = single_least / audit.probability
            if not audit.rival_declined:
                alone += math.log1p(bet * weight * (audit.wrong - allowed))
            fine += math.log1p(fine_bet * weight * (margin - audit.wrong))
        else:
            difference = int(audit.wrong) - int(audit.rival_wrong)
            pair_least = min(pair_least, audit.probability)
            fine += math.log1p(_FINE_BET * (pair_least / audit.probability) * (MARGIN - difference))
            if difference:
                # Where both are right or both wrong the difference is nothing, whatever such answers were audited with.
                discordant_least = min(discordant_least, audit.probability)
                weight = discordant_least / audit.probability
                worse = [held + math.log1p(share * weight * difference) for held, share in zip(worse, _PAIR_BETS, strict=True)]
        total = _sum((alone + _sum(worse) + math.log(_PAIRED), whole + math.log(1.0 - _PAIRED)))
        highest_worse, highest_fine = max(highest_worse, total), max(highest_fine, fine)
        if verdict is None:
            if highest_worse >= -math.log(WORSE_ERROR):
                verdict, decided = "worse", number
            elif highest_fine >= -math.log(FINE_ERROR):
                verdict, decided = "fine", number
    return Standing(
        audited=len(audits),
        wrong=sum(audit.wrong for audit in audits),
        rate=_wrong(audits, 0.0, 0.0),
        pairs=sum(audit.rival_wrong is not None for audit in audits),
        worse=math.exp(min(highest_worse, 700.0)),
        fine=math.exp(min(highest_fine, 700.0)),
        verdict=verdict,
        decided=decided,
    )


def _sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of what these are the logarithms of."""
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs))


def reference_rate(audits: Sequence[Audit], target_precision: float) -> float:
    """The share of wrong answers to compare with: that of these audits, drawn towards the target while they are few.

    Kept within bounds.
    """
    rate = _wrong(audits, _PRIOR_ANSWERS * (1.0 - target_precision), _PRIOR_ANSWERS)
    return min(max(rate, LEAST_REFERENCE), _MOST_REFERENCE)


def allowed_rate(audits: Sequence[Audit], target_precision: float) -> float:
    """The reference, and what may be wrong with it: a few faultless audits must not put it so low that healthy versions fail.

    The standard error is that of the effective number of audits (Kish, "Survey Sampling", 1965) and those at the target.
    """
    rate = reference_rate(audits, target_precision)
    weights = [1.0 / audit.probability for audit in audits]
    effective = sum(weights) ** 2 / sum(weight * weight for weight in weights) if weights else 0.0
    return min(rate + _DOUBT * math.sqrt(rate * (1.0 - rate) / (effective + _PRIOR_ANSWERS)), _MOST_REFERENCE)


def _wrong(audits: Sequence[Audit], prior_wrong: float, prior: float) -> float:
    """The share of wrong answers, each weighted by the inverse of its probability (Hajek's estimator), beside a prior count."""
    least = min((audit.probability for audit in audits), default=1.0)
    weights = [least / audit.probability for audit in audits]
    total = sum(weights) + prior
    wrong = sum(weight for weight, audit in zip(weights, audits, strict=True) if audit.wrong)
    return (wrong + prior_wrong) / total if total else math.nan


def audit_probability(agree: bool | None, share: float) -> float:
    """With which probability to audit an answer during a trial, so that few audits decide it.

    `agree`: whether the two versions say the same to the query, None where only one was asked. Only where they do not can an
    audit tell them apart: those are all audited, and of the others every tenth at most.
    """
    if agree is None:
        return share
    return min(share, _AGREEING) if agree else 1.0
