"""uvicorn's HTTP/1.1 connection with limits that uvicorn lacks: for a slow head, for a reader that reads nothing, for how many.

Knows sockets and times, no request.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Limited(H11Protocol):
    """A connection; subclasses made by `limited` have their limits, times in seconds."""

    header_seconds = 10.0
    write_seconds = 30.0
    most = 512
    _head_due: asyncio.TimerHandle | None = None
    _write_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or drop it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is begun has to end in time, however its bytes drip in."""
        if not self._asking():
            self._await_head()
        super().data_received(data)
        if self._asking():
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the times."""
        self._forget_head()
        self._forget_write()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes in nothing more."""
        super().pause_writing()
        if self._write_due is None:
            self._write_due = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._forget_write()
        super().resume_writing()

    def _asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _forget_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _forget_write(self) -> None:
        if self._write_due is not None:
            self._write_due.cancel()
            self._write_due = None

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(self.header_seconds, self.transport.abort)


def limited(header_seconds: float, write_seconds: float, most: int) -> type[Limited]:
    """A class of connections with these limits."""
    limits: dict[str, Any] = {"header_seconds": header_seconds, "write_seconds": write_seconds, "most": most}
    return type("Limited", (Limited,), limits)
