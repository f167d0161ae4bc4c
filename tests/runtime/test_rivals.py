"""Both versions of a trial are asked: through an appliance that has both loaded, its log, and a Claude on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.versions import ACCEPT_ALL, ACCEPT_NOTHING, ANSWER, Tiny
from shammah_data import audit_queries
from shammah_data.auditing import is_drawn
from shammah_data.exchange import Exchange, Rival
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.session import fetch
from shammah_data.settings import AuditSection, ServeSettings, Settings
from shammah_data.store import ModelStore
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.audits import Auditor
from shammah_runtime.courtesy import Courteous, Courtesy
from shammah_runtime.proposal import Proposal, Query, declined
from shammah_runtime.status import status_lines
from shammah_runtime.why import why

PATIENCE = 30.0
SOME = AuditSection(share=0.3, new_share=0.3, per_day=1000)


@pytest.fixture
def claude(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClaude]:
    """A Claude that agrees with the first tiny model and not with the other one."""
    with FakeClaude(lambda _: "At nine.") as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        yield running


@pytest.fixture
def make(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Appliance]]:
    """Appliances that watch the store; their audits are run by the test, one after the other."""
    monkeypatch.setattr(Auditor, "start", lambda self: None)
    made: list[Appliance] = []

    def start(audit: AuditSection = SOME) -> Appliance:
        settings = Settings(serve=ServeSettings(threads=1, max_tokens=24, context_turns=0), audit=audit)
        appliance = Appliance(home, settings, Options(watch=True), lambda text: None)
        appliance.start()
        appliance.models.wait()
        made.append(appliance)
        return appliance

    yield start
    for appliance in made:
        appliance.close()


def auditor_of(appliance: Appliance) -> Auditor:
    assert appliance.auditor is not None
    appliance.auditor.count()
    return appliance.auditor


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def ask(appliance: Appliance, count: int) -> None:
    for number in range(count):
        appliance.conversation.session = f"session {number}"
        reply = appliance.conversation.ask(f"question {number}", lambda _: None)
        assert reply.proposal.attempt.tier == "neural"


def asked_beside(home: Home) -> list[dict[str, Any]]:
    sql = "SELECT r.*, e.model_version, e.answer AS given FROM rivals r JOIN exchanges e ON e.id = r.exchange_id"
    return ExchangeLog(home).read(lambda session: fetch(session, sql))


def put_on_trial(home: Home, champion: Tiny, candidate: Tiny, threshold: float = ACCEPT_ALL, share: float = 0.5) -> None:
    champion.publish(home, ACCEPT_ALL, context_examples=1000)
    candidate.publish(home, threshold, promote=False, context_examples=1000)
    ModelStore(home.models).set_candidate("v0002", share)


def test_where_the_versions_disagree_each_answer_is_audited_for_both(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    put_on_trial(home, tiny, other_tiny)
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, 6)
    assert auditor.run() == claude.calls == 6
    beside = asked_beside(home)
    assert len(beside) == 6
    assert {row["model_version"] for row in beside} == {"v0001", "v0002"}
    assert all(row["version"] != row["model_version"] and row["answer"] != row["given"] for row in beside)
    assert {(row["same"], row["probability"]) for row in beside} == {(False, 1.0)}
    found = ExchangeLog(home).outcomes(["v0001", "v0002"])
    assert {(one.version, one.agrees, one.probability) for one in found} == {("v0001", True, 1.0), ("v0002", False, 1.0)}
    assert len(found) == 12
    # Each answer was given once, and would have been given once.
    assert sum(one.given for one in found) == 6
    # The rows that Claude's answers are kept in say with which probability they came about.
    audits = [row for row in ExchangeLog(home).recent(100) if row["source"] == "audit"]
    assert {row["teacher_probability"] for row in audits} == {1.0}
    # What a version would have said is not counted as an answer of its own.
    counts = ExchangeLog(home).read(audit_queries.audited_counts)
    assert sum(counts.values()) == 6
    measured = [ExchangeLog(home).read(lambda s, v=v: audit_queries.judged(s, [v])) for v in ("v0001", "v0002")]  # type: ignore[misc]
    assert [len(one) for one in measured] == [counts["v0001"], counts["v0002"]]


def test_where_they_say_the_same_a_tenth_is_audited(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, home: Home
) -> None:
    put_on_trial(home, tiny, tiny)
    appliance = make()
    auditor = auditor_of(appliance)
    ask(appliance, 20)
    auditor.run()
    beside = asked_beside(home)
    assert len(beside) == 20
    assert {(row["same"], row["probability"]) for row in beside} == {(True, 0.1)}
    drawn = [row for row in beside if is_drawn(str(row["exchange_id"]), 0.1)]
    assert claude.calls == len(drawn) < 10
    assert all(one.agrees and one.probability == 0.1 for one in ExchangeLog(home).outcomes(["v0001", "v0002"]))
    # Once is enough, in this session and in the next.
    assert auditor.run() == 0
    assert auditor_of(make()).run() == 0
    assert claude.calls == len(drawn)


def test_a_version_that_would_have_declined_is_no_pair(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, home: Home
) -> None:
    put_on_trial(home, tiny, tiny, ACCEPT_NOTHING, share=1e-9)
    appliance = make(AuditSection(share=1.0, new_share=1.0, per_day=1000))
    auditor = auditor_of(appliance)
    ask(appliance, 2)
    assert auditor.run() == 2
    assert [(row["answer"], row["probability"]) for row in asked_beside(home)] == [(None, 1.0)] * 2
    found = ExchangeLog(home).outcomes(["v0001", "v0002"])
    assert [(one.version, one.given, one.rival_declined) for one in found] == [("v0001", True, True)] * 2
    row = ExchangeLog(home).recent(10)[-1]
    told = "\n".join(why(home, ExchangeLog(home), str(row["id"])))
    assert "the other version of the trial would have declined" in told


def test_a_new_champion_is_compared_with_the_one_before_until_it_has_proved_itself(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    other_tiny.publish(home, ACCEPT_ALL, context_examples=1000)
    appliance = make()
    auditor = auditor_of(appliance)
    auditor.nudge()
    appliance.log.append(Exchange(query="before", answer="an answer", tier="teacher"))
    auditor.run()
    eventually(lambda: appliance.models.rival("v0002") is not None, "the one before was never loaded")
    assert "beside     v0001, which audits ask too until v0002 has proved itself" in status_lines(appliance)
    ask(appliance, 12)
    auditor.run()
    pointer = appliance.store.pointer()
    assert (pointer.champion, pointer.previous) == ("v0001", "v0002")
    assert claude.calls <= 12
    (told,) = (line for line in status_lines(appliance) if line.startswith("trial"))
    assert "v0002 rolled back on 20" in told
    # Nothing is on trial any longer, and the other one's memory is given back.
    auditor.run()
    eventually(lambda: appliance.models.rival("v0001") is None, "the one that failed stayed in memory")


def test_answers_of_long_ago_are_audited_alone(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    from datetime import UTC, datetime, timedelta

    put_on_trial(home, tiny, other_tiny)
    appliance = make()
    auditor = auditor_of(appliance)
    ExchangeLog(home).append(
        Exchange(
            query="yesterday",
            answer=ANSWER,
            tier="neural",
            model_version="v0001",
            teacher_probability=1.0,
            created_at=datetime.now(UTC) - timedelta(days=1),
        )
    )
    assert auditor.run() == 1
    assert asked_beside(home) == []
    assert [(one.version, one.given) for one in ExchangeLog(home).outcomes(["v0001", "v0002"])] == [("v0001", True)]


def test_nobody_is_asked_beside_a_query_that_waits_and_nothing_is_drawn_without_it(
    make: Callable[..., Appliance], claude: FakeClaude, tiny: Tiny, other_tiny: Tiny, home: Home
) -> None:
    put_on_trial(home, tiny, other_tiny)
    appliance = make(AuditSection(share=1.0, new_share=1.0, per_day=1000))
    auditor = auditor_of(appliance)
    ask(appliance, 1)
    with appliance._courtesy.query():
        assert auditor.run() == 0
    assert claude.calls == 0
    assert asked_beside(home) == []
    assert auditor.run() == 1
    assert len(asked_beside(home)) == 1


def test_work_on_spare_time_stops_for_a_query() -> None:
    courtesy = Courtesy()
    begun, answered = threading.Event(), threading.Event()
    order: list[str] = []

    class Tier:
        def propose(self, query: Query) -> Proposal:
            order.append("query")
            return declined("neural", "no")

    def spare() -> None:
        with courtesy.spare() as stop:
            assert stop is not None
            begun.set()
            while not stop.asked():
                answered.wait(0.001)
            order.append("stopped")

    working = threading.Thread(target=spare)
    working.start()
    assert begun.wait(PATIENCE)
    with courtesy.spare() as second:
        assert second is None
    Courteous(Tier(), courtesy).propose(Query("now"))
    working.join(PATIENCE)
    assert order == ["stopped", "query"]
    with courtesy.spare() as again:
        assert again is not None


def test_what_is_forgotten_was_asked_of_no_version(home: Home) -> None:
    log = ExchangeLog(home)
    exchange = Exchange("a question", "an answer", "neural", model_version="v0001")
    log.append(exchange)
    log.compare(Rival(exchange.id, "v0002", 0.1, "my key is ghp_" + "a1B2" * 9, False, 0.9, "sure"))
    (row,) = asked_beside(home)
    assert row["answer"] == "my key is [secret:github-token]"
    forget(log, home, Selection(ids=(exchange.id,)))
    log.compare(Rival(exchange.id, "v0003", 0.1, "again", False))
    assert ExchangeLog(home).read(lambda session: fetch(session, "SELECT * FROM rivals")) == []
