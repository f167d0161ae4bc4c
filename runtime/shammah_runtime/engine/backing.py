"""What earlier queries say for the model's own answer. Pure functions; knows no session and no log.

The trainer calibrates with these functions and the runtime applies them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shammah_data.guards import settled
from shammah_data.judge import normalize, same_facts

# More than this proves nothing further; less than this an answer is no answer to the query at all.
MOST_RELEVANCE, LEAST_RELEVANCE = 0.1, -0.5
# Cosines this far apart tell two queries apart by a factor of e.
_SHARE_WIDTH = 0.05
# What earlier exchanges alone say for an answer, whatever the log (docs/decisions/0022-by-heart.md). Versions rest on these
# numbers: others need another name than `odds`.
_INTERCEPT, _NEAR, _GAP, _SHARE, _RELEVANCE = -1.35, 2.5, 1.55, 1.75, 5.0
_BEND_FROM, _BEND = -0.15, 1.45


@dataclass(frozen=True)
class Neighbour:
    """A known exchange and the cosine of its query with the one that is asked.

    `relevance`: how much nearer, by cosine, the query that is asked is to the answer than the query that got it.
    """

    id: str
    query: str
    answer: str
    similarity: float
    relevance: float = 0.0


def odds(near: float, gap: float, share: float, relevance: float) -> float:
    """The log-odds that an answer is right, by the nearest queries alone; see `Backing`. Never falls when one of them rises.

    `share`: of all near queries, the nearer ones weighing more, those that got an answer with the same facts, from 0 to 1.
    """
    total = _INTERCEPT + _NEAR * near + _GAP * gap + _SHARE * share + _RELEVANCE * relevance
    return total + _BEND * max(0.0, total - _BEND_FROM)


@dataclass(frozen=True)
class Backing:
    """How far earlier exchanges bear an answer out.

    `support`: how alike the nearest known query with the very same answer is, by its words, from 0 to 1
    (`shammah_data.similarity`). `near`: the cosine, by meaning, of the nearest one that got an answer with the same facts and
    that nothing speaks against; 0 without one. `gap`: how much nearer that is than the nearest query that got another answer.
    `relevance`: see `relevance`, of all near ones that got an answer with the same facts. `odds`: what these and their share of
    all near ones come to. Where nothing is found by meaning, nothing backs.
    """

    support: float = 0.0
    near: float = 0.0
    gap: float = -1.0
    relevance: float = LEAST_RELEVANCE
    odds: float = odds(0.0, -1.0, 0.0, LEAST_RELEVANCE)


# What may back an answer where nothing is known of the query.
FULL = Backing(1.0, 1.0, 1.0, MOST_RELEVANCE, odds(1.0, 1.0, 1.0, MOST_RELEVANCE))


def relevance(group: Sequence[Neighbour]) -> float:
    """How relevant the answer that all of these got is to the query that they are near to: about 0 where it is as near to the
    answer as they are themselves, below that where it asks for something else about the same subject.
    """
    if not group:
        return LEAST_RELEVANCE
    return max(LEAST_RELEVANCE, min(MOST_RELEVANCE, sum(one.relevance for one in group) / len(group)))


def weight(similarities: Iterable[float], nearest: float) -> float:
    """How much queries with these cosines weigh beside the nearest one, which weighs 1."""
    return sum(math.exp((one - nearest) / _SHARE_WIDTH) for one in similarities)


def grouped(neighbours: Sequence[Neighbour]) -> list[list[Neighbour]]:
    """The neighbours by the answer that they got, each group and the groups as they come; two wordings of the same facts are
    one answer.
    """
    groups: list[list[Neighbour]] = []
    found: dict[str, list[Neighbour]] = {}
    for neighbour in neighbours:
        key = normalize(neighbour.answer)
        group = found.get(key)
        if group is None:
            group = next((one for one in groups if _says(one, neighbour.answer)), None)
            if group is None:
                group = []
                groups.append(group)
            found[key] = group
        group.append(neighbour)
    return groups


def _says(group: Sequence[Neighbour], answer: str) -> bool:
    return any(same_facts(known, answer) for known in dict.fromkeys(one.answer for one in group))


def followed(ids: Sequence[int], drafts: Sequence[tuple[str, Sequence[int]]]) -> str | None:
    """The first of the earlier answers, (text, ids), that begins as the model's own does; None where that goes its own way."""
    return next((text for text, draft in drafts if tuple(draft[: len(ids)]) == tuple(ids)), None)


def at_most(neighbours: Sequence[Neighbour], alike: float) -> Backing:
    """The most that can back any answer to a query with these neighbours, the nearest first.

    `alike`: how alike, by its words, the likest of them is. An answer that none of them got may have more support than that,
    which its distance from them outweighs. One that says what two of theirs say, where these do not say the same, may have more
    odds: it is not reckoned with.
    """
    if not neighbours:
        return FULL
    near = max(0.0, neighbours[0].similarity)
    beyond = -min(0.0, neighbours[-1].similarity)
    most = relevance([max(neighbours, key=lambda one: one.relevance)])
    groups = grouped(neighbours)
    weights = [weight((one.similarity for one in group), neighbours[0].similarity) for group in groups]
    best = odds(0.0, beyond, 0.0, LEAST_RELEVANCE)
    for place, group in enumerate(groups):
        rival = groups[1 if place == 0 else 0][0].similarity if len(groups) > 1 else 0.0
        leads = group[0].similarity - rival
        best = max(best, odds(max(0.0, group[0].similarity), leads, weights[place] / sum(weights), relevance(group)))
    return Backing(alike, near, near + beyond, most, best)


def backing(query: str, answer: str, neighbours: Sequence[Neighbour], support: float) -> Backing:
    """Weigh the neighbours of a query, which come nearest first, for an answer to it."""
    if not neighbours:
        return Backing(support)
    says = {text: same_facts(text, answer) for text in dict.fromkeys(one.answer for one in neighbours)}
    agreeing = [one for one in neighbours if says[one.answer]]
    place, _ = settled(query, [one.query for one in agreeing])
    rival = next((one.similarity for one in neighbours if not says[one.answer]), 0.0)
    if place is None:
        return Backing(support, 0.0, -rival, odds=odds(0.0, -rival, 0.0, LEAST_RELEVANCE))
    near, relevant, nearest = agreeing[place].similarity, relevance(agreeing), neighbours[0].similarity
    share = weight((one.similarity for one in agreeing), nearest) / weight((one.similarity for one in neighbours), nearest)
    return Backing(support, near, near - rival, relevant, odds(near, near - rival, share, relevant))
