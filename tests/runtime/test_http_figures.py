"""What /metrics tells: every figure of the log is what a count in SQL of one's own gives, and the names are documented."""

import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.claude import FakeClaude
from fakes.listening import Listening
from fakes.processes import Holder
from fakes.versions import QUESTION, TAUGHT, Tiny
from shammah_data.exchange import Attempt, Audited, Exchange, Feedback, RunRecord
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection

Serving = Callable[..., Listening]
Sample = tuple[str, tuple[tuple[str, str], ...]]
DOCS = Path(__file__).parents[2] / "docs" / "http.md"


def scrape(server: Listening) -> dict[Sample, float]:
    answer = server.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples
    }


def of_the_log(found: dict[Sample, float]) -> dict[Sample, float]:
    not_counted = ("shammah_http_", "shammah_model", "shammah_spooled", "shammah_log_read")
    return {key: value for key, value in found.items() if key[0].startswith("shammah_") and not key[0].startswith(not_counted)}


def counted(home: Home) -> dict[Sample, float]:
    """The same figures, each by a statement of its own."""
    found: dict[Sample, float] = {}
    with duckdb.connect(str(home.log), read_only=True) as log:

        def count(sql: str) -> float:
            row = log.execute(sql).fetchone()
            assert row is not None
            return float(row[0] or 0)

        def values(sql: str) -> list[str]:
            return [str(row[0]) for row in log.execute(sql).fetchall()]

        for tier in values("SELECT DISTINCT tier FROM exchanges"):
            of = f"FROM exchanges WHERE if(source LIKE 'import:%', 'import', tier) = '{tier}' AND source <> 'audit'"
            for answered, condition in (("true", "<>"), ("false", "=")):
                if number := count(f"SELECT count(*) {of} AND trim(answer) {condition} ''"):
                    found["shammah_exchanges", (("answered", answered), ("tier", tier))] = number
            for purpose in values(
                f"SELECT DISTINCT if(source = 'audit', 'audit', 'answer') FROM exchanges WHERE tier = '{tier}'"
            ):
                paid = f"FROM exchanges WHERE tier = '{tier}' AND source {'=' if purpose == 'audit' else '<>'} 'audit'"
                for kind, column in (("read", "prompt_tokens"), ("written", "answer_tokens")):
                    labels = (("kind", kind), ("purpose", purpose), ("tier", tier))
                    found["shammah_tokens", labels] = count(f"SELECT sum({column}) {paid}")
            timed = f"{of} AND trim(answer) <> '' AND latency_ms IS NOT NULL"
            if total := count(f"SELECT count(*) {timed}"):
                whose = (("tier", tier),)
                found["shammah_answer_seconds_count", whose] = total
                found["shammah_answer_seconds_sum", whose] = count(f"SELECT sum(latency_ms / 1000) {timed}")
                for most in ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0"):
                    within = count(f"SELECT count(*) {timed} AND latency_ms / 1000 <= {most}")
                    found["shammah_answer_seconds_bucket", (("le", f"{float(most):g}"), *whose)] = within
                found["shammah_answer_seconds_bucket", (("le", "+Inf"), *whose)] = total
        asked = "exchange_id IN (SELECT id FROM exchanges WHERE source <> 'audit')"
        for tier in values("SELECT DISTINCT tier FROM attempts"):
            for outcome in values(f"SELECT DISTINCT outcome FROM attempts WHERE tier = '{tier}' AND {asked}"):
                tried = count(f"SELECT count(*) FROM attempts WHERE tier = '{tier}' AND outcome = '{outcome}' AND {asked}")
                found["shammah_attempts", (("outcome", outcome), ("tier", tier))] = tried
        for rating in values("SELECT DISTINCT rating FROM feedback"):
            found["shammah_ratings", (("rating", rating),)] = count(f"SELECT count(*) FROM feedback WHERE rating = '{rating}'")
        for version in values("SELECT DISTINCT version FROM outcomes"):
            for agreed in ("true", "false"):
                if number := count(f"SELECT count(*) FROM outcomes WHERE version = '{version}' AND agrees = {agreed}"):
                    found["shammah_audits", (("agreed", agreed), ("version", version))] = number
        for status in values("SELECT DISTINCT status FROM runs"):
            found["shammah_training_runs", (("status", status),)] = count(
                f"SELECT count(*) FROM runs WHERE status = '{status}'"
            )
        found["shammah_busy", ()] = count("SELECT count(*) FROM attempts WHERE reason LIKE 'busy%'")
        found["shammah_learnable", ()] = count("SELECT count(*) FROM learnable")
        found["shammah_forgotten", ()] = count("SELECT count(*) FROM tombstones")
        for purpose, condition in (("answer", "<>"), ("audit", "=")):
            cost = count(f"SELECT sum(cost_usd) FROM exchanges WHERE source {condition} 'audit'")
            found["shammah_cost_usd", (("purpose", purpose),)] = cost
    return found


@pytest.fixture
def filled(home: Home) -> ExchangeLog:
    """A log with something of everything."""
    log = ExchangeLog(home)
    tried = (
        Attempt("neural", "declined", "busy"),
        Attempt("learned", "declined", "no"),
        Attempt("teacher", "accepted", "asked"),
    )
    asked = [
        Exchange(f"q{n}", f"a{n}", "teacher", latency_ms=37.0 * n, cost_usd=0.25, answer_tokens=n, attempts=tried)
        for n in range(20)
    ]
    failed = Exchange(
        "q", " ", "teacher", complete=False, latency_ms=3.0, attempts=(Attempt("teacher", "failed", "busy line"),)
    )
    audit = replace(
        asked[2], id=str(uuid.uuid4()), query="l", source="audit", attempts=(Attempt("teacher", "accepted", "audit"),)
    )
    past = [Exchange("p", "a", "import"), Exchange("audit there", "a", "teacher", source="import:log.jsonl")]
    local = Exchange(
        "l",
        "a",
        "neural",
        latency_ms=61_000.0,
        prompt_tokens=7,
        answer_tokens=2,
        attempts=(Attempt("neural", "accepted", "sure"),),
    )
    lost = Exchange("secret", "a", "teacher")
    log.add_many([*asked, failed, audit, *past, local, lost])
    log.rate(Feedback(local.id, "good"))
    log.rate(Feedback(asked[0].id, "bad"))
    log.rate(Feedback(asked[1].id, "bad", correction="b"))
    log.audit(Audited(local.id, "v0001", 0.5, True))
    log.audit(Audited(asked[2].id, "v0001", 0.5, False))
    now = datetime.now(UTC)
    log.record_run(RunRecord("r1", now, now, "refused", "too few", None, {}))
    forget(log, home, Selection(ids=(lost.id,)))
    return log


def test_every_figure_of_the_log_equals_a_direct_count(filled: ExchangeLog, home: Home, serving: Serving) -> None:
    found = scrape(serving(offline=True))
    assert found["shammah_log_read", ()] == 1.0
    wanted = counted(home)
    assert of_the_log(found) == pytest.approx(wanted)
    stats = filled.stats()
    assert wanted["shammah_exchanges", (("answered", "true"), ("tier", "teacher"))] == stats.per_tier["teacher"][0] == 20
    assert wanted["shammah_answer_seconds_count", (("tier", "teacher"),)] == 20
    assert wanted["shammah_attempts", (("outcome", "accepted"), ("tier", "teacher"))] == 20
    assert wanted["shammah_exchanges", (("answered", "true"), ("tier", "import"))] == stats.per_tier["import"][0] == 2
    assert wanted["shammah_cost_usd", (("purpose", "answer"),)] == stats.per_tier["teacher"][2] == 5.0
    assert wanted["shammah_cost_usd", (("purpose", "audit"),)] == stats.audits_usd == 0.25
    assert wanted["shammah_forgotten", ()] == 1
    assert wanted["shammah_audits", (("agreed", "true"), ("version", "v0001"))] == 1


def test_queries_over_http_are_in_the_figures(tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving) -> None:
    tiny.publish(home)
    server = serving()
    for _ in range(3):
        assert server.complete(QUESTION).status == 200
    assert server.complete(TAUGHT, model="shammah-teacher").status == 200
    assert server.ask("POST", "/v1/messages", {"nonsense": 1}).status == 400
    assert server.ask("GET", "/v1/models", headers={}).status == 401
    assert server.ask("GET", "/nobody/knows/this").status == 404
    found = scrape(server)
    assert of_the_log(found) == pytest.approx(counted(home))
    assert found["shammah_exchanges", (("answered", "true"), ("tier", "neural"))] == 3
    assert found["shammah_model", (("version", "v0001"),)] == 1.0
    for name in ("shammah", "none-of-ours"):
        server.ask("GET", f"/v1/models/{name}")
    found = scrape(server)
    requests = {key[1]: value for key, value in found.items() if key[0] == "shammah_http_requests_total"}
    assert requests[("path", "/v1/chat/completions"), ("status", "200")] == 4
    assert requests[("path", "/v1/messages"), ("status", "400")] == 1
    assert requests[("path", "other"), ("status", "404")] == 1
    assert [requests[("path", "/v1/models/{name}"), ("status", status)] for status in ("200", "404")] == [1, 1]
    assert found["shammah_http_refused_total", (("reason", "token"),)] == 1
    assert found["shammah_http_under_way", ()] == 0


def test_a_log_that_is_taken_is_said_to_be(filled: ExchangeLog, home: Home, serving: Serving) -> None:
    server = serving(offline=True)
    holder = Holder(home.log)
    try:
        taken = scrape(server)
    finally:
        holder.let_go()
    assert taken["shammah_log_read", ()] == 0.0
    assert of_the_log(taken) == {}


def test_what_waits_in_the_spool_is_told(home: Home, claude: FakeClaude, serving: Serving) -> None:
    server = serving()
    server.complete("Anything?")
    holder = Holder(home.log)
    try:
        server.complete("Anything else?")
        assert scrape(server)["shammah_spooled", ()] == 1.0
    finally:
        holder.let_go()


def test_an_empty_home_has_figures_too(home: Home, serving: Serving) -> None:
    found = scrape(serving(offline=True, no_log=True))
    assert found["shammah_log_read", ()] == 0.0
    assert not any(name == "shammah_model" for name, _ in found)


def test_the_names_are_those_that_are_documented(filled: ExchangeLog, home: Home, tiny: Tiny, serving: Serving) -> None:
    tiny.publish(home)
    server = serving(offline=True)
    server.ask("GET", "/v1/models", headers={})
    text = server.ask("GET", "/metrics").body.decode()
    told = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("shammah_")}
    # The parser takes off the ending of a counter.
    documented = {
        name.removesuffix("_total") for name in re.findall(r"^\| `(shammah_\w+)", DOCS.read_text(encoding="utf-8"), re.M)
    }
    assert told == documented
