"""What a file says: its bytes, and the rows of the kinds of file that compress theirs. Knows no log."""

from pathlib import Path

import duckdb


def said_in(path: Path) -> bytes:
    """The bytes of a file, and the text of every row where it is a DuckDB database or a Parquet file."""
    content = path.read_bytes()
    if path.suffix not in (".duckdb", ".parquet"):
        return content
    with duckdb.connect() as connection:
        if path.suffix == ".parquet":
            rows = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        else:
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS it (READ_ONLY)")
            names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'it'").fetchall()
            rows = [row for (name,) in names for row in connection.execute(f"FROM it.{name}").fetchall()]
    return content + str(rows).encode()


def files_in(*roots: Path) -> list[Path]:
    """Every file below some folders."""
    return [path for root in roots for path in root.rglob("*") if path.is_file()]
