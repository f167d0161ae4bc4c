"""Exchanges as the page shows them: in a list, one alone with why, and what a form says of one. Knows rows, no request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shammah_data.errors import InputError
from shammah_data.exchange import WEIGHTS
from shammah_data.promise import kept_out
from shammah_data.served import LONGEST
from shammah_runtime.http import feedback_api
from shammah_runtime.http.feedback_api import FeedbackRequest
from shammah_runtime.http.overview import duration

_LONGEST_TITLE = 200
# What a whole page shows of a question or an answer; `shammah-log show` has the rest.
_LONGEST_TEXT = 50_000
_RATINGS = ("good", "bad", "critical")


@dataclass(frozen=True)
class Shown:
    """One exchange; texts are cut. `state`: which of its buttons is pressed; `withdrawn`: whether the correction was
    called bad too; `noted`: what has just been done to it.
    """

    id: str
    title: str
    rest: str
    answer: str
    who: str
    facts: tuple[str, ...]
    at: datetime
    tried: tuple[tuple[str, str], ...]
    state: str
    rated: str
    correction: str | None
    withdrawn: bool
    noted: str = ""


def shown(row: Mapping[str, Any], noted: str = "", longest: int = LONGEST) -> Shown:
    """A row of `served.asked`."""
    question = row["query"].strip()
    title = cut(question, _LONGEST_TITLE)
    answered = bool(row["answer"].strip())
    facts = [
        row["model_version"] or row["teacher_model"],
        None if row["confidence"] is None else f"confidence {row['confidence']:.2f}",
        None if row["latency_ms"] is None else duration(row["latency_ms"]),
        None if row["complete"] or not answered else "incomplete",
        f"from {row['source']}",
    ]
    return Shown(
        id=str(row["id"]),
        title=title,
        rest=cut(question, longest) if title != question else "",
        answer=cut(row["answer"], longest) if answered else "",
        who=row["tier"] if answered else "nobody",
        facts=tuple(one for one in facts if one),
        at=row["created_at"],
        tried=tuple((one["tier"], _tried(one)) for one in row.get("attempts", ())),
        state=_state(row),
        rated=_rated(row),
        correction=None if row["correction"] is None else cut(row["correction"], longest),
        withdrawn=bool(row["withdrawn"]),
        noted=noted,
    )


def alone(row: Mapping[str, Any], noted: str = "") -> Shown:
    """A whole row of the log, for a page of its own."""
    return shown(row, noted, _LONGEST_TEXT)


def read(exchange_id: str, given: Mapping[str, str]) -> FeedbackRequest:
    """What a form says of an exchange, as /v1/feedback takes it. Raises InputError."""
    rating, correction = given.get("rating", ""), given.get("correction", "").strip()
    # A browser sends the ends of lines as CR LF.
    correction = correction.replace("\r\n", "\n")
    if rating == "fix":
        if not correction:
            raise InputError("write what the answer should have been")
        weight = WEIGHTS[-1] if given.get("critical") else WEIGHTS[0]
        asked = {"id": exchange_id, "rating": "bad", "correction": correction, "weight": weight}
        return feedback_api.read(json.dumps(asked).encode())
    if rating not in _RATINGS:
        raise InputError("rating: good, bad, critical or fix")
    weight = WEIGHTS[-1] if rating == "critical" else WEIGHTS[0]
    asked = {"id": exchange_id, "rating": "bad" if rating == "bad" else "good", "weight": weight}
    return feedback_api.read(json.dumps(asked).encode())


def noted(asked: FeedbackRequest, row: Mapping[str, Any]) -> str:
    """What is told of a rating; `row`: the exchange as it is then."""
    fixed = asked.correction is not None
    if asked.rating == "bad" and not fixed:
        return "Noted: wrong; it is never trained on."
    correction = asked.correction if fixed or row["withdrawn"] else row["correction"]
    why_not = kept_out(row["trainable"], row["complete"], row["answer"], correction)
    if fixed:
        return "Noted: this is what it will learn." if why_not is None else f"Noted, and not trained on: {why_not}."
    if asked.weight < WEIGHTS[-1]:
        return "Noted: right."
    return "Noted: right, it counts ten times." if why_not is None else f"Noted: right, and not trained on: {why_not}."


def cut(text: str, longest: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def why(told: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """What `shammah_runtime.why` tells, by name, without what the page shows anyway."""
    found: dict[str, list[str]] = {}
    for name, text in told:
        if name not in ("question", "answer"):
            found.setdefault(name, []).append(text)
    return list(found.items())


def _tried(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['outcome']}, {duration(attempt['latency_ms'])}: {attempt['reason']}"


def _state(row: Mapping[str, Any]) -> str:
    if row["rating"] == "good" and row["weight"] >= WEIGHTS[-1]:
        return "critical"
    return row["rating"] or ""


def _rated(row: Mapping[str, Any]) -> str:
    state = _state(row)
    return f"rated {state}" if state else "not rated"
