import itertools
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from shammah_data import rows
from shammah_data.exchange import TIERS, Exchange, Feedback, Rating
from shammah_data.exclusions import left_out_of
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.session import fetch

LATER = datetime(2100, 1, 1)


@pytest.fixture
def full(home: Home, log: ExchangeLog) -> ExchangeLog:
    """One of everything: tier, rating and correction, complete or not, trainable or not, with an answer or not."""
    exchanges: list[Exchange] = []
    ratings: list[Feedback] = []
    rated: tuple[tuple[Rating | None, str | None], ...] = ((None, None), ("good", None), ("bad", None), ("bad", "This."))
    for tier, (rating, correction), complete, trainable, answer in itertools.product(
        TIERS, rated, (True, False), (True, False), ("That.", " ")
    ):
        exchange = Exchange("What?", answer, tier, complete=complete, trainable=trainable)
        exchanges.append(exchange)
        if rating:
            ratings.append(Feedback(exchange.id, rating, 1.0, correction))
    log.add_many(exchanges)
    log.add_records(rows.feedback_record(one, log.clean) for one in ratings)
    return log


def test_what_is_not_learnable_has_one_reason(full: ExchangeLog) -> None:
    counts = full.read(lambda session: left_out_of(session, LATER))
    total = full.read(lambda session: fetch(session, "SELECT count(*) AS n FROM exchanges"))[0]["n"]
    assert sum(counts.values()) == total - full.learnable_count()
    assert counts == {
        "not trainable": 80,
        # Of 80 trainable ones 20 were corrected, and 30 of the others have no answer.
        "unanswered or failed": 30,
        "partial": 15,
        "rated bad, no correction": 5,
        "own answer, not approved": 3,
    }


def test_what_was_forgotten_is_counted(log: ExchangeLog, home: Home) -> None:
    some = [Exchange(f"q{n}", "That.", "teacher") for n in range(3)]
    log.add_many(some)
    forget(log, home, Selection(ids=(some[0].id,)))
    assert log.read(lambda session: left_out_of(session, LATER)) == {"forgotten": 1}


def test_what_came_later_is_not_counted(log: ExchangeLog, tmp_path: Path) -> None:
    log.append(Exchange("q", "That.", "neural"))
    _, _, until = log.snapshot(tmp_path / "snapshot.parquet")
    log.append(Exchange("q2", "That.", "neural"))
    assert log.read(lambda session: left_out_of(session, until)) == {"own answer, not approved": 1}
    assert log.read(lambda session: left_out_of(session, until - timedelta(days=1))) == {}
