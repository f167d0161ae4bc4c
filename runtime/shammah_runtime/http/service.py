"""Queries under way: a bounded number of them, each on a thread of its own, their text handed to the event loop.

Knows the desk and asyncio; no HTTP, no shape of any API. Everything but `_work` runs on the event loop.
"""

import asyncio
import contextlib
import os
import sys
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from shammah_data.errors import LogError
from shammah_data.exchange import Exchange, Message, Rating
from shammah_data.log import ExchangeLog, context_of
from shammah_runtime.cascade import Reply
from shammah_runtime.desk import Desk
from shammah_runtime.http.asking import Wanted
from shammah_runtime.stopping import Stop

# Answers whose ratings need not be looked up in the log.
_MOST_RECENT = 1000
# Characters that wait for a client to read: many times what an answer is long.
_MOST_WAITING = 2**20
SOURCE = "http"


@dataclass(frozen=True)
class Outcome:
    """How a query ended: with an exchange and a reply, or stopped before anything was shown, or by a fault of ours."""

    exchange: Exchange | None = None
    reply: Reply | None = None
    fault: bool = False


class Job:
    """A query under way, with the id that its exchange will have. `next` gives its text as it comes and, last, its outcome."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wanted: Wanted) -> None:
        self.id = str(uuid.uuid4())
        self.wanted = wanted
        self.stop = Stop()
        self.loop = loop
        self._events: asyncio.Queue[str | Outcome] = asyncio.Queue()
        self._waiting = 0

    async def next(self) -> str | Outcome:
        """The next piece of text, or the outcome."""
        event = await self._events.get()
        if isinstance(event, str):
            self._waiting -= len(event)
        return event

    def put(self, event: str | Outcome) -> None:
        """Hand something on, on the event loop. A client that takes nothing in any more is one that has left."""
        if isinstance(event, str):
            if self._waiting > _MOST_WAITING:
                self.stop.ask()
                return
            self._waiting += len(event)
        self._events.put_nowait(event)

    def say(self, piece: str) -> None:
        """Hand a piece of text on, from the query's own thread."""
        self.loop.call_soon_threadsafe(self.put, piece)

    def cut(self, notice: str) -> None:
        """Tell the client that what it got so far ends here, and another answer follows."""
        self.say(f"\n\n[{notice}]\n\n")


class Service:
    """Takes at most `most` queries at once. `warn` gets a line for a fault of ours."""

    def __init__(self, desk: Desk, log: ExchangeLog | None, most: int, warn: Callable[[str], None]) -> None:
        self._desk = desk
        self._log = log
        self._most = most
        self._warn = warn
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="query")
        # What waits for the disk and not for an answer.
        self._side = ThreadPoolExecutor(2, thread_name_prefix="side")
        # Pages read much of the log: one at a time, that neither ratings nor the engine wait for many.
        self._pages = ThreadPoolExecutor(1, thread_name_prefix="page")
        self._jobs: set[Job] = set()
        self._recent: OrderedDict[str, tuple[Exchange, Reply | None, bool]] = OrderedDict()

    @property
    def under_way(self) -> int:
        """How many queries have not ended."""
        return len(self._jobs)

    def begin(self, wanted: Wanted) -> Job | None:
        """Start on a query; None where as many as may be are under way."""
        if len(self._jobs) >= self._most:
            return None
        loop = asyncio.get_running_loop()
        job = Job(loop, wanted)
        self._jobs.add(job)
        self._threads.submit(self._work, job)
        return job

    def stop_all(self) -> None:
        """Tell every query that its answer is no longer wanted."""
        for job in self._jobs:
            job.stop.ask()

    def close(self) -> None:
        """Wait for the queries to end; all that was answered is in the log then."""
        self._threads.shutdown()
        self._side.shutdown()
        self._pages.shutdown()

    async def aside(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, off the event loop and off the threads of the queries."""
        return await asyncio.get_running_loop().run_in_executor(self._side, work)

    async def page(self, work: Callable[[], str]) -> str:
        """The same for a page, in turn with other pages."""
        return await asyncio.get_running_loop().run_in_executor(self._pages, work)

    async def rate(self, exchange_id: str, rating: Rating, correction: str | None, weight: float) -> bool | None:
        """Rate an answer by its id; returns whether that is kept, None where the answer is not known. Raises LogError."""
        found = self._recent.get(exchange_id)

        def work() -> bool | None:
            known = None if self._desk.forgot(exchange_id) else found or self._look_up(exchange_id)
            if known is None:
                return None
            exchange, reply, private = known
            self._desk.rate(exchange, reply, rating, correction, weight, private)
            return self._log is not None and not private

        kept: bool | None = await self.aside(work)
        return kept

    def _look_up(self, exchange_id: str) -> tuple[Exchange, None, bool] | None:
        if self._log is None or not self._log.exists():
            return None
        try:
            row, _ = self._log.find(exchange_id)
        except LogError as error:
            if str(error).startswith("no exchange"):
                return None
            raise
        context: tuple[Message, ...] = context_of(row)
        exchange = Exchange(
            row["query"], row["answer"], row["tier"], id=str(row["id"]), context=context, trainable=row["trainable"]
        )
        return exchange, None, False

    def _work(self, job: Job) -> None:
        """Answer, on a thread of its own; whatever happens, somebody waits for the outcome."""
        wanted = job.wanted
        query = replace(wanted.query, stop=job.stop, cut=job.cut if wanted.early else None)
        try:
            if job.stop.asked():
                raise InterruptedError
            turn = len(query.context) // 2
            exchange, reply = self._desk.answer(query, job.say, job.id, turn, wanted.private, id=job.id, source=SOURCE)
            outcome = Outcome(exchange, reply)
        except InterruptedError:
            outcome = Outcome()
        except Exception as error:  # noqa: BLE001 - a fault of ours must end one query and not the server
            self._warn(f"internal error ({type(error).__name__}); SHAMMAH_DEBUG=1 shows where")
            if os.environ.get("SHAMMAH_DEBUG"):
                traceback.print_exc(file=sys.stderr)
            outcome = Outcome(fault=True)
        # The loop is closed where the server was ended by force.
        with contextlib.suppress(RuntimeError):
            job.loop.call_soon_threadsafe(self._ended, job, outcome)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._jobs.discard(job)
        job.put(outcome)
        if outcome.exchange is None or outcome.reply is None:
            return
        # Without its tokens: a thousand of them are kept.
        slim = replace(outcome.reply, proposal=replace(outcome.reply.proposal, tokens=(), others=()))
        self._recent[outcome.exchange.id] = (outcome.exchange, slim, job.wanted.private)
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
