"""Puts the teacher together from the settings, the environment and the log. Knows where its key is, and shows it nobody."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from shammah_data.log import ExchangeLog
from shammah_data.queries import spent_since
from shammah_data.settings import TeacherSection
from shammah_runtime.budget import Budget, Ledger
from shammah_runtime.prices import PRICES
from shammah_runtime.teacher import Teacher, TeacherSettings

_WAIT_SECONDS = 0.25
# Whose key OPENAI_API_KEY is: other tools put it there for this service, and no other is to see it.
_OPENAI = "openai.com"


def make_teacher(section: TeacherSection, context_turns: int, log: ExchangeLog) -> Teacher:
    """The teacher that the settings describe."""
    settings = TeacherSettings(
        model=section.model,
        max_tokens=section.max_tokens,
        system=section.system or None,
        first_token_seconds=section.first_token_seconds,
        total_seconds=section.total_seconds,
        base_url=section.base_url or None,
        prices=(*((one.model, one.input, one.output) for one in section.prices), *PRICES),
        kind=section.kind,
        failures=section.failures,
        pause_seconds=section.pause_seconds,
        cache=section.cache,
        cache_turns=2 * context_turns,
    )
    budget = Budget(section.daily_usd, _spent(log), Ledger(log.home.spent)) if section.daily_usd else None
    return Teacher(settings, key_of(section, os.environ), budget=budget)


def key_names(section: TeacherSection) -> tuple[str, ...]:
    """The variables that may hold the key for a kind of teacher, the first one first."""
    if section.kind != "openai":
        return ("ANTHROPIC_API_KEY",)
    return ("SHAMMAH_TEACHER_KEY", "OPENAI_API_KEY") if _of_openai(section.base_url) else ("SHAMMAH_TEACHER_KEY",)


def key_of(section: TeacherSection, environment: Mapping[str, str]) -> str | None:
    """The key for a kind of teacher."""
    return next((key for name in key_names(section) if (key := environment.get(name))), None)


def _of_openai(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        # An address that is none: the first question says so.
        return False
    return parts.scheme == "https" and (host == _OPENAI or host.endswith(f".{_OPENAI}"))


def _spent(log: ExchangeLog) -> Callable[[datetime], float]:
    def since(day: datetime) -> float:
        return log.read(lambda session: spent_since(session, day), _WAIT_SECONDS) if log.exists() else 0.0

    return since
