"""How the log's commands find the log and say which exchanges they mean. Knows options, not what is done with them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.settings import Settings

Ids = Annotated[list[str] | None, typer.Argument(help="Ids, or their beginnings.")]
Search = Annotated[list[str] | None, typer.Option("--search", help="Those that hold this word; may be given several times.")]
Since = Annotated[
    str | None, typer.Option("--since", help="Those from this time on: 2026-11-25, 2026-11-25T18:00, or 2h, 7d ago.")
]
Before = Annotated[str | None, typer.Option("--before", help="Those before this time.")]
Source = Annotated[str | None, typer.Option("--source", help="Those from here: serve, or import:FILE.")]
TeacherModel = Annotated[str | None, typer.Option("--teacher-model", help="Those that this model answered.")]
_AGE = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def open_log() -> tuple[Home, ExchangeLog]:
    """The home and its log, by the environment and config.toml."""
    home = Home.find().create()
    return home, ExchangeLog(home, Settings.load(home.settings))


def chosen(
    log: ExchangeLog,
    ids: list[str] | None,
    search: list[str] | None,
    since: str | None,
    before: str | None,
    source: str | None,
    teacher_model: str | None,
) -> Selection:
    """What the options select; each id is completed. Raises InputError, LogError."""
    selection = Selection(
        ids=tuple(str(log.find(one)[0]["id"]) for one in ids or ()),
        words=tuple(search or ()),
        since=moment(since),
        before=moment(before),
        source=source,
        teacher_model=teacher_model,
    )
    _ = selection.condition  # says what is missing before anything else is asked
    return selection


def moment(text: str | None, now: datetime | None = None) -> datetime | None:
    """A time given as ISO 8601 (local where it names no zone) or as an age; None for None. Raises InputError."""
    if text is None:
        return None
    try:
        if age := _AGE.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # years below 1 and above 9999 cannot be told
        raise InputError(f"{text!r} is no time: write 2026-11-25, 2026-11-25T18:00, or an age such as 2h or 7d") from error
