"""Every figure of the page is what a statement of one's own gives over the log."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from fakes.browsing import Visitor
from fakes.html import Page
from fakes.listening import Listening
from fakes.versions import Tiny
from shammah_data.auditing import Judged, measured
from shammah_data.exchange import Audited, Exchange, Feedback, RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.shares import Share
from shammah_data.store import ModelStore
from shammah_runtime.http.overview import duration, usd

Serving = Callable[..., Listening]
WHO = ("neural", "learned", "template", "teacher", "nobody")
_SHOWN = "source <> 'audit' AND tier <> 'import'"


def fill(home: Home) -> None:
    """Forty days of everything, some of it audited, rated, unanswered, imported, too old."""
    log = ExchangeLog(home)
    noon = datetime.now(UTC).replace(hour=12, minute=0)
    made: list[Exchange] = []
    for ago in range(40):
        at = noon - timedelta(days=ago)
        if at > datetime.now(UTC):
            at = datetime.now(UTC)
        if ago % 7 == 3:
            continue
        for n in range(3 + ago % 4):
            given: dict[str, Any] = {
                "created_at": at,
                "source": "http" if n % 2 else "serve",
                "latency_ms": 37.0 * n + 11 * ago,
            }
            version = "v0001" if ago > 9 else "v0002"
            made.append(Exchange(f"n{ago} {n}", "a", "neural", model_version=version, confidence=0.9, **given))
            if n % 2:
                made.append(Exchange(f"l{ago} {n}", "a", "learned", **given))
            if n % 3:
                made.append(Exchange(f"t{ago} {n}", "a", "teacher", cost_usd=0.001 * (n + 1), **given))
        made.append(Exchange(f"c{ago}", "Hello.", "template", created_at=at))
        made.append(Exchange(f"u{ago}", "  ", "teacher", complete=False, created_at=at, latency_ms=45_000.0))
        made.append(Exchange(f"i{ago}", "a", "import", source="import", created_at=at))
        made.append(Exchange(f"a{ago}", "a", "teacher", source="audit", created_at=at, cost_usd=0.002, latency_ms=9_000.0))
    log.add_many(made)
    for place, one in enumerate(one for one in made if one.tier in ("neural", "learned")):
        if place % 5 == 0:
            log.audit(Audited(one.id, one.model_version or "learned", (0.1, 0.5, 1.0)[place % 3], place % 4 > 0))
        if place % 7 == 0:
            log.rate(Feedback(one.id, "bad" if place % 2 else "good"))
    for n, (right, accepted, correct) in enumerate(((3, 2, 2), (14, 11, 10), (19, 16, 16))):
        counts = {"asked": 24, "right": right, "accepted": accepted, "accepted_right": correct}
        both = counts | {"repeated": 3, "repeated_right": 2}
        figures = {"snapshot_rows": 100 * (n + 1), "heldout": {"phrasing": both, "outside": counts | {"right": 0}}}
        began = noon - timedelta(days=9 - n)
        status = "refused" if n == 1 else "published"
        record = RunRecord(f"{began:%Y%m%dT%H%M%S}000Z", began, began, status, "why", f"v000{n}" if n != 1 else None, figures)  # type: ignore[arg-type]
        log.record_run(record)


class Direct:
    """One's own statements over the database, read only."""

    def __init__(self, home: Home) -> None:
        self.database = duckdb.connect(str(home.log), read_only=True)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.database.execute(sql).fetchall()
        return found

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def audited(self, where: str) -> tuple[str, str, str]:
        """(precision, agreed of audited, interval) as words."""
        joined = f"FROM outcomes o JOIN exchanges e ON e.id = o.exchange_id WHERE {where}"
        precision = self.value(f"SELECT sum(CASE WHEN agrees THEN 1 / probability END) / sum(1 / probability) {joined}")
        agreed, audited = self.rows(f"SELECT count(*) FILTER (agrees), count(*) {joined}")[0]
        found = measured([Judged(None, *row) for row in self.rows(f"SELECT agrees, probability {joined}")])
        return f"{precision:.0%}", f"{agreed} of {audited}", f"{found.low * 100:.0f}-{found.high * 100:.0f}%"


def tiles(direct: Direct, today: date) -> dict[str, tuple[str, str]]:
    def week(first: int, last: int) -> tuple[int, int]:
        days = f"created_at::DATE BETWEEN DATE '{today}' - {last} AND DATE '{today}' - {first}"
        local = "tier IN ('neural', 'learned', 'template') AND trim(answer) <> ''"
        return direct.rows(f"SELECT count(*), count(*) FILTER ({local}) FROM exchanges WHERE {_SHOWN} AND {days}")[0]

    queries, local = week(0, 6)
    before, local_before = week(7, 13)
    given = "source <> 'audit' AND tier <> 'import' AND complete AND trim(answer) <> ''"
    bad = "id IN (SELECT exchange_id FROM feedback WHERE rating = 'bad')"
    answered = direct.value(f"SELECT count(*) FROM exchanges WHERE {given}")
    saved = direct.value(f"SELECT count(*) FROM exchanges WHERE {given} AND tier <> 'teacher' AND NOT {bad}")
    mean, priced, spent = direct.rows(
        f"SELECT avg(cost_usd), count(cost_usd), sum(cost_usd) FROM exchanges WHERE {given} AND tier = 'teacher'"
    )[0]
    audits = direct.value("SELECT sum(cost_usd) FROM exchanges WHERE source = 'audit'")
    precision, agreed, interval = direct.audited("o.version IN ('v0002', 'learned')")
    low, high = interval.removesuffix("%").split("-")
    return {
        "Answered here this week": (
            f"{local / queries:.0%}",
            f"{local} of {queries} queries; {local_before / before:.0%} in the 7 days before",
        ),
        "Right, by audits": (
            precision,
            f"{agreed} audited answers agreed with the teacher's; 95% interval {low}% to {high}%",
        ),
        "Calls saved": (f"{saved}", f"of {answered} answers ({saved / answered:.0%}); those rated bad saved none"),
        "Money saved": (
            usd(saved * mean - audits),
            f"{usd(mean)} a call, the mean of {priced}, less {usd(audits)} for audits; {usd(spent)} was spent",
        ),
        "Serving": ("v0002", "learned from 20 exchanges"),
    }


def tables(direct: Direct, today: date) -> dict[str, list[list[str]]]:
    recent = f"{_SHOWN} AND created_at::DATE > DATE '{today}' - 30"
    days = [["day (UTC)", "queries", "answered here", *WHO]]
    for (day,) in direct.rows(f"SELECT DISTINCT created_at::DATE AS day FROM exchanges WHERE {recent} ORDER BY day DESC"):
        of_day = f"FROM exchanges WHERE {_SHOWN} AND created_at::DATE = DATE '{day}'"
        counts = [direct.value(f"SELECT count(*) {of_day} AND tier = '{who}' AND trim(answer) <> ''") for who in WHO[:4]]
        counts.append(direct.value(f"SELECT count(*) {of_day} AND trim(answer) = ''"))
        total = direct.value(f"SELECT count(*) {of_day}")
        days.append([str(day), str(total), f"{sum(counts[:3]) / total:.0%}", *map(str, counts)])
    took = [["who answered", "", "answers", "median", "p90"]]
    for who in WHO[:4]:
        of_tier = f"FROM exchanges WHERE {recent} AND tier = '{who}' AND trim(answer) <> '' AND latency_ms IS NOT NULL"
        times = sorted(row[0] for row in direct.rows(f"SELECT latency_ms {of_tier}"))
        if times:
            took.append([who, "", str(len(times)), duration(_quantile(times, 0.5)), duration(_quantile(times, 0.9))])
    versions = [["version", "role", "made (UTC)", "learned from", "answers from", "right by audits (95% interval)"]]
    for name, role in (("v0003", "candidate, 25%"), ("v0002", "champion"), ("v0001", "previous")):
        audits = "not measured"
        if direct.value(f"SELECT count(*) FROM outcomes WHERE version = '{name}'"):
            precision, agreed, interval = direct.audited(f"o.version = '{name}'")
            audits = f"{precision}, {agreed} ({interval})"
        versions.append([name, role, "2030-01-01 00:00", "20", "0.00", audits])
    precision, agreed, interval = direct.audited("o.version = 'learned'")
    versions.append(["learned", "earlier answers", "–", "–", "–", f"{precision}, {agreed} ({interval})"])
    right = [["run (UTC)", "exchanges", "right (95% interval)", "answered (95% interval)", "came to"]]
    precise = [["run (UTC)", "exchanges", "right among those given (95% interval)", "came to"]]
    for started, status, version, figures in direct.rows("SELECT started, status, version, figures FROM runs ORDER BY id"):
        read = json.loads(figures)
        heldout, known = read["heldout"], str(read["snapshot_rows"])
        asked, kinds = heldout["phrasing"]["asked"], heldout.values()
        came, began = version or status, f"{started:%Y-%m-%d %H:%M}"
        right.append(
            [began, known, told(heldout["phrasing"]["right"], asked), told(heldout["phrasing"]["accepted"] + 3, asked), came]
        )
        among = told(sum(kind["accepted_right"] for kind in kinds) + 2, sum(kind["accepted"] for kind in kinds) + 3)
        precise.append([began, known, among, came])
    return {
        "Queries by day and by who answered": days,
        "From the question to the end of the answer, last 30 days": took,
        "Versions, newest first": versions,
        "Right and answered, by run": right,
        "Right when it answers, by run": precise,
    }


def _quantile(ordered: list[float], share: float) -> float:
    """Interpolated between neighbours."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def told(part: int, total: int) -> str:
    share = Share(part, total)
    return f"{part / total:.0%}, {part} of {total} ({share.range})"


@pytest.fixture
def filled(home: Home, tiny: Tiny) -> Home:
    for _ in range(3):
        tiny.publish(home, promote=False)
    store = ModelStore(home.models)
    for version in ("v0001", "v0002"):
        store.promote(version)
    store.set_candidate("v0003", 0.25)
    fill(home)
    return home


def test_every_figure_of_the_page_equals_a_direct_count(filled: Home, serving: Serving) -> None:
    visitor = Visitor(serving(offline=True))
    visitor.sign_in()
    text = visitor.get("/").body.decode()
    page = Page(text)
    today = datetime.fromisoformat(page.named("time")[-1]["datetime"]).date()
    direct = Direct(filled)
    assert page.tiles == tiles(direct, today)
    wanted = tables(direct, today)
    assert page.tables.keys() == wanted.keys()
    for caption, rows in wanted.items():
        assert page.tables[caption] == rows, caption
    total = direct.value(f"SELECT count(*) FROM exchanges WHERE {_SHOWN} AND created_at::DATE > DATE '{today}' - 30")
    assert f"Of {total} queries in the last 30 days" in page.text
    assert columns(text) == [row[1:2] + row[3:] for row in wanted["Queries by day and by who answered"][:0:-1]]


def columns(text: str) -> list[list[str]]:
    """The counts that the columns of the chart tell, oldest first: of all, and of each who answered."""
    found = []
    for line in re.findall(r"<title>\d+ \w{3}: ([^<]+)</title>", text):
        counts = dict(part.split() for part in line.split(", "))
        found.append([str(sum(map(int, counts.values()))), *(counts.get(who, "0") for who in WHO)])
    return found
