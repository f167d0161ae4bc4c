"""What a night's answers are worth: shares, ranking, coverage and their spread. Pure numbers; knows no model and no file.

A query is of one kind: `heldout`, another phrasing of what was logged; `reserved`, never logged; `outside`, out of scope.
Only a held-out query can be answered rightly.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["heldout", "reserved", "outside"]
# So many phrasings of a question were logged.
BANDS = ((1, 1), (2, 4), (5, 9), (10, 10**9))
PRECISIONS = (0.95, 0.99)


@dataclass(frozen=True)
class Asked:
    """One query and what the version made of it. `logged`: phrasings of its cluster in the log; `cluster` also tells what to
    draw together when the spread is estimated."""

    kind: Kind
    cluster: str
    query: str
    answer: str
    right: bool
    confidence: float
    accepted: bool
    logged: int = 0


def auroc(asked: Sequence[Asked]) -> float:
    """The chance that a right answer is surer than another one; NaN without both (Mann and Whitney, 1947)."""
    ranked = sorted(asked, key=lambda one: one.confidence)
    right = sum(one.right for one in ranked)
    wrong = len(ranked) - right
    if not right or not wrong:
        return float("nan")
    beaten, won, at = 0, 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end].confidence == ranked[at].confidence:
            end += 1
        good = sum(one.right for one in ranked[at:end])
        bad = end - at - good
        won += good * (beaten + bad / 2)
        beaten, at = beaten + bad, end
    return won / (right * wrong)


def coverage(asked: Sequence[Asked], precision: float) -> float:
    """The largest share of held-out queries that one threshold accepts while that share of all it accepts is right.

    In hindsight: the threshold is chosen on these very answers.
    """
    heldout = sum(one.kind == "heldout" for one in asked)
    ranked = sorted(asked, key=lambda one: -one.confidence)
    best = taken = right = 0
    for at, one in enumerate(ranked):
        taken += one.kind == "heldout"
        right += one.right
        # A threshold cannot part two answers that are equally sure.
        apart = at + 1 == len(ranked) or ranked[at + 1].confidence < one.confidence
        if apart and right >= precision * (at + 1):
            best = taken
    return best / heldout if heldout else float("nan")


def deployed(asked: Sequence[Asked]) -> dict[str, float]:
    """The same at the threshold that was published: coverage, and the share right of all that was accepted."""
    heldout = [one for one in asked if one.kind == "heldout"]
    taken = [one for one in asked if one.accepted]
    return {
        "coverage": sum(one.accepted for one in heldout) / len(heldout) if heldout else float("nan"),
        "precision": sum(one.right for one in taken) / len(taken) if taken else float("nan"),
    }


def _share_right(asked: Sequence[Asked]) -> float:
    heldout = [one.right for one in asked if one.kind == "heldout"]
    return sum(heldout) / len(heldout) if heldout else float("nan")


MEASURES: dict[str, Callable[[Sequence[Asked]], float]] = {
    "right": _share_right,
    "auroc": auroc,
    "coverage at 95%": lambda asked: coverage(asked, 0.95),
    "coverage at 99%": lambda asked: coverage(asked, 0.99),
    "deployed coverage": lambda asked: deployed(asked)["coverage"],
    "deployed precision": lambda asked: deployed(asked)["precision"],
}


# What a night that published nothing is not worth 0 of, but nothing that is known.
UNKNOWN = ("auroc", "deployed precision")


def told(figure: dict[str, float]) -> str:
    """A measure and its interval; `none` where there was nothing to measure."""
    if math.isnan(figure["value"]):
        return "  none"
    return f"{figure['value']:6.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"


def spread(values: Sequence[float], of: str) -> str:
    """Mean, least and most of those that are numbers, and how many these are where not all; `of` names them."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "  none"
    fewer = f", {len(known)} of {len(values)} {of}" if len(known) < len(values) else ""
    return f"{sum(known) / len(known):6.3f}  ({min(known):.3f} to {max(known):.3f}){fewer}"


def plain(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def measure(asked: Sequence[Asked], draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Each measure with the interval that holds 95% of its values over `draws` of whole clusters, with replacement.

    Efron, "Bootstrap methods: another look at the jackknife", 1979; whole clusters, as phrasings of one question are right or
    wrong together.
    """
    clusters: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for one in asked:
        clusters[one.kind, one.cluster].append(one)
    of_kind: dict[str, list[list[Asked]]] = defaultdict(list)
    for (kind, _), members in sorted(clusters.items()):
        of_kind[kind].append(members)
    rng = random.Random(seed)
    drawn: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(draws):
        again = [one for every in of_kind.values() for members in rng.choices(every, k=len(every)) for one in members]
        for name, value_of in MEASURES.items():
            value = value_of(again)
            if value == value:
                drawn[name].append(value)
    found = {}
    for name, value_of in MEASURES.items():
        values = sorted(drawn[name])
        low, high = (values[int(q * (len(values) - 1))] for q in (0.025, 0.975)) if values else (float("nan"),) * 2
        found[name] = {"value": value_of(asked), "low": low, "high": high}
    return found


def by_logged(asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    """Held-out queries by how many phrasings of theirs were logged: how many, share right, share accepted."""
    found = {}
    for least, most in BANDS:
        some = [one for one in asked if one.kind == "heldout" and least <= one.logged <= most]
        if some:
            found[str(least) if least == most else f"{least}+" if most > 10**6 else f"{least}-{most}"] = {
                "asked": len(some),
                "right": sum(one.right for one in some) / len(some),
                "accepted": sum(one.accepted for one in some) / len(some),
            }
    return found


def figures(asked: Sequence[Asked], draws: int, seed: int) -> dict[str, Any]:
    """All of it, for one night."""
    kinds = {
        kind: {
            "asked": len(some),
            "accepted": sum(one.accepted for one in some),
            "accepted_right": sum(one.accepted and one.right for one in some),
        }
        for kind in ("heldout", "reserved", "outside")
        if (some := [one for one in asked if one.kind == kind])
    }
    return {"measures": measure(asked, draws, seed), "by_logged": by_logged(asked), "kinds": kinds}


def rows(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Every query as a row of JSON."""
    return [asdict(one) for one in asked]
