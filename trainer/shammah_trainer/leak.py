"""Does a split leak: is anything held out that was trained on all the same? Looks at texts, and trusts no split's word."""

from collections.abc import Collection

from shammah_data.judge import normalize
from shammah_data.text import counted
from shammah_trainer.dataset import Dataset, held_out_turns
from shammah_trainer.duplicates import near_duplicates


def leaks(dataset: Dataset, earlier: Collection[str] = ()) -> list[str]:
    """One line for each way in which held-out exchanges were seen in training; empty for a clean split.

    `earlier`: the queries that earlier nights trained on, where the weights come from these.
    """
    heldout = (*dataset.heldout_phrasings, *dataset.heldout_groups)
    trained = [*(example.query for example in dataset.train), *earlier]
    taught = set(map(normalize, trained))
    twins = near_duplicates([*trained, *(example.query for example in heldout)])
    known = {twins.root(n) for n in range(len(trained))}
    same = sum(normalize(example.query) in taught for example in heldout)
    near = sum(twins.root(n) in known for n in range(len(trained), len(trained) + len(heldout))) - same
    answers = {normalize(example.target) for example in dataset.train}
    told = sum(normalize(example.target) in answers for example in dataset.heldout_groups)
    behind = sum(map(bool, held_out_turns(dataset.train, dataset.heldout_phrasings, dataset.heldout_groups)))
    reasons = []
    if same:
        reasons.append(f"{same} of {counted(len(heldout), 'held-out question')} {_were(same)} trained on")
    if near > 0:
        reasons.append(
            f"{near} of {counted(len(heldout), 'held-out question')} {_were(near)} trained on in nearly the same words"
        )
    if told:
        reasons.append(
            f"the answers of {told} of {counted(len(dataset.heldout_groups), 'exchange')} of held-out groups were trained on"
        )
    if behind:
        contexts = sum(bool(example.context) for example in dataset.train)
        reasons.append(
            f"{behind} of {counted(contexts, 'context that was', 'contexts that were')} trained on "
            f"{'holds' if behind == 1 else 'hold'} held-out exchanges"
        )
    return reasons


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
