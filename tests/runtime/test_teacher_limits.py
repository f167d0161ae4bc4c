"""What keeps the teacher from being asked: a row of failures, the day's budget; and what makes asking it cheaper."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from fakes.claude import FakeClaude
from shammah_data.errors import LogError, TeacherError
from shammah_data.exchange import Exchange, Message
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import spent_since
from shammah_data.rows import utc
from shammah_data.settings import ModelPrice, TeacherSection
from shammah_runtime.breaker import Breaker
from shammah_runtime.budget import Budget, Ledger
from shammah_runtime.caching import LEAST_CHARACTERS, marked
from shammah_runtime.hiring import make_teacher
from shammah_runtime.prices import PRICES, cost_usd, price_of
from shammah_runtime.teacher import Teacher, TeacherSettings

MODEL = "claude-haiku-4-5"
ASKED = [Message("user", "How?")]
MIDNIGHT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClaude]:
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    with FakeClaude({"How?": "So."}) as running:
        yield running


class Clock:
    """A time that is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# -- a row of failures ------------------------------------------------------------------------------------------------


def test_a_breaker_opens_after_a_row_of_failures_and_lets_one_try_again() -> None:
    clock = Clock()
    breaker = Breaker(3, 60.0, clock)
    for _ in range(2):
        assert breaker.enter() is None
        breaker.failed("slow")
    breaker.worked()
    for cause in ("slow", "slow", "down"):
        assert breaker.enter() is None
        breaker.failed(cause)
    told = "it failed 3 times in a row, and is tried again in 60 s; the last time: down"
    assert breaker.enter() == breaker.why_not() == told
    clock.now += 60.0
    assert breaker.why_not() is None
    assert breaker.enter() is None
    assert breaker.enter() == "it failed 3 times in a row, and another question is trying it again; the last time: down"
    breaker.failed("gone")
    assert breaker.enter() == "it failed 4 times in a row, and is tried again in 60 s; the last time: gone"
    clock.now += 60.0
    assert breaker.enter() is None
    breaker.left()  # stopped by the user: the next one tries
    assert breaker.enter() is None
    breaker.worked()
    breaker.failed("slow")
    assert breaker.enter() is None


def test_a_teacher_that_is_down_is_left_alone_for_a_while(fake: FakeClaude) -> None:
    clock = Clock()
    settings = TeacherSettings(MODEL, base_url=fake.url, failures=2, pause_seconds=30.0)
    teacher = Teacher(settings, "sk-1", clock=clock, sleep=lambda _: None)
    fake.fault = "unauthorized"
    for _ in range(2):
        assert teacher.why_not() is None
        with pytest.raises(TeacherError, match="401"):
            teacher.ask(ASKED, print)
    why = teacher.why_not() or ""
    assert why.startswith("it failed 2 times in a row, and is tried again in 30 s; the last time: Claude refused the API key")
    with pytest.raises(TeacherError, match=f"^Claude is not asked: {re.escape(why)}$"):
        teacher.ask(ASKED, print)
    assert fake.calls == 2
    clock.now += 30.0
    fake.fault = "ok"
    assert teacher.ask(ASKED, lambda _: None).text == "So."
    assert teacher.why_not() is None


def test_a_question_that_is_refused_says_nothing_of_the_teacher(fake: FakeClaude) -> None:
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url, failures=1), "key")
    with pytest.raises(TeacherError, match="400"):
        teacher.ask([Message("user", "")], print)
    fake.fault = "empty"
    with pytest.raises(TeacherError, match="no text"):
        teacher.ask(ASKED, print)
    assert teacher.why_not() is None


# -- the day's budget -------------------------------------------------------------------------------------------------


def test_a_budget_counts_what_the_log_says_and_what_it_cannot_tell(home: Home) -> None:
    logged, clock, now = [0.40], Clock(), [MIDNIGHT + timedelta(hours=9)]
    days: list[datetime] = []

    def spent(since: datetime) -> float:
        days.append(since)
        if logged[0] < 0.0:
            raise LogError("taken")
        return logged[0]

    def start() -> Budget:
        return Budget(1.0, spent, Ledger(home.spent), lambda: now[0], clock)

    budget = start()
    assert budget.why_not() is None
    budget.note(0.5)  # in private: no log tells
    budget.note(None)
    assert budget.why_not() is None
    start().note(0.25)  # another process
    assert budget.why_not() is None
    budget.note(0.25)
    # The log holds a part of it.
    assert budget.why_not() == "the day's budget is spent: $1.00 of $1.00 (teacher.daily_usd)"
    # So does a process that starts while another one holds the log.
    logged[0] = -1.0
    assert start().why_not() == "the day's budget is spent: $1.00 of $1.00 (teacher.daily_usd)"
    logged[0] = 1.25  # other machines
    assert start().why_not() == "the day's budget is spent: $1.25 of $1.00 (teacher.daily_usd)"
    now[0] += timedelta(days=1)
    logged[0] = 0.75
    assert budget.why_not() is None
    logged[0], clock.now = -1.0, clock.now + 10.0
    assert budget.why_not() is None
    budget.note(2.0)
    assert budget.why_not() == "the day's budget is spent: $2.00 of $1.00 (teacher.daily_usd)"
    assert set(days) == {MIDNIGHT, MIDNIGHT + timedelta(days=1)}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has one time zone")
@pytest.mark.parametrize(("month", "day", "midnight"), [(3, 29, "2026-03-28T23:00:00"), (10, 25, "2026-10-24T22:00:00")])
def test_a_day_on_which_the_clocks_change_begins_at_its_own_midnight(
    home: Home, monkeypatch: pytest.MonkeyPatch, month: int, day: int, midnight: str
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(2026, month, day, 12)

    days: list[str] = []

    def spent(since: datetime) -> float:
        days.append(utc(since))
        return 0.0

    monkeypatch.setattr("shammah_runtime.budget.datetime", Noon)
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            time.tzset()
            assert Budget(1.0, spent, Ledger(home.spent)).why_not() is None
    finally:
        time.tzset()
    assert days == [midnight]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"day": 3}',
        b'{"day": "2026-01-02", "usd": NaN}',
        b'{"usd": {}}',
        b'{"days": 3}',
        b'{"days": {"2026-01-02": 1' + b"0" * 400 + b"}}",
        b'{"days": {"2026-01-02": {}}}',
    ],
)
def test_a_sum_that_cannot_be_read_or_written_is_kept_in_mind(home: Home, content: bytes) -> None:
    home.spent.write_bytes(content)
    ledger = Ledger(home.spent)
    assert ledger.total("2026-01-02") == 0.0
    ledger.add("2026-01-02", 0.5)
    home.spent.unlink()
    home.spent.mkdir()  # no file can be put there
    ledger.add("2026-01-02", 0.25)
    assert ledger.total("2026-01-02") == 0.25
    home.spent.rmdir()
    ledger.add("2026-01-02", 0.25)
    assert Ledger(home.spent).total("2026-01-02") == 0.5
    assert home.spent.stat().st_mode & 0o777 == 0o600
    assert ledger.total("2026-01-03") == 0.0


def test_processes_that_have_another_day_do_not_take_each_others_sums(home: Home) -> None:
    # A container has UTC where its host has the zone of the place; and at midnight two processes count for two days.
    host, container = Ledger(home.spent), Ledger(home.spent)
    for _ in range(3):
        host.add("2026-01-02", 0.25)
        container.add("2026-01-03", 0.5)
    assert (host.total("2026-01-02"), container.total("2026-01-03")) == (0.75, 1.5)
    for day in ("2099-01-01", "2099-01-02", "2099-01-03"):  # a clock that was ahead
        host.add(day, 9.0)
    host.add("2026-01-04", 0.25)
    assert Ledger(home.spent).total("2026-01-04") == 0.25
    assert len(home.spent.read_bytes()) < 200


def test_a_sum_of_an_earlier_release_counts(home: Home) -> None:
    home.spent.write_text('{"day": "2026-01-02", "usd": 0.25}')
    ledger = Ledger(home.spent)
    ledger.add("2026-01-02", 0.5)
    assert Ledger(home.spent).total("2026-01-02") == 0.75


def test_what_a_day_has_cost(home: Home) -> None:
    log = ExchangeLog(home)
    now = datetime.now(UTC)
    for usd, hours in ((0.25, 0), (0.5, 1), (None, 1), (4.0, 48)):
        log.append(Exchange("q", "a", "teacher", cost_usd=usd, created_at=now - timedelta(hours=hours)))
    assert log.read(lambda session: spent_since(session, now - timedelta(hours=2))) == pytest.approx(0.75)


def test_an_answer_without_text_is_paid_for_too(fake: FakeClaude, home: Home) -> None:
    fake.fault = "empty"
    budget = Budget(0.000001, lambda _: 0.0, Ledger(home.spent))
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url), "key", budget=budget)
    with pytest.raises(TeacherError, match="holds no text") as error:
        teacher.ask(ASKED, print)
    assert error.value.of_the_question
    assert error.value.cost_usd is not None
    assert error.value.cost_usd > 0
    assert teacher.why_not() is not None
    with pytest.raises(TeacherError, match="the day's budget is spent"):
        teacher.ask(ASKED, print)
    assert fake.calls == 1


def test_what_is_known_of_an_answer_that_broke_off_is_paid_for(fake: FakeClaude, home: Home) -> None:
    fake.answers = {"How?": "So it goes on and on."}
    fake.fault = "cut"
    budget = Budget(0.000002, lambda _: 0.0, Ledger(home.spent))
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url), "key", budget=budget)
    pieces: list[str] = []
    with pytest.raises(TeacherError) as error:
        teacher.ask(ASKED, pieces.append)
    # One word read, and a token at least for each piece that came.
    assert error.value.cost_usd == pytest.approx((1 * 1.0 + len(pieces) * 5.0) / 1e6)
    assert len(pieces) == 3
    assert teacher.why_not() is not None


def test_an_answer_that_is_stopped_is_paid_for_too(fake: FakeClaude, home: Home) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    budget = Budget(0.000002, lambda _: 0.0, Ledger(home.spent))
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url), "key", budget=budget)
    with pytest.raises(KeyboardInterrupt):
        teacher.ask(ASKED, stop)
    assert teacher.why_not() is not None


def test_a_first_request_that_broke_off_is_paid_for_beside_the_second(fake: FakeClaude, home: Home) -> None:
    fake.fault = "early_error_event_once"
    ledger = Ledger(home.spent)
    budget = Budget(1.0, lambda _: 0.0, ledger, lambda: MIDNIGHT)
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url), "key", sleep=lambda _: None, budget=budget)
    reply = teacher.ask(ASKED, lambda _: None)
    # What the two have read, and a token that the second gave.
    assert reply.cost_usd == pytest.approx((2 * 1.0 + 1 * 5.0) / 1e6)
    assert ledger.total("2026-05-01") == pytest.approx(7e-6)


def test_a_spent_budget_declines_with_the_figure(home: Home, fake: FakeClaude) -> None:
    log = ExchangeLog(home)
    log.append(Exchange("q", "a", "teacher", cost_usd=0.25))
    section = TeacherSection(model=MODEL, base_url=fake.url, daily_usd=0.25)
    teacher = make_teacher(section, 4, log)
    assert teacher.unavailable_reason == "no ANTHROPIC_API_KEY in the environment"
    budget = Budget(0.25, lambda _: 0.25, Ledger(home.spent))
    teacher = Teacher(TeacherSettings(MODEL, base_url=fake.url), "key", budget=budget)
    assert teacher.why_not() == "the day's budget is spent: $0.25 of $0.25 (teacher.daily_usd)"
    with pytest.raises(TeacherError, match=r"Claude is not asked: the day's budget is spent: \$0.25 of \$0.25"):
        teacher.ask(ASKED, print)
    assert fake.calls == 0


def test_a_budget_of_less_than_a_cent_is_told_as_such(home: Home) -> None:
    budget = Budget(0.004, lambda _: 0.01205, Ledger(home.spent))
    assert budget.why_not() == "the day's budget is spent: $0.0120 of $0.0040 (teacher.daily_usd)"


def test_a_budget_cannot_be_kept_without_a_price(home: Home) -> None:
    teacher = Teacher(TeacherSettings("unheard-of"), "key", budget=Budget(1.0, lambda _: 0.0, Ledger(home.spent)))
    assert teacher.why_not() == "unheard-of has no price, and teacher.daily_usd cannot be kept: add it to [[teacher.prices]]"


def test_the_users_prices_come_first(home: Home) -> None:
    section = TeacherSection(prices=(ModelPrice("claude-haiku-4-5", 7.0, 8.0), ModelPrice("mine", 0.0, 0.0)))
    prices = make_teacher(section, 4, ExchangeLog(home)).settings.prices
    assert price_of(prices, "claude-haiku-4-5-20251001") == (7.0, 8.0)
    assert price_of(prices, "mine") == (0.0, 0.0)
    assert price_of(prices, "claude-opus-5") == price_of(PRICES, "claude-opus-5")


# -- prompt caching ---------------------------------------------------------------------------------------------------


def test_only_long_beginnings_that_come_again_are_marked() -> None:
    long, short = "x" * LEAST_CHARACTERS, "Be brief."
    earlier = [Message("user", "Hi"), Message("assistant", long)]
    mark = {"type": "ephemeral"}
    assert marked(short, ASKED, 8) == (short, [{"role": "user", "content": "How?"}])
    assert marked(None, ASKED, 8)[0] is None
    system, turns = marked(long, ASKED, 8)
    assert system == [{"type": "text", "text": long, "cache_control": mark}]
    assert turns == [{"role": "user", "content": "How?"}]
    system, turns = marked(short, [*earlier, *ASKED], 8)
    assert system == short
    assert turns[1]["content"] == [{"type": "text", "text": long, "cache_control": mark}]
    assert (turns[0]["content"], turns[2]["content"]) == ("Hi", "How?")
    # As many turns as are kept: the next question will no longer begin with the first of them.
    assert marked(short, [*earlier, *ASKED], 2)[1][1]["content"] == long


@pytest.mark.parametrize("cache", [True, False])
def test_marks_are_sent_unless_the_settings_say_no(fake: FakeClaude, cache: bool) -> None:
    system = "x" * LEAST_CHARACTERS
    Teacher(TeacherSettings(MODEL, system=system, base_url=fake.url, cache=cache), "key").ask(ASKED, lambda _: None)
    assert (fake.requests[0].body["system"] == system) is not cache


def test_what_the_cache_took_and_gave_is_paid_as_such() -> None:
    prices = (("m", 10.0, 50.0),)
    assert cost_usd(prices, "m", 1000, 0) == pytest.approx(0.01)
    assert cost_usd(prices, "m", 1000, 0, written=1000) == pytest.approx(0.0125)
    assert cost_usd(prices, "m", 1000, 0, cached=1000) == pytest.approx(0.001)
    assert cost_usd(prices, "m", 1000, 10, written=100, cached=600) == pytest.approx((300 + 125 + 60) * 1e-5 + 10 * 5e-5)
