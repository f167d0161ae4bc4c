"""One request to a teacher in a thread of its own, which no deadline and no Ctrl-C has to wait for.

Knows threads and sockets; what is asked and how it is answered, its kinds know.
"""

import contextlib
import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shammah_data.exchange import Message
from shammah_runtime.failures import LONGEST_DETAIL, Called, Failure, safe

if TYPE_CHECKING:
    import httpx2


@dataclass(frozen=True)
class Delta:
    """A piece of the answer; empty: a sign of life that shows nothing, such as thinking."""

    text: str


@dataclass(frozen=True)
class End:
    """The end of an answer. `tokens_in` counts all that was read, `written` and `cached` what of it the cache took and gave."""

    model: str
    stop_reason: str
    tokens_in: int | None
    tokens_out: int | None
    written: int = 0
    cached: int = 0


class Wanted(Protocol):
    """What a request needs of the settings."""

    @property
    def model(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def system(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def cache(self) -> bool: ...
    @property
    def cache_turns(self) -> int: ...


class Request:
    """Begins with `start`; `events` brings pieces, then an end or a failure. `called` names the teacher in messages.

    `begun`: what the service said of an answer that has begun, as far as it says so: its model and the tokens that it read.
    """

    def __init__(
        self, settings: Wanted, called: Called, key: str, http_client: Any, messages: Sequence[Message], seconds: float
    ) -> None:
        # No SimpleQueue: a wait there has no end any more when a signal's handler outlasts the rest of it.
        self.events: queue.Queue[Delta | End | Failure] = queue.Queue()
        self.settings = settings
        self.called = called
        self.key = key
        self.http_client = http_client
        self.messages = messages
        self.seconds = max(seconds, 0.0) + 1.0  # only a backstop: the caller's own deadline comes first
        self.where = "its address"
        self.begun: End | None = None
        self._aborted = threading.Event()
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="shammah-teacher", daemon=True).start()

    def abort(self) -> None:
        """Wake the thread wherever it waits; it then closes everything itself. Harmless when it has ended."""
        self._aborted.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # close() would not wake a thread in recv, and ssl's own shutdown() would pull TLS from under it
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @property
    def aborted(self) -> bool:
        """Whether nobody waits any more."""
        return self._aborted.is_set()

    def request(self) -> End | Failure:
        """Ask, and put each piece of the answer into `events`."""
        raise NotImplementedError

    def failure(self, error: Exception) -> Failure:
        """What an exception of `request` means."""
        raise NotImplementedError

    def no_answer(self, error: Exception | None = None) -> Failure:
        """What came is not what such a service sends."""
        named = f" ({type(error).__name__})" if error is not None else ""
        message = f"What {self.where} sent is not {self.called.whose} answer{named}: check {self.called.address}"
        return Failure(message, cause=error)

    def broken_off(self) -> Failure:
        """The stream ended before the answer did."""
        return Failure(f"{self.called.who}'s answer broke off before its end: ask again")

    def network_failure(self, error: Exception, cause: BaseException, in_answer: bool) -> Failure | None:
        """What an exception of the network means; None for any other."""
        import httpx2

        if isinstance(cause, httpx2.TimeoutException):
            return Failure(f"{self.called.who} took too long: ask again", cause=error)
        if not isinstance(cause, httpx2.TransportError):
            return None
        detail = safe(str(cause) or type(cause).__name__, self.key, LONGEST_DETAIL)
        transient = isinstance(cause, httpx2.NetworkError | httpx2.RemoteProtocolError)
        if in_answer:
            message = f"The connection to {self.called.who} broke in mid-answer ({detail}): ask again"
            return Failure(message, transient, cause=error)
        what = f"{self.called.who} cannot be reached at {self.where} ({detail})"
        return Failure(f"{what}: check the network and {self.called.address}", transient, cause=error)

    def not_made(self, error: Exception, cause: BaseException) -> Failure:
        """The request never left."""
        detail = safe(str(cause) or type(cause).__name__, self.key, LONGEST_DETAIL)
        what = f"The request to {self.called.who} could not be made ({type(cause).__name__}, {detail})"
        return Failure(f"{what}: check {self.called.address} and the [teacher] settings", cause=error)

    def watch(self, request: "httpx2.Request") -> None:
        """Note the socket of a request, so that `abort` can wake whoever reads from it."""

        def trace(_event: str, info: dict[str, Any]) -> None:
            connection = info.get("return_value")
            if connection is not None and hasattr(connection, "get_extra_info"):
                self._socket = connection.get_extra_info("socket")
                if self.aborted:
                    self.abort()

        request.extensions = {**request.extensions, "trace": trace}

    def _run(self) -> None:
        try:
            self.events.put(self.request())
        except Exception as error:  # noqa: BLE001  # whatever ends this thread has to reach the one who waits for it
            self.events.put(self.failure(error))


def text_of(value: object) -> str:
    """A text that should be one; nobody has validated it."""
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def count_of(value: object) -> int | None:
    """A count that should be one, or None."""
    return value if type(value) is int and value >= 0 else None
