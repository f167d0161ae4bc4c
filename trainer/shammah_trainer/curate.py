"""From rows of the log to exchanges worth learning from: one wording to a question, the newest facts, nothing twice.

Knows texts and ratings, no split and no tensors. Every row that is left out is counted under a reason.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shammah_data.audit_queries import SOURCE as AUDIT
from shammah_data.exchange import Message
from shammah_data.guards import conflict
from shammah_data.judge import normalize
from shammah_data.log import context_of
from shammah_data.refusing import is_refusal
from shammah_data.standing import displaces, standing
from shammah_trainer.duplicates import Partition, near_duplicates
from shammah_trainer.likeness import Likeness
from shammah_trainer.wordings import Pair, classes, most_central, outdated

# Questions of one answer that are compared with those of another; the newest say enough.
_MOST_COMPARED = 16
_FILLER = frozenset("please kindly the an hello hi hey thanks thank just".split())


@dataclass(frozen=True)
class Kept:
    """One exchange to learn from. `given` is the answer as logged, `target` the wording that stands for it.

    `question` numbers what is asked, and the split goes by it; `answer` numbers what is said, in whatever words. `audited`: it
    was answered locally, and the teacher was asked as well.
    """

    id: str
    query: str
    given: str
    target: str
    context: tuple[Message, ...]
    weight: float
    question: int = 0
    answer: int = 0
    audited: bool = False


@dataclass(frozen=True)
class Curated:
    """What is kept, oldest first, and near-duplicate queries among it.

    `excluded` counts rows left out by reason, `sources` all rows by who answered. `outdated`: ids of exchanges whose facts were
    replaced, each with the id of the newest exchange that replaced them. `reworded` counts targets in another wording than the
    one logged.
    """

    kept: tuple[Kept, ...]
    twins: Partition
    excluded: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    outdated: tuple[tuple[str, str], ...] = ()
    reworded: int = 0


@dataclass(frozen=True)
class _Row:
    id: str
    query: str
    given: str
    context: str
    turns: tuple[Message, ...]
    weight: float
    rank: float
    audited: bool
    standing: int


def curate(rows: Sequence[dict[str, Any]], likeness: Likeness) -> Curated:
    """Curate the rows of a snapshot, in its order (see `shammah_data.log.read_snapshot`)."""
    excluded: Counter[str] = Counter()
    sources = Counter(str(row.get("tier") or "unknown") for row in rows)
    usable = _usable(rows, excluded)
    answers, related = _answers(usable, likeness)
    usable, answers, replaced = _newest_facts(usable, answers, excluded)
    usable, answers = _once(usable, answers, excluded)
    twins = near_duplicates([row.query for row in usable])
    usable, answers = _without_twins(usable, answers, twins, excluded)
    twins = near_duplicates([row.query for row in usable])
    targets = _targets(usable, answers)
    questions = _questions(answers, twins, related)
    kept = tuple(
        Kept(
            row.id,
            row.query,
            row.given,
            _target(row, targets[answer]),
            row.turns,
            row.weight,
            questions.root(n),
            answer,
            row.audited,
        )
        for n, (row, answer) in enumerate(zip(usable, answers, strict=True))
    )
    reworded = sum(normalize(one.given) != normalize(one.target) for one in kept)
    return Curated(kept, twins, excluded, sources, replaced, reworded)


def without_rejected(rows: Sequence[dict[str, Any]], rejected: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows of a snapshot but for answers that were called bad where they were given once more; and how many those are.

    `rejected`: see `shammah_data.log.ExchangeLog.rejected`. What a user rated or corrected itself stays, and so does what was
    given after the last time that it was called bad.
    """
    last = {(normalize(each["query"]), each["context"], normalize(each["answer"])): each["created_at"] for each in rejected}
    kept = []
    for row in rows:
        called_bad = last.get((normalize(row["query"]), row["context"], normalize(row["target"])))
        if called_bad is None or row["rating"] or row["created_at"] > called_bad:
            kept.append(row)
    return kept, len(rows) - len(kept)


def _usable(rows: Sequence[dict[str, Any]], excluded: Counter[str]) -> list[_Row]:
    usable = []
    for row in rows:
        if not row["target"].strip() or not row["query"].strip():
            excluded["empty"] += 1
        elif is_refusal(row["target"]):
            excluded["refusal"] += 1
        else:
            # A correction is the user's own word; next comes what he called good.
            corrected = row.get("rating") == "bad"
            rank = 1000.0 if corrected else float(row["weight"]) if row.get("rating") == "good" else 0.0
            weight = float(row["weight"])
            audited = row.get("source") == AUDIT
            texts = row["query"], row["target"], row["context"]
            usable.append(_Row(str(row["id"]), *texts, context_of(row), weight, rank, audited, standing(row)))
    return usable


def _answers(rows: Sequence[_Row], likeness: Likeness) -> tuple[list[int], Partition]:
    """The class of each row's answer (rows of one class say the same, in whatever words), and which classes are related."""
    texts: dict[str, int] = {}
    of_text: dict[int, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        of_text[texts.setdefault(row.given, len(texts))].append(n)
    asked = [[rows[n].query for n in of_text[text][-_MOST_COMPARED:]] for text in range(len(texts))]
    found = classes(list(texts), asked, lambda pairs: _asked_alike(pairs, asked, likeness))
    return [found.same.root(texts[row.given]) for row in rows], found.related


def _asked_alike(pairs: Sequence[Pair], asked: Sequence[Sequence[str]], likeness: Likeness) -> list[bool]:
    """For each pair of answers, whether any question of the one is like any of the other."""
    queries = sorted({query for pair in pairs for text in pair for query in asked[text]})
    place = {query: row for row, query in enumerate(queries)}
    vectors_NH = likeness.vectors(queries) if queries else None
    verdicts = []
    for pair in pairs:
        assert vectors_NH is not None
        mine, theirs = (vectors_NH[[place[query] for query in asked[text]]] for text in pair)
        verdicts.append(bool((mine @ theirs.T).max() >= likeness.least))
    return verdicts


def _newest_facts(
    rows: list[_Row], answers: list[int], excluded: Counter[str]
) -> tuple[list[_Row], list[int], tuple[tuple[str, str], ...]]:
    same: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        same[_asks(row.query), row.context].append(n)
    texts = {answer: row.given for row, answer in zip(rows, answers, strict=True)}
    asked = [group for members in same.values() for group in _without_conflict(members, rows)]
    asked_again = [members for members in asked if len(members) > 1]
    replaced = outdated(answers, texts, asked_again, [row.standing for row in rows])
    newest = {answer: row.id for row, answer in zip(rows, answers, strict=True)}
    gone = tuple((row.id, newest[replaced[a]]) for row, a in zip(rows, answers, strict=True) if a in replaced)
    if gone:
        excluded["outdated"] += len(gone)
    left = [n for n, answer in enumerate(answers) if answer not in replaced]
    return [rows[n] for n in left], [answers[n] for n in left], gone


def _asks(query: str) -> tuple[str, ...]:
    """What a query asks, whatever its courtesies; equal means the same question.

    The order counts: "15 - 27" is not "27 - 15", nor "1.5" "5.1".
    """
    plain = normalize(query)
    words = re.findall(r"\d+(?:[.,]\d+)*|[^\W_]+(?:'[^\W_]+)?|[+*/%=<>$€£¥-]", plain)
    # A query of nothing but courtesies or signs asks for itself alone.
    return tuple(word for word in words if word not in _FILLER) or (plain,)


def _without_conflict(members: Sequence[int], rows: Sequence[_Row]) -> list[list[int]]:
    """Exchanges with the same words, parted where a sign that is no word makes another question of it: ".bin" is not "bin"."""
    groups: list[tuple[dict[str, None], list[int]]] = []
    for n in members:
        query = normalize(rows[n].query)
        for queries, group in groups:
            if query in queries or not any(conflict(rows[n].query, other) for other in queries):
                queries[query] = None
                group.append(n)
                break
        else:
            groups.append(({query: None}, [n]))
    return [group for _, group in groups]


def _once(rows: list[_Row], answers: list[int], excluded: Counter[str]) -> tuple[list[_Row], list[int]]:
    """The answer in force to each question takes the newest place; a rating of the same answer stays with it."""
    newest: dict[tuple[str, str], tuple[_Row, int]] = {}
    for row, answer in zip(rows, answers, strict=True):
        key = (normalize(row.query), row.context)
        if key in newest:
            excluded["asked again later"] += 1
            older, its_answer = newest.pop(key)
            if its_answer == answer:
                row = _merged(row, older)
            elif not displaces(row.standing, older.standing):
                row, answer = older, its_answer
        newest[key] = row, answer
    return [row for row, _ in newest.values()], [answer for _, answer in newest.values()]


def _without_twins(
    rows: list[_Row], answers: list[int], twins: Partition, excluded: Counter[str]
) -> tuple[list[_Row], list[int]]:
    """Of near-duplicates with the same answer the newest stays."""
    newest: dict[tuple[int, int, str], tuple[_Row, int]] = {}
    for n, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        key = (twins.root(n), answer, row.context)
        if key in newest:
            excluded["near duplicate"] += 1
            row = _merged(row, newest.pop(key)[0])
        newest[key] = row, answer
    return [row for row, _ in newest.values()], [answer for _, answer in newest.values()]


def _merged(newer: _Row, older: _Row) -> _Row:
    """The newer of two that say the same; it has the better rating, and the wording that got it."""
    given = older.given if older.rank > newer.rank else newer.given
    weight, rank, audited = max(newer.weight, older.weight), max(newer.rank, older.rank), newer.audited or older.audited
    stands = max(newer.standing, older.standing)
    return replace(newer, given=given, weight=weight, rank=rank, audited=audited, standing=stands)


def _targets(rows: Sequence[_Row], answers: Sequence[int]) -> dict[int, str]:
    """The wording that stands for each class: the best rated, else the most central; of single turns, where there are any."""
    of_answer: dict[int, list[_Row]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        of_answer[answer].append(row)
    targets = {}
    for answer, every in of_answer.items():
        members = [row for row in every if not row.turns] or every
        best = max(row.rank for row in members)
        wordings = Counter(row.given for row in members if row.rank == best)
        targets[answer] = most_central(wordings)
    return targets


def _target(row: _Row, canonical: str) -> str:
    """In the middle of a conversation an answer keeps its words: they may take up what was said before."""
    return row.given if row.turns else canonical


def _questions(answers: Sequence[int], twins: Partition, related: Partition) -> Partition:
    """Exchanges that may ask for the same thing: they have related answers or nearly the same query."""
    questions = Partition(len(answers))
    first: dict[int, int] = {}
    for n, answer in enumerate(answers):
        questions.join(n, twins.root(n))
        questions.join(n, first.setdefault(related.root(answer), n))
    return questions
