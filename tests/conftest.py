"""The order of the tests: what takes longest begins first, so that two workers end at the same time."""

from collections.abc import Sequence

import pytest

# Folders whose files are few and long; the others follow as they are collected.
LONGEST = ("e2e", "trainer", "export")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order within a folder."""
    items.sort(key=lambda item: _rank(item.path.parts))


def _rank(parts: Sequence[str]) -> int:
    return next((rank for rank, folder in enumerate(LONGEST) if folder in parts[-2:-1]), len(LONGEST))
