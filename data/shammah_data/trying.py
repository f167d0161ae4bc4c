"""Records tried out: whether a record cannot be stored, or a database cannot store. Knows no path and no server."""

from collections.abc import Iterable
from typing import Any

from shammah_data import rows, schema
from shammah_data.session import LocalSession


def refused(records: Iterable[dict[str, Any]]) -> set[int]:
    """The places, from 0, of the records that the log's tables refuse even while they are empty."""
    import duckdb

    found = set()
    with duckdb.connect(":memory:") as connection:
        for migration in schema.MIGRATIONS:
            connection.execute(migration)
        for place, record in enumerate(records):
            try:
                rows.insert(LocalSession(connection), [record])
            except (duckdb.DataError, duckdb.IntegrityError):
                found.add(place)
    return found
