"""Past exchanges whose queries are most like a text, by the cosine of their embeddings. Knows the log and the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shammah_data import queries
from shammah_data.embedder import NAME
from shammah_data.embeddings import EmbeddingCache, Kept, similarities
from shammah_data.errors import ArtifactError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.present import who
from shammah_data.session import Session
from shammah_data.text import one_line
from shammah_runtime.engine.embedder import Embedder

# New queries that are embedded before their vectors are put on disk: an interrupted search loses no more.
_AT_ONCE = 512


@dataclass(frozen=True)
class Similar:
    """A row of the log and its similarity, the cosine from -1 to 1."""

    row: dict[str, Any]
    similarity: float


def find_similar(
    home: Home, log: ExchangeLog, text: str, limit: int, threads: int, progress: Callable[[int, int], None] | None = None
) -> list[Similar]:
    """The exchanges most like `text`, nearest first, the newer first of two that are as near.

    `progress` is told how many of the new queries are embedded, and how many there are. Raises ArtifactError where no
    embedder is installed or it is damaged, and LogError.
    """
    if not (home.embedder / NAME).exists():
        raise ArtifactError("similarity needs the embedder: run `shammah-train embedder` once (shammah-log search finds words)")
    query_of = log.read(_queries, wait=10.0)
    embedder = Embedder(home.embedder, threads)
    kept = _embedded(home, embedder, query_of, progress)
    if not query_of:
        return []
    found = similarities(kept, embedder.embed([text])[0])
    cosine_of = dict(zip(kept.ids, found.tolist(), strict=True))
    ids = list(query_of)
    cosines = np.array([cosine_of[identity] for identity in ids])
    # A stable sort: they come newest first.
    nearest = [ids[at] for at in np.argsort(-cosines, kind="stable")[:limit]]
    # What another process forgot meanwhile is not among them.
    rows = log.read(lambda session: queries.selected(session, queries.Selection(ids=tuple(nearest))), wait=10.0)
    row_of = {str(row["id"]): row for row in rows}
    return [Similar(row_of[identity], cosine_of[identity]) for identity in nearest if identity in row_of]


def _queries(session: Session) -> dict[str, str]:
    """The query of every exchange by its id, newest first."""
    found = session.execute("SELECT id::VARCHAR, query FROM exchanges ORDER BY created_at DESC, turn DESC").fetchall()
    return dict(found)


def _embedded(home: Home, embedder: Embedder, query_of: dict[str, str], progress: Callable[[int, int], None] | None) -> Kept:
    """The vectors of all queries: those that are kept, and the others newly made."""
    cache = EmbeddingCache(home, embedder.card.digest, embedder.card.dimensions)
    kept = cache.keep(query_of)
    known = set(kept.ids)
    # What was asked many times is embedded once.
    new: dict[str, list[str]] = {}
    for identity, query in query_of.items():
        if identity not in known:
            new.setdefault(query, []).append(identity)
    ids, vectors = list(kept.ids), [kept.vectors]
    for start in range(0, len(new), _AT_ONCE):
        asked = list(new)[start : start + _AT_ONCE]
        vectors_NH = embedder.embed(asked)
        part = [(identity, row) for row, query in enumerate(asked) for identity in new[query]]
        part_ids, part_NH = [identity for identity, _ in part], vectors_NH[[row for _, row in part]]
        cache.add(part_ids, part_NH)
        ids += part_ids
        vectors.append(part_NH.astype(np.float16))
        if progress:
            progress(min(start + _AT_ONCE, len(new)), len(new))
    return Kept(ids, np.concatenate(vectors))


def told(one: Similar) -> str:
    """A line for a person: similarity, id, who answered, question and answer."""
    row = one.row
    asked, answered = one_line(row["query"], 44), one_line(row["answer"], 50)
    return f"{one.similarity:5.2f} {str(row['id'])[:8]} {who(row):<8} {asked:<44} {answered}"
