"""Asks Claude through the anthropic SDK: one streamed answer, our own deadline, at most two requests.

Knows messages, text, tokens and prices. Knows no tiers, no log and no terminal: the text it hands on is as Claude sent
it, and whoever shows it must sanitize it. The SDK is imported by `warm` or the first question: it costs over a second.
"""

import contextlib
import email.utils
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shammah_data.errors import TeacherError
from shammah_data.exchange import Message
from shammah_data.text import one_line, printable
from shammah_runtime.prices import PRICES, Price, cost_usd
from shammah_runtime.stopping import NEVER, Stop

if TYPE_CHECKING:
    import anthropic
    import httpx2
    from anthropic.types import RawMessageStreamEvent

FINISHED = frozenset({"end_turn", "stop_sequence"})
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504, 529})
# An error event in the middle of a stream has HTTP status 200; its type says which status it would have had.
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
WHAT_AND_WHAT_TO_DO = {
    300: ("Claude's address sends elsewhere, which is not followed", "check ANTHROPIC_BASE_URL"),
    400: ("Claude rejected the request", "check teacher.model and teacher.max_tokens"),
    401: ("Claude refused the API key", "check ANTHROPIC_API_KEY"),
    402: ("Claude reports a billing problem", "check the plan of this API key"),
    403: ("Claude does not let this API key ask", "check its permissions and ANTHROPIC_API_KEY"),
    404: ("Claude does not know the model {model}", "check teacher.model and ANTHROPIC_BASE_URL"),
    413: ("The request is too long for Claude", "shorten the query or lower serve.context_turns"),
    429: ("Claude is rate limited", "ask again later"),
    500: ("Claude had an error of its own", "ask again"),
    504: ("Claude took too long", "ask again"),
    529: ("Claude is overloaded", "ask again in a minute"),
}
BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 5.0
LONGEST_MESSAGE = 300
_IMPORTING = threading.Lock()
LONGEST_DETAIL = 140


@dataclass(frozen=True)
class TeacherSettings:
    """What to ask and how long to wait; seconds count from the call of `ask`, over both requests.

    `first_token_seconds` ends with the first sign of an answer, thinking included. `base_url` None leaves the SDK's
    default (ANTHROPIC_BASE_URL, else api.anthropic.com). A price counts for its model and for dated releases of it.
    """

    model: str
    max_tokens: int = 1024
    system: str | None = None
    first_token_seconds: float = 20.0
    total_seconds: float = 45.0
    base_url: str | None = None
    prices: tuple[Price, ...] = PRICES


@dataclass(frozen=True)
class Asking:
    """What one question adds to the settings: more for the system prompt, fewer tokens, a wish to stop."""

    system: str = ""
    most_tokens: int | None = None
    stop: Stop = NEVER


@dataclass(frozen=True)
class TeacherReply:
    """An answer that reached its end; `complete` is False when Claude was cut short or declined (see `stop_reason`)."""

    text: str
    model: str
    complete: bool
    stop_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_ms: float


@dataclass(frozen=True)
class _Delta:
    text: str  # empty: a sign of life that shows nothing, such as thinking


@dataclass(frozen=True)
class _End:
    model: str
    stop_reason: str
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class _Failure:
    message: str
    transient: bool = False
    retry_after: float | None = None
    cause: Exception | None = None


class Teacher:
    """Claude, for any number of threads; it holds no connection between questions."""

    def __init__(
        self,
        settings: TeacherSettings,
        api_key: str | None,
        *,
        http_client: object | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the settings and the key; `http_client` (an httpx2.Client) stays the caller's to close."""
        self.settings = settings
        self._key = (api_key or "").strip()
        self._http_client = http_client
        self._clock = clock
        self._sleep = sleep

    @property
    def available(self) -> bool:
        """Whether there is a key to ask with; says nothing about the network."""
        return self.unavailable_reason is None

    @property
    def unavailable_reason(self) -> str | None:
        """Why Claude cannot be asked at all, or None."""
        if not self._key:
            return "no ANTHROPIC_API_KEY in the environment"
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            return "ANTHROPIC_API_KEY holds characters that no key has"
        return None

    def warm(self) -> None:
        """Import the SDK, so that the first question need not wait for it; for a background thread."""
        with contextlib.suppress(ImportError):  # `ask` is the one to report it
            _import_sdk()

    def ask(self, messages: Sequence[Message], on_text: Callable[[str], None], asking: Asking = Asking()) -> TeacherReply:
        """Put a conversation to Claude and hand on each piece of text as it arrives, in the caller's thread.

        Raises TeacherError, with the text so far in `partial`, when no whole answer came within the deadline.
        KeyboardInterrupt, whatever `on_text` raises, and InterruptedError after a wish to stop close the stream and pass
        through.
        """
        if self.unavailable_reason is not None:
            raise TeacherError(f"Claude cannot be asked, {self.unavailable_reason}: set it and start again")
        began = self._clock()
        shown: list[str] = []
        outcome = self._attempt(messages, on_text, asking, shown, began)
        if isinstance(outcome, _Failure) and not shown and (delay := self._back_off(outcome, began)) is not None:
            self._sleep(delay)
            outcome = self._attempt(messages, on_text, asking, shown, began)
        text = "".join(shown)
        if isinstance(outcome, _End) and not text.strip():
            outcome = self._nothing_said(outcome)
        if isinstance(outcome, _Failure):
            raise TeacherError(_one_line(outcome.message, self._key, LONGEST_MESSAGE), partial=text) from outcome.cause
        return TeacherReply(
            text=text,
            model=outcome.model,
            complete=outcome.stop_reason in FINISHED,
            stop_reason=outcome.stop_reason,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            cost_usd=cost_usd(self.settings.prices, outcome.model, outcome.input_tokens, outcome.output_tokens),
            latency_ms=(self._clock() - began) * 1000.0,
        )

    def _attempt(
        self, messages: Sequence[Message], on_text: Callable[[str], None], asking: Asking, shown: list[str], began: float
    ) -> _End | _Failure:
        settings = asked(self.settings, asking)
        last = began + settings.total_seconds
        deadline = min(last, began + settings.first_token_seconds)
        call = _Call(settings, self._key, self._http_client, messages, last - self._clock())
        try:
            call.start()
            while (left := deadline - self._clock()) > 0.0:
                if asking.stop.asked():
                    raise InterruptedError
                try:
                    # In slices, as Windows does not let Ctrl-C interrupt a wait.
                    event = call.events.get(timeout=min(left, 0.1))
                except queue.Empty:
                    continue
                if not isinstance(event, _Delta):
                    return event
                deadline = last
                if event.text:
                    shown.append(event.text)
                    on_text(event.text)
        finally:
            call.abort()
        name = "first_token_seconds" if deadline < last else "total_seconds"
        what = "sent nothing" if deadline < last else "did not finish"
        return _Failure(f"Claude {what} within {getattr(settings, name):g} s: ask again, or raise teacher.{name}")

    def _back_off(self, failure: _Failure, began: float) -> float | None:
        """Seconds to wait before the one retry, or None when there is to be none."""
        delay = BACK_OFF_SECONDS if failure.retry_after is None else failure.retry_after
        deadline = began + min(self.settings.first_token_seconds, self.settings.total_seconds)
        fits = delay <= LONGEST_BACK_OFF_SECONDS and self._clock() + delay < deadline
        return delay if failure.transient and fits else None

    def _nothing_said(self, end: _End) -> _Failure:
        if end.stop_reason == "refusal":
            return _Failure("Claude declined to answer this (refusal): ask it differently")
        if end.stop_reason == "max_tokens":
            return _Failure(
                "Claude used all the tokens that it may before it said anything: raise max_tokens of [teacher] or the request"
            )
        return _Failure(f"Claude's answer holds no text ({end.stop_reason}): ask again")


def asked(settings: TeacherSettings, asking: Asking) -> TeacherSettings:
    """The settings for one question."""
    system = "\n\n".join(part for part in (settings.system, asking.system) if part)
    most = settings.max_tokens if asking.most_tokens is None else min(settings.max_tokens, asking.most_tokens)
    return replace(settings, system=system or None, max_tokens=most)


def _import_sdk() -> Any:
    # One thread at a time: a second import meets the package's lazy attributes half made.
    with _IMPORTING:
        import anthropic
        import anthropic.resources.messages

        return anthropic


class _Call:
    """One request in a thread of its own, which no deadline and no Ctrl-C has to wait for."""

    def __init__(
        self, settings: TeacherSettings, key: str, http_client: Any, messages: Sequence[Message], seconds: float
    ) -> None:
        self.events: queue.SimpleQueue[_Delta | _End | _Failure] = queue.SimpleQueue()
        self._settings = settings
        self._key = key
        self._http_client = http_client
        self._messages = messages
        self._seconds = max(seconds, 0.0) + 1.0  # only a backstop: the caller's own deadline comes first
        self._where = "its address"
        self._aborted = threading.Event()
        self._socket: socket.socket | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="shammah-teacher", daemon=True).start()

    def abort(self) -> None:
        """Wake the thread wherever it waits; it then closes everything itself. Harmless when it has ended."""
        self._aborted.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # close() would not wake a thread in recv, and ssl's own shutdown() would pull TLS from under it
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self.events.put(self._request())
        except Exception as error:  # noqa: BLE001  # whatever ends this thread has to reach the one who waits for it
            self.events.put(self._failure(error))

    def _request(self) -> _End | _Failure:
        anthropic = _import_sdk()
        timeout = anthropic.Timeout(self._seconds)
        with contextlib.ExitStack() as stack:
            client = self._http_client
            if client is None:
                # No redirects: they would carry the key to another host.
                client = anthropic.DefaultHttpxClient(
                    timeout=timeout, follow_redirects=False, event_hooks={"request": [self._watch]}
                )
                stack.callback(client.close)
            sdk = anthropic.Anthropic(
                api_key=self._key, base_url=self._settings.base_url, max_retries=0, timeout=timeout, http_client=client
            )
            if sdk.base_url.host:
                self._where = f"{sdk.base_url.scheme}://{sdk.base_url.netloc.decode()}"  # without user and password
            turns: list[Any] = [{"role": turn.role, "content": turn.content} for turn in self._messages]
            stream = sdk.messages.create(
                model=self._settings.model,
                max_tokens=self._settings.max_tokens,
                system=self._settings.system or anthropic.omit,
                messages=turns,
                stream=True,
            )
            stack.enter_context(stream)
            try:
                return self._read(stream)
            except (ValueError, TypeError, AttributeError) as error:
                what = f"What {self._where} sent is not a Claude answer"
                return _Failure(f"{what} ({type(error).__name__}): check ANTHROPIC_BASE_URL", cause=error)

    def _watch(self, request: "httpx2.Request") -> None:
        def trace(_event: str, info: dict[str, Any]) -> None:
            connection = info.get("return_value")
            if connection is not None and hasattr(connection, "get_extra_info"):
                self._socket = connection.get_extra_info("socket")
                if self._aborted.is_set():
                    self.abort()

        request.extensions = {**request.extensions, "trace": trace}

    def _read(self, stream: "anthropic.Stream[RawMessageStreamEvent]") -> _End | _Failure:
        model = self._settings.model
        stop_reason: str | None = None
        tokens_in: int | None = None
        tokens_out: int | None = None
        begun = False
        for event in stream:
            if self._aborted.is_set():
                break
            if event.type == "message_start":
                begun = True
                model = _one_line(str(event.message.model), self._key, 100)
                tokens_in = _count(event.message.usage.input_tokens)
            elif event.type == "content_block_start":
                self.events.put(_Delta(_text(event.content_block.text) if event.content_block.type == "text" else ""))
            elif event.type == "content_block_delta":
                self.events.put(_Delta(_text(event.delta.text) if event.delta.type == "text_delta" else ""))
            elif event.type == "message_delta":
                stop_reason = event.delta.stop_reason
                tokens_out = _count(event.usage.output_tokens)
                tokens_in = _count(event.usage.input_tokens) or tokens_in
            elif event.type == "message_stop" and isinstance(stop_reason, str):
                return _End(model, stop_reason, tokens_in, tokens_out)
        if not begun:
            return _Failure(f"What {self._where} sent is not a Claude answer: check ANTHROPIC_BASE_URL")
        return _Failure("Claude's answer broke off before its end: ask again")

    def _failure(self, error: Exception) -> _Failure:
        """Say in one line what an exception of the SDK or the network means."""
        try:
            import anthropic
            import httpx2
        except ImportError:
            return _Failure(f"The anthropic package cannot be imported ({error}): install shammah again", cause=error)
        if isinstance(error, anthropic.APIStatusError):
            return self._status_failure(error)
        # The SDK wraps what happens before the answer begins and leaves bare what happens in its midst.
        wrapped = isinstance(error, anthropic.APIConnectionError)
        cause = error.__cause__ if wrapped else error
        if isinstance(cause, httpx2.TimeoutException):
            return _Failure("Claude took too long: ask again", cause=error)
        detail = _one_line(str(cause) or type(cause).__name__, self._key, LONGEST_DETAIL)
        if isinstance(cause, httpx2.TransportError):
            transient = isinstance(cause, httpx2.NetworkError | httpx2.RemoteProtocolError)
            if not wrapped:
                return _Failure(f"The connection to Claude broke in mid-answer ({detail}): ask again", transient, cause=error)
            what = f"Claude cannot be reached at {self._where} ({detail})"
            return _Failure(f"{what}: check the network and ANTHROPIC_BASE_URL", transient, cause=error)
        what = f"The request to Claude could not be made ({type(cause).__name__}, {detail})"
        return _Failure(f"{what}: check ANTHROPIC_BASE_URL and the [teacher] settings", cause=error)

    def _status_failure(self, error: "anthropic.APIStatusError") -> _Failure:
        in_stream = error.status_code == 200
        status = STATUS_OF_TYPE.get(str(error.type), 0) if in_stream else error.status_code
        family = status // 100 * 100 if status // 100 in (3, 5) else 0
        what, todo = WHAT_AND_WHAT_TO_DO.get(
            status, WHAT_AND_WHAT_TO_DO.get(family, ("Claude answered with an error", "ask again"))
        )
        wait = _retry_after(error)
        if wait is not None and status in TRANSIENT_STATUS:
            todo = f"it asks to wait {wait:.0f} s"
        label = f"{error.type or 'error'} in mid-answer" if in_stream else str(status)
        detail = _one_line(error.api_message, self._key, LONGEST_DETAIL) if isinstance(error.api_message, str) else ""
        message = f"{what.format(model=self._settings.model)} ({label}): {todo}{f' [{detail}]' if detail else ''}"
        return _Failure(message, status in TRANSIENT_STATUS, wait, error)


def _retry_after(error: "anthropic.APIStatusError") -> float | None:
    """Seconds from the retry-after header, a number or a date (RFC 9110, 10.2.3); None when absent or unusable."""
    header = error.response.headers.get("retry-after", "")
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _text(value: object) -> str:
    # The SDK builds its events without validating them.
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _one_line(text: str, key: str, longest: int) -> str:
    """The text without the key, without what could drive a terminal, in one line and no longer than that."""
    shown = printable(text)
    # Before it is shortened: half a key is a leak too.
    return one_line(shown.replace(key, "[key]") if key else shown, longest)
