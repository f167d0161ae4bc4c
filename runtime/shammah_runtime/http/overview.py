"""What the page shows of a home: gathered from the log, the store and the runs, and put into tiles, charts and tables.

Knows no request. Every figure is counted when it is asked for; what was not measured is said to be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shammah_data.auditing import Measured
from shammah_data.errors import ArtifactError, LogError
from shammah_data.guard import Guard
from shammah_data.home import Home
from shammah_data.learning import learning_curve
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Manifest
from shammah_data.pages import Figure, Table, Tile
from shammah_data.past import Past, past_runs
from shammah_data.plots import Columns, bar, column_chart
from shammah_data.rollout import Plan, judge_trial, named
from shammah_data.served import ANSWERERS, DAYS, LOCAL, WEEK, Served, asked, served
from shammah_data.session import Session
from shammah_data.store import ModelStore, Pointer
from shammah_data.targets import held_to
from shammah_data.text import counted
from shammah_data.verdicts import Verdict, verdicts
from shammah_runtime.engine.choice import Wanted

READ_SECONDS = 2.0
MOST_RECENT = 10
_MOST_RUNS = 60
_MOST_VERSIONS = 8
_MOST_ENDED = 4


@dataclass(frozen=True)
class Known:
    """Everything that the page is made from; `served` is None while there is no log, or (`problem`) it cannot be read.

    `versions`: newest first, each with its manifest, or what is wrong with it. `target`: the precision wanted of them, 0 for
    each one's own. `wanted`: which of their graphs. `ended`: how the trials of versions that are still here ended, the last
    first.
    """

    served: Served | None
    recent: Sequence[dict[str, Any]]
    problem: str
    runs: Sequence[Past]
    pointer: Pointer
    versions: Sequence[tuple[str, Manifest | str]]
    raised: dict[str, float]
    now: datetime
    target: float = 0.0
    wanted: Wanted = field(default_factory=Wanted)
    ended: Sequence[tuple[str, Verdict]] = ()


def gather(home: Home, log: ExchangeLog, now: datetime, target: float = 0.0, wanted: Wanted = Wanted()) -> Known:
    """Read the log, the store and the runs; what cannot be read is told on the page."""
    problems = []
    pointer, versions, raised = Pointer(), list[tuple[str, Manifest | str]](), dict[str, float]()
    try:
        store, guard = ModelStore(home.models), Guard(home.models)
        pointer = store.pointer()
        newest = store.versions()[: -_MOST_VERSIONS - 1 : -1]
        shown = sorted({*newest, *named(pointer)}, key=lambda name: int(name[1:]), reverse=True)
        versions = [(name, _manifest(store, name)) for name in shown]
        raised = {name: one.threshold for name in shown if (one := guard.of(name)) is not None}
    except ArtifactError as error:
        problems.append(str(error))
    names = [name for name, _ in versions]
    serving = [name for name in (pointer.champion, "learned") if name]

    def read(session: Session) -> tuple[Served, list[dict[str, Any]]]:
        return served(session, now, [*names, "learned"], serving), asked(session, MOST_RECENT)

    found: Served | None = None
    recent: list[dict[str, Any]] = []
    runs: list[Past] = []
    try:
        if log.exists():
            found, recent = log.read(read, READ_SECONDS)
        runs = past_runs(home, log, _MOST_RUNS)
    except LogError as error:
        problems.append(str(error))
    trials = sorted(verdicts(home.models).items(), key=lambda one: one[1].at, reverse=True)
    return Known(found, recent, "; ".join(problems), runs, pointer, versions, raised, now, target, wanted, trials)


def parts(known: Known) -> dict[str, Any]:
    """What the template of the page is filled with, beside the exchanges."""
    return {
        "made": known.now,
        "problem": known.problem,
        "tiles": _tiles(known),
        "answered": _answered(known.served),
        "latency": _latency(known.served),
        "learning": learning_curve(known.runs),
        "champion": known.pointer.champion,
        "roll_out": _roll_out(known),
        "ended": [f"{name} was {verdict.told}" for name, verdict in known.ended[:_MOST_ENDED]],
        "versions": _versions(known),
        "last_run": known.runs[0] if known.runs else None,
        "nothing_asked": _nothing_asked(known.served),
    }


def _manifest(store: ModelStore, name: str) -> Manifest | str:
    try:
        return Manifest.load(store.folder(name))
    except ArtifactError as error:
        return str(error)


# -- tiles ------------------------------------------------------------------------------------------------------------


def _tiles(known: Known) -> list[Tile]:
    found = known.served
    serving = Tile("Serving", known.pointer.champion or "no version", _serving(known))
    if found is None:
        return [serving]
    return [_here(found), _precision(found.precision), *_saved(found), serving]


def _here(found: Served) -> Tile:
    queries, local = found.asked_within(0, WEEK - 1)
    if not queries:
        return Tile("Answered here this week", "–", "nothing was asked in the last 7 days")
    before, local_before = found.asked_within(WEEK, 2 * WEEK - 1)
    change = f"; {share(local_before, before)} in the 7 days before" if before else ""
    return Tile("Answered here this week", share(local, queries), f"{local} of {counted(queries, 'query', 'queries')}{change}")


def _precision(found: Measured) -> Tile:
    name = "Right, by audits"
    if found.precision is None:
        return Tile(name, "not measured", "no answer given here was put to the teacher yet")
    told = f"{found.agreeing} of {counted(found.audited, 'audited answer')} agreed with the teacher's"
    return Tile(name, f"{found.precision:.0%}", f"{told}; 95% interval {found.low:.0%} to {found.high:.0%}")


def _saved(found: Served) -> list[Tile]:
    saved = found.saved
    part = f" ({share(saved.local, saved.answered)})" if saved.answered else ""
    calls = Tile("Calls saved", f"{saved.local}", f"of {counted(saved.answered, 'answer')}{part}; those rated bad saved none")
    if saved.saved_usd is None or saved.mean_usd is None:
        return [calls, Tile("Money saved", "not known", "no answer of the teacher has a known price")]
    audits = f", less {usd(saved.audits_usd)} for audits" if saved.audits_usd else ""
    told = f"{usd(saved.mean_usd)} a call, the mean of {saved.priced}{audits}; {usd(saved.spent_usd)} was spent"
    return [calls, Tile("Money saved", usd(saved.saved_usd), told)]


def _serving(known: Known) -> str:
    if known.pointer.champion is None:
        return "the teacher answers what needs a model"
    found = dict(known.versions).get(known.pointer.champion)
    return f"learned from {counted(found.snapshot_rows, 'exchange')}" if isinstance(found, Manifest) else "cannot be read"


# -- who answered, and how fast ---------------------------------------------------------------------------------------


def _answered(found: Served | None) -> Figure | None:
    """Who answered, day by day; None where nothing was asked."""
    if found is None or not found.days:
        return None
    total, local = found.asked_within(0, DAYS - 1)
    begin = min(found.days)
    days = [begin + timedelta(days=n) for n in range((found.today - begin).days + 1)]
    counts = [tuple(found.days.get(day, {}).get(who, 0) for who in ANSWERERS) for day in days]
    sums = {who: sum(column[n] for column in counts) for n, who in enumerate(ANSWERERS)}
    summary = f"Of {counted(total, 'query', 'queries')} in the last {DAYS} days {share(local, total)} were answered here"
    for who, told in (("teacher", "by the teacher"), ("nobody", "by nobody")):
        if sums[who]:
            summary += f", {share(sums[who], total)} {told}"
    title = "Who answered, day by day"
    chart = Columns(
        "answered",
        title,
        f"{summary}.",
        ("day (UTC)", "share of the queries"),
        tuple((who, who) for who in ANSWERERS),
        tuple((f"{day:%d %b}".lstrip("0"), column) for day, column in zip(days, counts, strict=True)),
    )
    rows = []
    for day in sorted(found.days, reverse=True):
        of_day = found.days[day]
        asked_then = sum(of_day.values())
        here = sum(n for who, n in of_day.items() if who in LOCAL)
        rows.append(
            (f"{day}", str(asked_then), share(here, asked_then), *(str(of_day.get(who, 0)) for who in ANSWERERS)),
        )
    heads = ("day (UTC)", "queries", "answered here", *ANSWERERS)
    table = Table("Queries by day and by who answered", heads, tuple(rows), frozenset(range(1, 3 + len(ANSWERERS))))
    return Figure("answered", title, f"{summary}.", column_chart(chart), (), table)


def _latency(found: Served | None) -> Table | None:
    if found is None or not found.latencies:
        return None
    most = max(one.p90 for one in found.latencies) or 1.0
    rows = tuple(
        (
            one.who,
            bar([(one.median / most, "good"), ((one.p90 - one.median) / most, "held")]),
            str(one.answers),
            duration(one.median),
            duration(one.p90),
        )
        for one in found.latencies
    )
    heads = ("who answered", "", "answers", "median", "p90")
    return Table(f"From the question to the end of the answer, last {DAYS} days", heads, rows, frozenset({2, 3, 4}))


def _nothing_asked(found: Served | None) -> str:
    if found is not None and found.asked:
        return f"Nothing was asked in the last {DAYS} days."
    if found is not None and found.imported:
        return f"Nothing has been asked yet; {counted(found.imported, 'exchange')} came from elsewhere."
    return "Nothing has been asked yet."


# -- versions ---------------------------------------------------------------------------------------------------------


def _roll_out(known: Known) -> list[str]:
    """Who serves and what is on trial, in sentences."""
    pointer, found = known.pointer, known.served
    if pointer.champion is None:
        return ["No version serves: the teacher answers what needs a model."]
    said = [f"{pointer.champion} serves{', and is pinned: it stays until somebody says otherwise' if pointer.pinned else ''}."]
    if pointer.candidate is not None:
        since = f" since {pointer.candidate_since[:16].replace('T', ' ')} UTC" if pointer.candidate_since else ""
        said.append(f"{pointer.candidate} is tried on {pointer.candidate_share:.0%} of the queries{since}.")
    champion = dict(known.versions).get(pointer.champion)
    held = _held(champion, known) if isinstance(champion, Manifest) else None
    plan = Plan() if held is None else Plan(held.target_precision)
    if found is not None and (trial := judge_trial(pointer, found.audits, plan, known.now).trial) is not None:
        said.append(f"{trial.version} beside {trial.against}: {trial.told}.")
    return said


def _held(manifest: Manifest, known: Known) -> Calibration:
    # It brings ONNX Runtime along, which whoever opens no page need not wait for.
    from shammah_runtime.engine.model import graph_here

    return held_to(graph_here(manifest, known.wanted).calibration, known.target)


def _versions(known: Known) -> Table | None:
    pointer, found = known.pointer, known.served
    roles = {pointer.previous: "previous", pointer.candidate: f"candidate, {pointer.candidate_share:.0%}"}
    roles[pointer.champion] = "champion, pinned" if pointer.pinned else "champion"
    rows = []
    for name, manifest in known.versions:
        measured = found.by_version.get(name) if found else None
        audits = "not measured" if measured is None or measured.precision is None else audited(measured)
        role = roles.get(name, "kept")
        if isinstance(manifest, str):
            rows.append((name, role, "cannot be read", "–", "–", audits))
            continue
        limit = max(_held(manifest, known).threshold, known.raised.get(name, 0.0))
        told = "nothing" if limit > 1 else f"{limit:.2f}"
        if name in known.raised:
            told += ", raised by audits"
        made = manifest.created[:16].replace("T", " ")
        rows.append((name, role, made, str(manifest.snapshot_rows), told, audits))
    if rows and found is not None and (learned := found.by_version.get("learned")) and learned.precision is not None:
        rows.append(("learned", "earlier answers", "–", "–", "–", audited(learned)))
    heads = ("version", "role", "made (UTC)", "learned from", "answers from", "right by audits (95% interval)")
    return Table("Versions, newest first", heads, tuple(rows), frozenset({3})) if rows else None


# -- words ------------------------------------------------------------------------------------------------------------


def audited(found: Measured) -> str:
    """Such as 97%, 31 of 32 (84-100%)."""
    return f"{found.precision:.0%}, {found.agreeing} of {found.audited} ({found.low * 100:.0f}-{found.high * 100:.0f}%)"


def share(part: int, whole: int) -> str:
    """Such as 72%; what is not quite nothing or all is not said to be."""
    percent = round(100 * part / whole)
    if part and not percent:
        return "under 1%"
    return "over 99%" if part < whole and percent == 100 else f"{percent}%"


def usd(amount: float) -> str:
    """Dollars, with as many places as small amounts need."""
    sign, amount = ("−", -amount) if amount < 0 else ("", amount)
    return f"{sign}${amount:.2f}" if amount >= 1 or amount == 0 else f"{sign}${amount:.4f}"


def duration(milliseconds: float) -> str:
    """Such as 640 ms or 2.4 s."""
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.1f} s"
