"""What /metrics tells, by Prometheus' naming rules: what the log holds, counted by SQL, and what this process has seen.

docs/http.md lists the names. What is counted in the log may fall, when something is forgotten, and is a gauge for that reason.
"""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from shammah_data.errors import LogError
from shammah_data.log import ExchangeLog
from shammah_data.queries import GIVEN, WHO
from shammah_data.session import Session, fetch
from shammah_data.text import printable
from shammah_runtime.turns import BUSY

LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
_READ_SECONDS = 2.0
_BUCKETS = ", ".join(f"count(*) FILTER (latency_ms <= {1000 * most}) AS le{n}" for n, most in enumerate(LATENCY_SECONDS))
# What audits ask, nobody asked for; but it is paid for.
_ASKED = "source <> 'audit'"
_PURPOSE = f"CASE WHEN {_ASKED} THEN 'answer' ELSE 'audit' END AS purpose"
# (name, help, labels, SQL whose columns are the labels and then the value)
_GAUGES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "shammah_exchanges",
        "Exchanges in the log, by who answered and whether anybody did; without what audits asked.",
        ("tier", "answered"),
        f"SELECT {WHO} AS who, CASE WHEN trim(answer) = '' THEN 'false' ELSE 'true' END AS answered, count(*) "
        f"FROM exchanges WHERE {_ASKED} GROUP BY ALL",
    ),
    (
        "shammah_attempts",
        "Tiers tried, by what came of it; without what audits asked.",
        ("tier", "outcome"),
        f"SELECT a.tier, outcome, count(*) FROM attempts a JOIN exchanges e ON e.id = exchange_id WHERE {_ASKED} GROUP BY ALL",
    ),
    (
        "shammah_busy",
        "Queries that went on to the next tier because the engine was busy.",
        (),
        f"SELECT count(*) FROM attempts WHERE starts_with(reason, '{BUSY}')",
    ),
    ("shammah_ratings", "Ratings in the log.", ("rating",), "SELECT rating, count(*) FROM feedback GROUP BY ALL"),
    (
        "shammah_audits",
        "Answers that were also put to the teacher, by who gave them and whether the two agreed.",
        ("version", "agreed"),
        f"SELECT version, CASE WHEN agrees THEN 'true' ELSE 'false' END, count(*) FROM outcomes o WHERE {GIVEN} GROUP BY ALL",
    ),
    ("shammah_learnable", "Exchanges that may be trained on.", (), "SELECT count(*) FROM learnable"),
    ("shammah_forgotten", "Exchanges that were forgotten.", (), "SELECT count(*) FROM tombstones"),
    (
        "shammah_training_runs",
        "Training runs, by how they ended.",
        ("status",),
        "SELECT status, count(*) FROM runs GROUP BY ALL",
    ),
    (
        "shammah_cost_usd",
        "What the teacher's answers cost, in US dollars, by what they were asked for.",
        ("purpose",),
        f"SELECT 'answer', coalesce(sum(cost_usd) FILTER ({_ASKED}), 0) FROM exchanges "
        f"UNION ALL SELECT 'audit', coalesce(sum(cost_usd) FILTER (NOT {_ASKED}), 0) FROM exchanges",
    ),
    (
        "shammah_tokens",
        "Tokens read and written, as whoever answered counts them, by what they were asked for.",
        ("tier", "kind", "purpose"),
        f"SELECT tier, 'read', {_PURPOSE}, coalesce(sum(prompt_tokens), 0) FROM exchanges GROUP BY ALL "
        f"UNION ALL SELECT tier, 'written', {_PURPOSE}, coalesce(sum(answer_tokens), 0) FROM exchanges GROUP BY ALL",
    ),
)


class Figures:
    """The metrics of one server; `version()` names the model that serves, `under_way()` counts queries."""

    def __init__(self, log: ExchangeLog, version: Callable[[], str | None], under_way: Callable[[], int]) -> None:
        self._log = log
        self._version = version
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.requests = Counter("shammah_http_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self.refused = Counter("shammah_http_refused", "Requests refused, by reason.", ["reason"], registry=self._registry)
        self.lag = Histogram(
            "shammah_http_loop_lag_seconds",
            "How late the event loop came to what was due.",
            buckets=LAG_SECONDS,
            registry=self._registry,
        )
        waiting = Gauge("shammah_http_under_way", "Queries that have not ended.", registry=self._registry)
        waiting.set_function(under_way)

    def text(self) -> bytes:
        """Everything in Prometheus' text format (version 0.0.4); reads the log."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """What is counted at the moment of asking."""
        version = self._version()
        serving = GaugeMetricFamily("shammah_model", "The version that serves.", labels=["version"])
        if version is not None:
            serving.add_metric([version], 1.0)
        yield serving
        spooled = GaugeMetricFamily("shammah_spooled", "Records that wait for the database to be free.")
        spooled.add_metric([], float(self._log.spooled()))
        yield spooled
        found: list[Metric] = []
        try:
            if self._log.exists():
                found = self._log.read(_counted, _READ_SECONDS)
        except LogError:
            found = []
        readable = GaugeMetricFamily("shammah_log_read", "Whether the log could be read; if not, its figures are left out.")
        readable.add_metric([], float(bool(found)))
        yield readable
        yield from found

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the log."""
        return []


def _counted(session: Session) -> list[Metric]:
    found: list[Metric] = []
    for name, told, labels, sql in _GAUGES:
        gauge = GaugeMetricFamily(name, told, labels=labels)
        for row in _rows(session, sql):
            gauge.add_metric([printable(str(label)) for label in row[:-1]], float(row[-1]))
        found.append(gauge)
    latency = HistogramMetricFamily("shammah_answer_seconds", "From the query to the end of its answer.", labels=["tier"])
    for tier, total, seconds, *counts in _rows(
        session,
        f"SELECT tier, count(latency_ms), coalesce(sum(latency_ms), 0) / 1000, {_BUCKETS} FROM exchanges "
        f"WHERE {_ASKED} AND trim(answer) <> '' AND latency_ms IS NOT NULL GROUP BY tier",
    ):
        buckets = [(f"{most:g}", float(count)) for most, count in zip(LATENCY_SECONDS, counts, strict=True)]
        latency.add_metric([printable(str(tier))], [*buckets, ("+Inf", float(total))], float(seconds))
    return [*found, latency]


def _rows(session: Session, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in fetch(session, sql)]
