"""Past exchanges from files: JSON lines of {"query": ..., "response": ...}. Knows the format, not the log."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shammah_data.errors import InputError
from shammah_data.exchange import Exchange

# A fixed namespace makes the same line the same exchange, so that importing a file twice adds nothing.
_NAMESPACE = uuid.UUID("6f0c3a52-2b53-4f6e-9d2e-8f2f4d1c7a10")


@dataclass
class BadLines:
    """Lines that could not be used: how many, and the first few by number and reason."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Count one bad line."""
        self.count += 1
        if len(self.named) < 5:
            self.named.append(f"line {number}: {reason}")


def read_jsonl(path: Path, bad: BadLines) -> Iterator[Exchange]:
    """Exchanges of a JSON-lines file, in its order; unusable lines are counted in `bad`.

    Raises InputError when the file cannot be read at all.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                bad.add(number, f"not JSON ({error})")
                continue
            except RecursionError:
                bad.add(number, "nested too deeply")
                continue
            if not isinstance(row, dict):
                bad.add(number, "not an object")
                continue
            query, answer = row.get("query"), row.get("response")
            if not isinstance(query, str) or not isinstance(answer, str) or not query.strip() or not answer.strip():
                bad.add(number, 'needs non-empty strings "query" and "response"')
                continue
            try:
                identity = uuid.uuid5(_NAMESPACE, json.dumps([query, answer], ensure_ascii=False))
            except UnicodeEncodeError:
                bad.add(number, "half a surrogate pair, which is no character")
                continue
            yield Exchange(
                id=str(identity),
                query=query,
                answer=answer,
                tier="import",
                source=f"import:{path.name}",
                teacher_probability=1.0,
            )
