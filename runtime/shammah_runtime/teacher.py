"""Asks the teacher: one streamed answer, our own deadline, at most two requests, none while it is down or too dear.

Knows messages, text, tokens and prices. Knows no tiers, no log and no terminal: the text it hands on is as the teacher sent
it, and whoever shows it must sanitize it. How a service is spoken to, the kinds of requests know.
"""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from shammah_data.errors import TeacherError
from shammah_data.exchange import Message
from shammah_runtime.breaker import Breaker
from shammah_runtime.budget import Budget
from shammah_runtime.claude import ClaudeRequest, import_sdk
from shammah_runtime.failures import LONGEST_MESSAGE, Called, Failure, safe
from shammah_runtime.openai_shape import OpenAIRequest
from shammah_runtime.prices import PRICES, Price, cost_usd, price_of
from shammah_runtime.request import Delta, End, Request
from shammah_runtime.stopping import NEVER, Stop

FINISHED = frozenset({"end_turn", "stop_sequence"})
BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 5.0
_SLICE_SECONDS = 0.1
Kind = Literal["claude", "openai"]


@dataclass(frozen=True)
class TeacherSettings:
    """What to ask and how long to wait; seconds count from the call of `ask`, over both requests.

    `first_token_seconds` ends with the first sign of an answer, thinking included. `base_url` None leaves the SDK's
    default (ANTHROPIC_BASE_URL, else api.anthropic.com). A price counts for its model, for dated releases of it, and for
    whatever name without a price of its own the model that was asked gives itself.
    After `failures` in a row nothing is asked for `pause_seconds`. `cache`, `cache_turns`: see `caching`.
    """

    model: str
    max_tokens: int = 1024
    system: str | None = None
    first_token_seconds: float = 20.0
    total_seconds: float = 45.0
    base_url: str | None = None
    prices: tuple[Price, ...] = PRICES
    kind: Kind = "claude"
    failures: int = 3
    pause_seconds: float = 60.0
    cache: bool = True
    cache_turns: int = 8


@dataclass(frozen=True)
class Asking:
    """What one question adds to the settings: more for the system prompt, fewer tokens, a wish to stop.

    `again` gives the conversation as it is by the second request: some of it may have been forgotten since the first.
    `paid` is told what is known of the cost of a request that began and did not end, even where nobody is answered.
    """

    system: str = ""
    most_tokens: int | None = None
    stop: Stop = NEVER
    again: Callable[[], Sequence[Message]] | None = None
    paid: Callable[[float], None] = lambda _: None


@dataclass(frozen=True)
class TeacherReply:
    """An answer that reached its end; `complete` is False when the teacher was cut short or declined (see `stop_reason`)."""

    text: str
    model: str
    complete: bool
    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_ms: float


class Teacher:
    """Answers in the caller's thread, one question at a time per call; any number of threads may ask.

    `key` is never shown. Pass `http_client` (an httpx2 client, which stays the caller's) to choose the transport, `clock` and
    `sleep` to choose the time, and `budget` where a day may cost no more than so much.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        key: str | None,
        http_client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        budget: Budget | None = None,
    ) -> None:
        self.settings = settings
        self._key = (key or "").strip()
        self._http_client = http_client
        self._clock = clock
        self._sleep = sleep
        self._budget = budget
        self._breaker = Breaker(settings.failures, settings.pause_seconds, clock)
        self._kind: type[Request]
        if settings.kind == "openai":
            self._kind = OpenAIRequest
            self._called = Called("the teacher", "a teacher's", "SHAMMAH_TEACHER_KEY", "teacher.base_url", settings.model)
        else:
            self._kind = ClaudeRequest
            self._called = Called("Claude", "a Claude", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", settings.model)

    @property
    def who(self) -> str:
        """Its name in a sentence."""
        return self._called.who

    @property
    def available(self) -> bool:
        """Whether it is set up so that it can be asked."""
        return self.unavailable_reason is None

    @property
    def unavailable_reason(self) -> str | None:
        """What its setup lacks, or None."""
        if self._key and not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            return f"{self._called.key} holds characters that no key has"
        if self.settings.kind == "openai":
            # Many a server of an open model wants no key.
            return None if self.settings.base_url else "teacher.base_url is not set"
        return None if self._key else f"no {self._called.key} in the environment"

    def why_not(self) -> str | None:
        """Why it would not be asked just now, or None: its setup, a row of failures, the day's budget."""
        return self.unavailable_reason or self._breaker.why_not() or self._too_dear()

    def again_in(self) -> float:
        """Seconds until it is asked again after a row of failures; 0 where it is asked."""
        return self._breaker.seconds()

    def warm(self) -> None:
        """Import what asking needs; a broken installation is reported by the first question."""
        if self.settings.kind == "claude":
            try:
                import_sdk()
            except ImportError:
                return

    def ask(self, messages: Sequence[Message], on_text: Callable[[str], None], asking: Asking = Asking()) -> TeacherReply:
        """Put a conversation to the teacher and hand on each piece of text as it arrives, in the caller's thread.

        Raises TeacherError, with the text so far in `partial`, when no whole answer came within the deadline.
        KeyboardInterrupt, whatever `on_text` raises, and InterruptedError after a wish to stop close the stream and pass
        through.
        """
        if self.unavailable_reason is not None:
            raise self._error(f"{self.who} cannot be asked, {self.unavailable_reason}: set it and start again")
        if (reason := self._too_dear() or self._breaker.enter()) is not None:
            raise self._error(f"{self.who} is not asked: {reason}")
        began = self._clock()
        shown: list[str] = []
        broken: list[End] = []
        try:
            outcome = self._attempt(messages, on_text, asking, shown, broken, began)
            if isinstance(outcome, Failure) and not shown and (delay := self._back_off(outcome, began)) is not None:
                self._wait(delay, asking.stop)
                if asking.again is not None:
                    messages = asking.again()
                outcome = self._attempt(messages, on_text, asking, shown, broken, began)
        except BaseException:
            self._breaker.left()
            raise
        finally:
            cost = self._paid(broken)
            if cost is not None:
                asking.paid(cost)
        text = "".join(shown)
        if isinstance(outcome, End):
            self._breaker.worked()
            # What holds no text is paid for all the same, and a request before it that broke off.
            cost = _sum([cost, self._paid([outcome])])
            if not text.strip():
                outcome = self._nothing_said(outcome)
        elif outcome.of_the_question:
            self._breaker.left()
        else:
            self._breaker.failed(safe(outcome.message, self._key, LONGEST_MESSAGE))
        if isinstance(outcome, Failure):
            raise self._error(outcome.message, text, outcome.of_the_question, cost) from outcome.cause
        return TeacherReply(
            text=text,
            model=outcome.model,
            complete=outcome.stop_reason in FINISHED,
            stop_reason=outcome.stop_reason,
            input_tokens=outcome.tokens_in,
            output_tokens=outcome.tokens_out,
            cost_usd=cost,
            latency_ms=(self._clock() - began) * 1000.0,
        )

    def _error(self, message: str, partial: str = "", of_the_question: bool = False, cost: float | None = None) -> TeacherError:
        told = safe(message, self._key, LONGEST_MESSAGE)
        return TeacherError(told[:1].upper() + told[1:], partial, of_the_question=of_the_question, cost_usd=cost)

    def _paid(self, ends: Sequence[End]) -> float | None:
        """What these have cost, which the day's budget is told; None where nothing of it is known."""
        prices, costs = self.settings.prices, []
        for end in ends:
            # Many a server calls the model by a name of its own.
            model = end.model if price_of(prices, end.model) is not None else self.settings.model
            costs.append(cost_usd(prices, model, end.tokens_in, end.tokens_out, end.written, end.cached))
        total = _sum(costs)
        if self._budget is not None:
            self._budget.note(total)
        return total

    def _too_dear(self) -> str | None:
        if self._budget is None:
            return None
        if price_of(self.settings.prices, self.settings.model) is None:
            return f"{self.settings.model} has no price, and teacher.daily_usd cannot be kept: add it to [[teacher.prices]]"
        return self._budget.why_not()

    def _attempt(
        self,
        messages: Sequence[Message],
        on_text: Callable[[str], None],
        asking: Asking,
        shown: list[str],
        broken: list[End],
        began: float,
    ) -> End | Failure:
        """One request; `shown` gets its text, `broken` what is known of an answer that began and does not end."""
        settings = asked(self.settings, asking)
        last = began + settings.total_seconds
        deadline = min(last, began + settings.first_token_seconds)
        call = self._kind(settings, self._called, self._key, self._http_client, messages, last - self._clock())
        pieces, ended = 0, False
        try:
            call.start()
            while (left := deadline - self._clock()) > 0.0:
                if asking.stop.asked():
                    raise InterruptedError
                try:
                    # In slices, as Windows does not let Ctrl-C interrupt a wait.
                    event = call.events.get(timeout=min(left, _SLICE_SECONDS))
                except queue.Empty:
                    continue
                if not isinstance(event, Delta):
                    ended = isinstance(event, End)
                    return event
                deadline = last
                if event.text:
                    pieces += 1
                    shown.append(event.text)
                    on_text(event.text)
        finally:
            call.abort()
            if not ended and (begun := call.begun) is not None:
                # No piece is less than a token.
                broken.append(replace(begun, tokens_out=pieces))
        name = "first_token_seconds" if deadline < last else "total_seconds"
        what = "sent nothing" if deadline < last else "did not finish"
        return Failure(f"{self.who} {what} within {getattr(settings, name):g} s: ask again, or raise teacher.{name}")

    def _wait(self, seconds: float, stop: Stop) -> None:
        """In slices, since a wish to stop wakes nobody."""
        stop.heed()
        while seconds > 0.0:
            self._sleep(min(seconds, _SLICE_SECONDS))
            stop.heed()
            seconds -= _SLICE_SECONDS

    def _back_off(self, failure: Failure, began: float) -> float | None:
        """Seconds to wait before the one retry, or None when there is to be none."""
        delay = BACK_OFF_SECONDS if failure.retry_after is None else failure.retry_after
        deadline = began + min(self.settings.first_token_seconds, self.settings.total_seconds)
        fits = delay <= LONGEST_BACK_OFF_SECONDS and self._clock() + delay < deadline
        return delay if failure.transient and fits else None

    def _nothing_said(self, end: End) -> Failure:
        if end.stop_reason == "refusal":
            said = f"{self.who} declined to answer this (refusal): ask it differently"
        elif end.stop_reason == "max_tokens":
            said = f"{self.who} used all the tokens that it may before it said anything: "
            said += "raise max_tokens of [teacher] or the request"
        else:
            said = f"{self.who}'s answer holds no text ({end.stop_reason}): ask again"
        return Failure(said, of_the_question=True)


def _sum(costs: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def asked(settings: TeacherSettings, asking: Asking) -> TeacherSettings:
    """The settings for one question."""
    system = "\n\n".join(part for part in (settings.system, asking.system) if part)
    most = settings.max_tokens if asking.most_tokens is None else min(settings.max_tokens, asking.most_tokens)
    return replace(settings, system=system or None, max_tokens=most)
