"""Is a run due, and what does it wait for if not? Pure values; knows no log and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shammah_data.settings import TrainSettings
from shammah_data.text import counted

# The newest answers of a session, and as many before them, show whether the local share falls.
WATCHED_ANSWERS = 200
# Audits of the version that serves of which is told: the newest so many.
WATCHED_AUDITS = 100
_FEWEST_ANSWERS = 50


@dataclass(frozen=True)
class LastRun:
    """The newest run: whether it failed, when it ended (UTC), and with which recipe and base.

    `again`: it came to nothing because something that it learned from was forgotten meanwhile.
    """

    id: str
    failed: bool
    finished: datetime
    recipe: str | None
    again: bool = False


@dataclass(frozen=True)
class State:
    """What is known before a run.

    `learnable`: exchanges to learn from; `new`: those and ratings since the last run. `local`: (answers, local ones) of the
    newest answers and of as many before them. `slipped`: what audits say of the version that serves where its precision is
    surely below the target. `recipe`: of the settings as they are now. `gone`: the last run's version is no longer there.
    `stale`: versions that may know what was forgotten. `trial`: what is on trial, in words. `pinned`: whether the champion is.
    """

    learnable: int
    new: int
    last: LastRun | None
    local: Sequence[tuple[int, int]]
    slipped: str | None
    recipe: str
    gone: bool
    stale: Sequence[str]
    trial: str | None
    now: datetime
    pinned: bool = False


@dataclass(frozen=True)
class Due:
    """`reasons` for a run; none: `waits` says in one line for what."""

    reasons: tuple[str, ...]
    waits: str = ""


def due(state: State, train: TrainSettings) -> Due:
    """Decide by the settings."""
    known = still_serving(state.stale, state.pinned)
    if state.learnable < train.min_examples:
        return Due((), f"{state.learnable} of {counted(train.min_examples, 'exchange')}{known}")
    if state.last is None:
        return Due(("the first run",))
    if state.trial is not None and not state.stale:
        return Due((), f"waits for the end of a trial: {state.trial}")
    reasons = []
    if state.last.failed:
        reasons.append("the last run failed")
    if state.last.again:
        reasons.append("something was forgotten during the last run")
    if state.gone:
        reasons.append("the last run's version is gone")
    if state.stale and not state.pinned:
        reasons.append(f"{', '.join(state.stale)} may know what was forgotten")
    if state.recipe != state.last.recipe:
        reasons.append("the base or the settings of the training changed")
    if state.new:
        reasons += _by_news(state, state.last, train)
    if reasons:
        return Due(tuple(reasons))
    return Due((), _waits(state, state.last, train) + (known if state.pinned else ""))


def still_serving(stale: Sequence[str], pinned: bool) -> str:
    """What to say beside a run that is skipped where a version still knows what was forgotten."""
    cure = "is pinned: shammah-train unpin lets another one serve" if pinned else "still serves: --force trains without it"
    return f"; {', '.join(stale)} may know what was forgotten and {cure}" if stale else ""


def _by_news(state: State, last: LastRun, train: TrainSettings) -> list[str]:
    """Without anything new a run would only make the same version again."""
    reasons = []
    if state.new >= train.new_examples:
        reasons.append(f"{counted(state.new, 'new exchange or rating', 'new exchanges and ratings')}")
    days = (state.now - last.finished) / timedelta(days=1)
    if days >= train.max_age_days:
        reasons.append(f"the last run was {counted(round(days), 'day')} ago")
    if len(state.local) == 2 and all(answers >= _FEWEST_ANSWERS for answers, _ in state.local):
        share, before = (local / answers for answers, local in state.local)
        if share <= before - train.local_share_drop:
            reasons.append(f"the local share fell from {before:.0%} to {share:.0%}")
    if state.slipped is not None:
        reasons.append(state.slipped)
    return reasons


def _waits(state: State, last: LastRun, train: TrainSettings) -> str:
    if not state.new:
        wanted = counted(train.new_examples, "exchange or rating", "exchanges or ratings")
        return f"nothing new since run {last.id}: waits for {wanted}"
    until = last.finished + timedelta(days=train.max_age_days)
    return (
        f"{state.new} of {train.new_examples} new exchanges and ratings since run {last.id}: waits for the others, until "
        f"{until:%Y-%m-%d}, or for the local share or the audited precision to fall"
    )
