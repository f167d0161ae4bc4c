"""Does a split leak: is anything held out that was trained on all the same? Looks at texts, and trusts no split's word."""

from shammah_data.judge import normalize
from shammah_trainer.dataset import Dataset
from shammah_trainer.duplicates import near_duplicates


def leaks(dataset: Dataset) -> list[str]:
    """One line for each way in which held-out exchanges were seen in training; empty for a clean split."""
    heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    taught = {normalize(example.query) for example in dataset.train}
    twins = near_duplicates([*(example.query for example in dataset.train), *(example.query for example in heldout)])
    known = {twins.root(n) for n in range(len(dataset.train))}
    same = sum(normalize(example.query) in taught for example in heldout)
    near = sum(twins.root(n) in known for n in range(len(dataset.train), len(dataset.train) + len(heldout))) - same
    answers = {normalize(example.target) for example in dataset.train}
    told = sum(normalize(example.target) in answers for example in dataset.heldout_groups)
    reasons = []
    if same:
        reasons.append(f"{same} of {len(heldout)} held-out questions were trained on")
    if near > 0:
        reasons.append(f"{near} of {len(heldout)} held-out questions were trained on in nearly the same words")
    if told:
        reasons.append(f"the answers of {told} of {len(dataset.heldout_groups)} exchanges of held-out groups were trained on")
    return reasons
