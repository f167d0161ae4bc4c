"""Why a past question was answered as it was: everything that the log knows of it, in lines. Reads; asks nobody."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from shammah_data import audit_queries
from shammah_data.auditing import is_drawn
from shammah_data.errors import ArtifactError, InputError, LogError
from shammah_data.exchange import IMPORTED, Attempt, Audited
from shammah_data.guard import Guard
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, context_of
from shammah_data.manifest import Manifest
from shammah_data.session import Session, fetch
from shammah_data.store import ModelStore
from shammah_data.targets import behind
from shammah_data.targets import told as target_told
from shammah_data.text import counted, one_line
from shammah_runtime.commands import explained
from shammah_runtime.learned import LearnedIndex, Match, repeatable

_LONGEST = 300


def why(home: Home, log: ExchangeLog, wanted: str | None) -> list[str]:
    """What `told` tells, a line each. Raises LogError, InputError."""
    named = ""
    lines = []
    for name, text in told(home, log, wanted):
        lines.append(f"{name if name != named else '':<10} {text}")
        named = name
    return lines


def told(home: Home, log: ExchangeLog, wanted: str | None, index: LearnedIndex | None = None) -> list[tuple[str, str]]:
    """An exchange by its id, the beginning of one, or None for the newest, as names and what is to be said of each.

    `index`: what is known now, where that has been read already. Raises LogError, InputError without any exchange.
    """
    if not log.exists():
        raise InputError("the log is empty: nothing has been answered yet")
    row, attempts = log.find(wanted if wanted is not None else log.read(_newest))
    exchange_id = str(row["id"])
    facts = [
        ("exchange", f"{exchange_id}, {row['created_at'].isoformat(' ', 'seconds')} UTC, {_place(row)}"),
        ("question", one_line(row["query"], _LONGEST)),
    ]
    if turns := len(context_of(row)) // 2:
        facts.append(("context", counted(turns, "earlier exchange")))
    facts.append(("answer", one_line(row["answer"], _LONGEST) or "none"))
    facts.append(("by", _who(row)))
    facts += [("tried", explained(_attempt(one))) for one in attempts]
    if not attempts:
        facts.append(("tried", "nothing is recorded"))
    facts += [("threshold", line) for line in _thresholds(home, row, attempts)]
    facts.append(("nearest", _nearest(log, row, index)))
    facts.append(("rated", _rated(row)))
    facts.append(("audit", _audited(log, row)))
    facts.append(("cost", _cost(row)))
    return facts


def _newest(session: Session) -> str:
    found = fetch(session, "SELECT id FROM exchanges WHERE source <> 'audit' ORDER BY created_at DESC, turn DESC LIMIT 1")
    if not found:
        raise LogError("the log holds no exchange")
    return str(found[0]["id"])


def _place(row: dict[str, Any]) -> str:
    session = f"session {row['session'][:8]}, turn {row['turn'] + 1}" if row["session"] else "no session"
    return f"{session}, from {row['source']}"


def _who(row: dict[str, Any]) -> str:
    if not row["answer"].strip():
        return "nobody"
    named = row["model_version"] or row["teacher_model"]
    took = "" if row["latency_ms"] is None else f", {row['latency_ms']:.0f} ms"
    whole = "" if row["complete"] else ", incomplete"
    return f"{row['tier']}{f', {named}' if named else ''}{took}{whole}"


def _attempt(row: dict[str, Any]) -> Attempt:
    return Attempt(row["tier"], row["outcome"], row["reason"], row["confidence"], row["threshold"], row["latency_ms"])


def _thresholds(home: Home, row: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> list[str]:
    """What the confidence was held against, and what the version that set it was calibrated for."""
    lines = [
        f"{one['tier']}: confidence {one['confidence']:.3f}, {_side(one)} {one['threshold']:.3f}"
        for one in attempts
        if one["confidence"] is not None and one["threshold"] is not None
    ]
    version = row["model_version"]
    if version is None:
        return lines
    try:
        graphs = Manifest.load(ModelStore(home.models).folder(version)).graphs
    except ArtifactError:
        return [*lines, f"{version} is no longer here"]
    neural = [graph.calibration for graph in graphs]
    learned = [graph.evidence for graph in graphs if graph.evidence is not None]
    for tier, curves in (("neural", neural), ("learned", learned)):
        found = next((one["threshold"] for one in attempts if one["tier"] == tier and one["threshold"] is not None), None)
        if curves and found is not None:
            # Of the graph that answered: no row names it, but no two have the same thresholds.
            steps = [behind(curve, found) for curve in curves]
            step = next((step for step in steps if step.threshold == found), steps[0])
            lines.append(f"{version}, {tier}: {target_told(step)}")
    if raised := Guard(home.models).of(version):
        lines.append(f"{version}: raised to {raised.threshold:.2f} on {raised.since}: {raised.reason}")
    return lines


def _side(attempt: dict[str, Any]) -> str:
    return "at least" if attempt["confidence"] >= attempt["threshold"] else "below"


def _nearest(log: ExchangeLog, row: dict[str, Any], index: LearnedIndex | None) -> str:
    """Of the exchanges that may be repeated now; it may have been another when the question was asked."""
    if index is None:
        index = LearnedIndex()
        # The exchange itself would take the place of another one with the same question.
        others = [other for other in log.learnable() if not context_of(other) and str(other["id"]) != str(row["id"])]
        for known in repeatable(others):
            index.add(known)
    match: Match | None = index.nearest(row["query"], without=str(row["id"]))
    if match is None:
        return "nothing known now is similar"
    found = match.known
    return f"{found.id[:8]} of those known now, similarity {match.similarity:.2f}: {one_line(found.query, 80)}"


def _rated(row: dict[str, Any]) -> str:
    if row["rating"] is None:
        return "not rated"
    weight = "" if row["weight"] == 1.0 else f", it counts {row['weight']:g} times"
    said = "; called bad too: " if row["withdrawn"] else "; it should have been: "
    fixed = "" if row["correction"] is None else f"{said}{one_line(row['correction'], _LONGEST)}"
    return f"{row['rating']}{weight}{fixed}"


def _audited(log: ExchangeLog, row: dict[str, Any]) -> str:
    found = log.read(lambda session: audit_queries.outcomes_of(session, str(row["id"])))
    if found:
        return "; ".join(map(_outcome, found))
    probability = row["teacher_probability"] or 0.0
    if row["tier"] in ("teacher", "import") or row["source"].startswith(IMPORTED) or not probability:
        return "none: it was not to be audited"
    exchange_id, since = str(row["id"]), row["created_at"].replace(tzinfo=UTC)
    if not log.read(lambda session: audit_queries.waiting(session, since, exchange_id)):
        return "none: it was asked, and the teacher gave no whole answer"
    if (rival := log.read(lambda session: audit_queries.rivals_since(session, since)).get(exchange_id)) is not None:
        probability = rival.probability
    said = "none so far: it was" if is_drawn(exchange_id, probability) else "none: it was not"
    return f"{said} drawn for one, with probability {probability:.2f}"


def _outcome(one: Audited) -> str:
    reason = f" ({one.reason})" if one.reason else ""
    asked = "" if one.given else ", which would have answered too,"
    alone = "; the other version of the trial would have declined" if one.rival_declined else ""
    return f"{one.version}{asked} {'agreed' if one.agrees else 'disagreed'} with the teacher{reason}{alone}"


def _cost(row: dict[str, Any]) -> str:
    known = (("prompt_tokens", "read"), ("answer_tokens", "written"))
    tokens = [f"{counted(row[key], 'token')} {name}" for key, name in known if row[key] is not None]
    if row["tier"] == "teacher" and not (row["answer"] or tokens or row["cost_usd"]):
        usd = "nothing that is known: nobody answered"
    elif row["tier"] == "teacher":
        # Of an answer that broke off nobody says how many tokens were written.
        least = "" if row["complete"] or row["answer_tokens"] is not None or not row["answer"] else "at least "
        usd = "unknown price" if row["cost_usd"] is None else f"{least}${row['cost_usd']:.5f}"
    else:
        usd = "nothing: it was answered here"
    return ", ".join([usd, *tokens])
