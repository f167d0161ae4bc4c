"""What earlier queries say for the model's own answer. Pure functions; knows no session and no log.

The trainer calibrates with these functions and the runtime applies them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shammah_data.guards import settled
from shammah_data.judge import same_facts

# More than this proves nothing further; less than this an answer is no answer to the query at all.
MOST_RELEVANCE, LEAST_RELEVANCE = 0.1, -0.5


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


@dataclass(frozen=True)
class Backing:
    """How far earlier exchanges bear an answer out.

    `support`: how alike the nearest known query with the very same answer is, by its words, from 0 to 1
    (`shammah_data.similarity`). `near`: the cosine, by meaning, of the nearest one that got an answer with the same facts and
    that nothing speaks against; 0 without one. `gap`: how much nearer that is than the nearest query that got another answer.
    `relevance`: see `relevance`, of all near ones that got an answer with the same facts. Where nothing is found by meaning,
    nothing backs.
    """

    support: float = 0.0
    near: float = 0.0
    gap: float = -1.0
    relevance: float = LEAST_RELEVANCE


# What may back an answer where nothing is known of the query.
FULL = Backing(1.0, 1.0, 1.0, MOST_RELEVANCE)


def relevance(group: Sequence[Neighbour]) -> float:
    """How relevant the answer that all of these got is to the query that they are near to: about 0 where it is as near to the
    answer as they are themselves, below that where it asks for something else about the same subject.
    """
    if not group:
        return LEAST_RELEVANCE
    return max(LEAST_RELEVANCE, min(MOST_RELEVANCE, sum(one.relevance for one in group) / len(group)))


def followed(ids: Sequence[int], drafts: Sequence[tuple[str, Sequence[int]]]) -> str | None:
    """The first of the earlier answers, (text, ids), that begins as the model's own does; None where that goes its own way."""
    return next((text for text, draft in drafts if tuple(draft[: len(ids)]) == tuple(ids)), None)


def at_most(neighbours: Sequence[Neighbour], alike: float) -> Backing:
    """The most that can back any answer to a query with these neighbours, the nearest first.

    `alike`: how alike, by its words, the likest of them is. An answer that none of them got may have more support than that,
    which its distance from them outweighs.
    """
    if not neighbours:
        return FULL
    near = max(0.0, neighbours[0].similarity)
    most = relevance([max(neighbours, key=lambda one: one.relevance)])
    return Backing(alike, near, near - min(0.0, neighbours[-1].similarity), most)


def backing(query: str, answer: str, neighbours: Sequence[Neighbour], support: float) -> Backing:
    """Weigh the neighbours of a query, which come nearest first, for an answer to it."""
    if not neighbours:
        return Backing(support)
    says = {text: same_facts(text, answer) for text in dict.fromkeys(one.answer for one in neighbours)}
    agreeing = [one for one in neighbours if says[one.answer]]
    place, _ = settled(query, [one.query for one in agreeing])
    near, relevant = (0.0, LEAST_RELEVANCE) if place is None else (agreeing[place].similarity, relevance(agreeing))
    rival = next((one.similarity for one in neighbours if not says[one.answer]), 0.0)
    return Backing(support, near, near - rival, relevant)
