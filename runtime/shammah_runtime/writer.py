"""The log for many threads: what is to be written at one moment is written in one transaction. Knows the log, no query.

Opening the database costs more than a row does, and threads that wait for it one after the other wait long.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from shammah_data.exchange import Exchange, Feedback
from shammah_data.log import ExchangeLog


class Writer:
    """Writes for any number of threads on one of its own."""

    def __init__(self, log: ExchangeLog) -> None:
        self._log = log
        self._adding = threading.Lock()
        self._waiting: list[tuple[Exchange | Feedback, Future[bool]]] = []
        self._under_way = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-writer")

    def append(self, exchange: Exchange) -> bool:
        """Make one exchange durable before returning; False when it went to the spool. Raises LogError."""
        return self._write(exchange)

    def rate(self, feedback: Feedback) -> bool:
        """The same for a rating."""
        return self._write(feedback)

    def clean(self, text: str) -> str:
        """A text as the log keeps it."""
        return self._log.clean(text)

    def close(self) -> None:
        """Return once all is written."""
        self._thread.shutdown()

    def _write(self, record: Exchange | Feedback) -> bool:
        written: Future[bool] = Future()
        with self._adding:
            self._waiting.append((record, written))
            # A task for each record would pile up: a transaction takes longer than the next record takes to come.
            if not self._under_way:
                self._thread.submit(self._flush)
                self._under_way = True
        return written.result()

    def _flush(self) -> None:
        """Write what waits until nothing does."""
        while True:
            with self._adding:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._under_way = False
                    return
            try:
                stored = self._log.write([record for record, _ in batch])
            except BaseException as error:  # noqa: BLE001 - raised again in each thread that waits
                for _, written in batch:
                    written.set_exception(error)
            else:
                for _, written in batch:
                    written.set_result(stored)
