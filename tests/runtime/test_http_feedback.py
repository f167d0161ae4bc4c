"""Ratings over HTTP."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.listening import Listening
from fakes.versions import QUESTION, TAUGHT, Tiny
from shammah_data.exchange import Exchange
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection

Serving = Callable[..., Listening]


@pytest.fixture
def server(tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving) -> Listening:
    tiny.publish(home)
    return serving()


def rate(server: Listening, **fields: Any) -> Any:
    return server.ask("POST", "/v1/feedback", fields)


@pytest.mark.parametrize("form", ["chatcmpl-{}", "msg_{}", "{}"])
def test_an_answer_is_rated_by_any_of_its_ids(server: Listening, home: Home, form: str) -> None:
    exchange = server.complete(QUESTION).headers["x-shammah-exchange"]
    answer = rate(server, id=form.format(exchange), rating="good", weight=10)
    assert (answer.status, answer.json) == (200, {"id": exchange, "rating": "good", "kept": True})
    row, _ = ExchangeLog(home).find(exchange)
    assert (row["rating"], row["weight"], row["correction"]) == ("good", 10.0, None)


def test_a_correction_is_what_is_answered_from_then_on(server: Listening, home: Home) -> None:
    exchange = server.complete(TAUGHT, model="shammah-teacher").headers["x-shammah-exchange"]
    assert rate(server, id=exchange, rating="bad", correction="Only your passport.").status == 200
    again = server.complete(TAUGHT, stream=False)
    assert again.json["shammah"]["tier"] in ("neural", "learned")
    nearest = server.appliance.index.nearest(TAUGHT)
    assert nearest is not None
    assert nearest.known.answer == "Only your passport."
    (row,) = [row for row in ExchangeLog(home).learnable() if row["query"] == TAUGHT]
    assert row["target"] == "Only your passport."


def test_a_bad_answer_is_not_repeated(server: Listening) -> None:
    exchange = server.complete(TAUGHT, model="shammah-teacher").headers["x-shammah-exchange"]
    assert server.appliance.index.nearest(TAUGHT) is not None
    assert rate(server, id=exchange, rating="bad").status == 200
    assert server.appliance.index.nearest(TAUGHT) is None


def test_an_answer_of_another_day_can_be_rated(server: Listening, home: Home) -> None:
    old = Exchange("old question", "old answer", "teacher")
    ExchangeLog(home).append(old)
    assert rate(server, id=old.id, rating="bad", correction="new answer").status == 200
    assert ExchangeLog(home).find(old.id)[0]["correction"] == "new answer"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"id": str(uuid.uuid4()), "rating": "good"}, 404),
        ({"id": "0", "rating": "good"}, 400),
        ({"id": "' OR 1=1 --", "rating": "good"}, 400),
        ({"id": str(uuid.uuid4()), "rating": "fine"}, 400),
        ({"id": str(uuid.uuid4()), "rating": "good", "weight": 2}, 400),
        ({"rating": "good"}, 400),
    ],
)
def test_what_cannot_be_rated_is_refused(server: Listening, fields: dict[str, Any], status: int) -> None:
    assert rate(server, **fields).status == status


def test_without_a_log_what_was_just_answered_can_be_rated(home: Home, claude: FakeClaude, serving: Serving) -> None:
    server = serving(no_log=True)
    exchange = server.complete(TAUGHT).headers["x-shammah-exchange"]
    answer = rate(server, id=exchange, rating="bad")
    assert (answer.status, answer.json["kept"]) == (200, False)
    assert server.appliance.index.nearest(TAUGHT) is None
    assert rate(server, id=str(uuid.uuid4()), rating="bad").status == 404


def test_a_rating_that_the_log_does_not_take_is_not_said_to_be_kept(server: Listening, home: Home) -> None:
    exchange = server.complete(QUESTION, store=False).headers["x-shammah-exchange"]
    answer = rate(server, id=exchange, rating="good")
    assert (answer.status, answer.json) == (200, {"id": exchange, "rating": "good", "kept": False})


def test_an_answer_that_was_forgotten_cannot_be_rated(server: Listening, home: Home) -> None:
    exchange = server.complete(TAUGHT, model="shammah-teacher").headers["x-shammah-exchange"]
    forget(ExchangeLog(home), home, Selection(ids=(exchange,)))
    assert rate(server, id=exchange, rating="bad", correction="Only your passport.").status == 404
    assert "Only your passport." not in str(server.appliance.index.nearest(TAUGHT))
