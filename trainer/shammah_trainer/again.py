"""Known exchanges as if each were asked now for the first time: labels for earlier answers that no question is held out for.

A night holds out few questions, and a threshold rests on labels. Which earlier answer the rest of the log has for a known
question, and whether it is right, can be told without holding it out: by leaving the exchange itself out of the index. Only how
likely the model would find that answer can not, since it was trained on it. So that comes from held-out questions (hot-deck
imputation): of a right answer from such as found a right one first, of a wrong one from such as found a wrong one.
"""

from collections.abc import Sequence

from shammah_data.judge import judge
from shammah_runtime.engine.evidence import LIKELIHOODS, Features, candidates, retrieved
from shammah_trainer.earlier import Earlier
from shammah_trainer.lookups import Lookup, Tried
from shammah_trainer.unlogged import Unlogged, draw, spaced

# Of so many exchanges, drawn, it is told: more would change the thresholds little and cost time.
_LOOKED_AT = 1000


def asked_again(earlier: Earlier, seed: int) -> list[Lookup]:
    """One for each of many known exchanges for which something is found, with what retrieval alone says for the answers.

    None without an embedder.
    """
    found = []
    for example in sorted(earlier.known, key=lambda one: draw(seed, one.query))[:_LOOKED_AT]:
        tried = []
        for one in candidates(example.query, earlier.without(example)):
            if one.agreeing is None:
                continue
            right = bool(judge(example.target, one.answer))
            # Wordings of one group that are not judged to say the same: neither right nor wrong.
            if right or earlier.group(one.agreeing.id) != example.group:
                tried.append(Tried(one.answer, retrieved(one), right))
        if tried:
            found.append(Lookup("phrasing", str(example.group), tuple(tried)))
    return found


def imputed(again: Sequence[Lookup], unlogged: Sequence[Unlogged], lookups: Sequence[Lookup], seed: int) -> list[Lookup]:
    """The known queries, and beside them some as if never logged, with log-probabilities of the held-out `lookups`.

    An answer to what was never logged gets those of a right one, the worst that can be. Empty where no held-out question found
    a right answer first, or none a wrong one.
    """
    asked = sorted((one for one in lookups if one.tried), key=lambda one: draw(seed, repr(one.tried)))
    firsts = [one.tried[0] for one in asked]
    of = {
        right: [{name: one.features[name] for name in LIKELIHOODS} for one in firsts if one.right is right]
        for right in (True, False)
    }
    if not of[True] or not of[False]:
        return []

    def drawn(right: bool, place: int) -> Features:
        return of[right][place % len(of[right])]

    made = [
        Lookup(
            one.kind,
            one.group,
            tuple(
                Tried(tried.answer, tried.features | drawn(tried.right, n + at), tried.right)
                for at, tried in enumerate(one.tried)
            ),
        )
        for n, one in enumerate(again)
    ]
    for n, new in enumerate(spaced(unlogged, len(again))):
        if new.retrieved is not None:
            tried = Tried(new.answer, new.retrieved | drawn(True, n), right=False)
            made.append(Lookup("group", str(new.group), (tried,)))
    return made
