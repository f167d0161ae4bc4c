"""One engine for many threads: turns in order, and nobody waits longer than was said."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.versions import Tiny
from shammah_data.exchange import Attempt
from shammah_runtime.engine.decoder import Generated
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.neural import interruptible
from shammah_runtime.proposal import Proposal, Query
from shammah_runtime.stopping import Stop
from shammah_runtime.turns import OneAtATime

QUERY = Query("When?")


class Slow:
    """A tier that answers once it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def propose(self, query: Query) -> Proposal:
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self.let.wait(30.0)
        return Proposal(Attempt("neural", "accepted", "sure"), text=query.text)


@pytest.fixture
def slow() -> Iterator[Slow]:
    tier = Slow()
    yield tier
    tier.let.set()


def proposed(turns: OneAtATime, query: Query = QUERY) -> Proposal:
    found = turns.propose(query)
    assert found is not None
    return found


def test_who_would_wait_too_long_is_sent_on_and_who_was_let_in_is_not(slow: Slow) -> None:
    turns = OneAtATime(slow, lambda _: True, 0.05)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(proposed, turns)
        assert slow.begun.wait(30.0)
        second = proposed(turns)
        assert (second.attempt.outcome, second.attempt.reason) == ("declined", "busy")
        assert not first.done()
        slow.let.set()
        assert first.result(30.0).text == "When?"
    turns.close()


def test_all_turns_are_on_one_thread(slow: Slow) -> None:
    slow.let.set()
    turns = OneAtATime(slow, lambda _: True, 30.0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: proposed(turns, Query(str(number))), range(40)))
    turns.close()
    assert [one.text for one in found] == [str(number) for number in range(40)]
    assert len(slow.threads) == 1
    assert threading.get_ident() not in slow.threads


def test_a_model_that_is_still_being_loaded_is_not_waited_for(slow: Slow) -> None:
    waited: list[float] = []

    def ready(seconds: float) -> bool:
        waited.append(seconds)
        return False

    turns = OneAtATime(slow, ready, 0.25)
    assert proposed(turns).attempt.reason == "busy: the model is being loaded"
    assert waited == [0.25]
    assert not slow.begun.is_set()
    turns.close()


def test_an_error_comes_to_the_one_who_asked() -> None:
    class Broken:
        def propose(self, query: Query) -> Proposal:
            raise LookupError(query.text)

    turns = OneAtATime(Broken(), lambda _: True, 30.0)
    with pytest.raises(LookupError, match="When"):
        turns.propose(QUERY)
    turns.close()


def test_a_wish_to_stop_ends_an_answer_and_leaves_the_model_usable(random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    prompt = [3, 1, 4, 1, 5]
    wanted = decoder.generate(prompt, Decoding(max_tokens=20))
    stop, cancelled = Stop(), threading.Event()
    cancel = decoder.cancel

    def heard() -> None:
        cancel()
        cancelled.set()

    def token(*_: float) -> None:
        # The answer goes on only once the wish has come through.
        stop.ask()
        assert cancelled.wait(30.0)

    monkeypatch.setattr(decoder, "cancel", heard)
    work = lambda: decoder.generate(prompt, Decoding(max_tokens=200), on_token=token)  # noqa: E731
    stopped: Generated = interruptible(decoder, work, stop)
    assert not stopped.finished
    assert len(stopped.ids) < 200
    assert decoder.generate(prompt, Decoding(max_tokens=20)).ids == wanted.ids
