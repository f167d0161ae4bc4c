"""What speaks for a learned answer to a query: its neighbours and the model. Pure functions; knows no session and no log.

The trainer fits the weights with these functions and the runtime applies them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shammah_data.errors import ArtifactError
from shammah_data.guards import Conflict, settled
from shammah_data.manifest import Evidence
from shammah_runtime.engine.backing import Neighbour, grouped, relevance, weight
from shammah_runtime.engine.confidence import LOWEST, logistic

# So many neighbours are looked at, and so many answers of theirs.
NEIGHBOURS = 24
MOST_ANSWERS = 3
# Of an answer the first tokens are read: it is there that a model decides for another one.
MOST_TOKENS = 32
_OPENING = 4
# The cosine that an answer without a rival among the neighbours is taken to lead.
_NO_RIVAL = 0.0

# similarity: the cosine of the query and the nearest one with this answer that nothing speaks against.
# gap: how much nearer that is than the nearest query with another answer; below 0 for all but one.
# share: of the neighbours, the nearer ones weighing more, those with this answer.
# relevance: of this answer to the query, less what it is to those that got it (`shammah_runtime.engine.backing`).
# mean, least, opening: of the log-probabilities of the answer's first tokens after the query, in nats.
# lift: their mean less the mean after no question at all: an answer that is likely anyway proves little.
LIKELIHOODS = ("mean", "least", "opening", "lift")
NAMES = ("similarity", "gap", "share", "relevance", *LIKELIHOODS)
Features = dict[str, float]


@dataclass(frozen=True)
class Candidate:
    """An answer of the neighbours.

    `nearest`: the nearest query that got it; `agreeing`: the nearest one of them that nothing speaks against. `conflict`: what
    speaks against the answer, or where there is an agreeing query, what spoke against a nearer one.
    """

    nearest: Neighbour
    agreeing: Neighbour | None
    conflict: Conflict | None
    gap: float
    share: float
    relevance: float

    @property
    def answer(self) -> str:
        """In the words that the agreeing query got."""
        return (self.agreeing or self.nearest).answer


def candidates(query: str, neighbours: Sequence[Neighbour]) -> list[Candidate]:
    """The distinct answers among the neighbours, which come nearest first; at most MOST_ANSWERS, in that order."""
    groups = grouped(neighbours[:NEIGHBOURS])
    if not groups:
        return []
    nearest = neighbours[0].similarity
    weights = [weight((one.similarity for one in group), nearest) for group in groups]
    listed = []
    for place, group in enumerate(groups[:MOST_ANSWERS]):
        at, conflict = settled(query, [one.query for one in group])
        agreeing = None if at is None else group[at]
        rival = groups[1 if place == 0 else 0] if len(groups) > 1 else None
        similarity = (agreeing or group[0]).similarity
        gap = similarity - (rival[0].similarity if rival else _NO_RIVAL)
        listed.append(Candidate(group[0], agreeing, conflict, gap, weights[place] / sum(weights), relevance(group)))
    return listed


def retrieved(candidate: Candidate) -> Features:
    """What its neighbours say for a candidate."""
    similarity = (candidate.agreeing or candidate.nearest).similarity
    return {"similarity": similarity, "gap": candidate.gap, "share": candidate.share, "relevance": candidate.relevance}


def features(candidate: Candidate, logprobs: Sequence[float], prior: float) -> Features:
    """What speaks for a candidate. `logprobs`: of its first tokens; `prior`: their mean after no question."""
    mean = sum(logprobs) / len(logprobs)
    opening = logprobs[:_OPENING]
    return retrieved(candidate) | {
        "mean": max(mean, LOWEST),
        "least": max(min(logprobs), LOWEST),
        "opening": max(sum(opening) / len(opening), LOWEST),
        "lift": mean - prior,
    }


def likelihood(evidence: Evidence, found: Mapping[str, float]) -> float:
    """The calibrated log-odds that a candidate is right. Raises ArtifactError for a feature unknown here."""
    total = evidence.intercept
    for name, factor in evidence.weights.items():
        if name not in found:
            raise ArtifactError(f"the evidence uses {name!r}, which this runtime does not know: upgrade Shammah")
        total += factor * found[name]
    return total + evidence.bend * max(0.0, total - evidence.bend_from)


def sure(log_odds: float) -> float:
    """The probability with these log-odds."""
    return logistic(log_odds)


def answer_ids(ids: Iterable[int]) -> list[int]:
    """The first tokens of an answer, as they are scored."""
    return list(ids)[:MOST_TOKENS]
