"""One writer for many threads: all is kept, in few transactions, and an error reaches everybody it concerns."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.processes import Holder
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.writer import Writer


class Watched(ExchangeLog):
    """A log whose first write is held until it is let, and that counts its writes."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.begun, self.let = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def write(self, records: Sequence[Exchange | Feedback]) -> bool:
        self.begun.set()
        assert self.let.wait(30.0)
        self.sizes.append(len(records))
        return super().write(records)


def exchange(number: int) -> Exchange:
    return Exchange(f"q{number}", "a", "teacher")


def test_what_waits_is_written_together(home: Home) -> None:
    log = Watched(home)
    writer = Writer(log)
    everything = [exchange(number) for number in range(20)]
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(writer.append, everything[0])
        assert log.begun.wait(30.0)
        others = [pool.submit(writer.append, one) for one in everything[1:]]
        rating = Feedback(everything[0].id, "good")
        others.append(pool.submit(writer.rate, rating))
        while len(writer._waiting) < 20:
            threading.Event().wait(0.001)
        # However many come, no more is put off than they are.
        assert writer._thread._work_queue.qsize() == 0
        log.let.set()
        assert all(one.result(30.0) for one in [first, *others])
    writer.close()
    assert log.sizes == [1, 20]
    assert {str(row["id"]) for row in log.recent(100)} == {one.id for one in everything}
    assert log.find(everything[0].id)[0]["rating"] == "good"


def test_all_of_them_go_to_the_spool_together_and_come_back(home: Home) -> None:
    log = ExchangeLog(home)
    log.append(exchange(0))
    holder = Holder(home.log)
    try:
        assert log.write([exchange(1), exchange(2), exchange(3)]) is False
        assert log.spooled() == 3
    finally:
        holder.let_go()
    assert log.append(exchange(4))
    assert (log.spooled(), len(log.recent())) == (0, 5)


def test_an_error_reaches_everybody_who_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ExchangeLog(home)

    def full(_: Sequence[Exchange | Feedback]) -> bool:
        raise LogError("no space left")

    monkeypatch.setattr(log, "write", full)
    writer = Writer(log)
    for _ in range(2):
        with pytest.raises(LogError, match="no space left"):
            writer.append(exchange(0))
    writer.close()
