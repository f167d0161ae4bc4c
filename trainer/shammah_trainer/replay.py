"""Everyday exchanges that every run trains on beside the log. Knows their file, and which of them to leave out.

A model that saw nothing but its own log takes every question for one of those: trained on sums alone, it answered "what is
the balance of my account" with a sum, and was sure of it.
"""

import json
from importlib import resources

from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.duplicates import near_duplicates


def replayed(dataset: Dataset) -> tuple[Example, ...]:
    """The exchanges of replay.jsonl, without those whose query the log knows: there the log's answer counts."""
    lines = resources.files("shammah_trainer").joinpath("replay.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    known = [e.query for e in (*dataset.train, *dataset.heldout_phrasings, *dataset.heldout_groups)]
    twins = near_duplicates([*known, *(row["query"] for row in rows)])
    taken = {twins.root(n) for n in range(len(known))}
    return tuple(
        Example(f"replay-{n}", row["query"], row["response"], group=-1 - n)
        for n, row in enumerate(rows)
        if twins.root(len(known) + n) not in taken
    )
