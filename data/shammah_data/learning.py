"""The learning curve: what grows with the exchanges known, run by run. Knows past runs and charts, no page."""

from collections.abc import Callable, Sequence

from shammah_data.pages import Figure, Table
from shammah_data.past import Past
from shammah_data.plots import Axis, Chart, Series, key, line_chart, open_key
from shammah_data.shares import Share
from shammah_data.text import counted

Measure = Callable[[Past], Share | None]


def learning_curve(runs: Sequence[Past]) -> list[Figure]:
    """What grows with the exchanges known: held-out phrasings right and answered, and how many answers given are right.

    Nothing before the first measured run.
    """
    measured = sorted(
        (run for run in runs if run.count("snapshot_rows") is not None and run.heldout("right") and run.local()),
        key=lambda run: (run.count("snapshot_rows") or 0, run.id),
    )
    if not measured:
        return []
    right = _over_runs("right", 0, measured, lambda run: run.heldout("right"), whiskers=True)
    given = _over_runs("answered at its threshold", 1, measured, lambda run: run.local())
    first = _grown(
        "learning",
        "Right and answered",
        "held-out phrasings",
        measured,
        (*right, *given),
        _from_to(measured, "of the held-out phrasings are right", lambda run: run.heldout("right"))
        + _from_to(measured, "are answered at the threshold", lambda run: run.local()),
        (("right", lambda run: run.heldout("right")), ("answered", lambda run: run.local())),
    )
    answering = [run for run in measured if run.answered]
    if not answering:
        return [first]
    second = _grown(
        "precision",
        "Right when it answers",
        "answers given",
        answering,
        _over_runs("right among the answers given, of every kind of question", 2, answering, _answered, whiskers=True),
        _from_to(answering, "of the answers given are right", _answered),
        (("right among those given", _answered),),
    )
    return [first, second]


def _answered(run: Past) -> Share | None:
    return run.answered


def _over_runs(name: str, style: int, runs: Sequence[Past], share_of: Measure, whiskers: bool = False) -> tuple[Series, ...]:
    """A line through the published runs and open points for the others."""
    series = []
    places = _places(runs)
    for published in (True, False):
        some = [(run, share) for run in runs if (run.status == "published") == published and (share := share_of(run))]
        if some:
            series.append(
                Series(
                    name,
                    tuple((places[run.id], share.value) for run, share in some),
                    style,
                    tuple(share.interval for _, share in some) if whiskers else (),
                    tuple(f"{called(run)}: {told_share(share)}" for run, share in some),
                    frozenset() if published else frozenset(range(len(some))),
                    line=published,
                )
            )
    return tuple(series)


def _grown(
    name: str,
    title: str,
    label: str,
    runs: Sequence[Past],
    series: tuple[Series, ...],
    summary: str,
    columns: tuple[tuple[str, Measure], ...],
) -> Figure:
    published = sum(run.status == "published" for run in runs)
    summary += (
        "The curve begins with the second version." if published < 2 else "Upright lines, or the band, are 95% intervals."
    )
    places = _places(runs)
    each = counted(runs[0].count("snapshot_rows") or 0, "exchange")
    label_x = f"runs, each with {each} known" if _level(runs) else "exchanges known"
    # A lone point stands in the middle.
    room = 2 * max(places.values()) if len(runs) == 1 else None
    x, y = Axis(label_x, 0.0, room, "whole"), Axis(label, 0.0, 1.0, "percent")
    chart = Chart(name, title, summary, x, y, series)
    # What no published run has is named by its open points.
    lined = {one.name for one in series if one.line}
    legend = tuple((key(one), one.name) for one in series if one.line or one.name not in lined)
    if any(not one.line for one in series):
        styles = sorted({one.style for one in series if not one.line})
        legend += ((open_key(styles), "open: not published"),)
    rows = []
    for run in runs:
        shares = [share_of(run) for _, share_of in columns]
        told = ["-" if share is None else told_share(share) for share in shares]
        rows.append((f"{run.started:%Y-%m-%d %H:%M}", str(run.count("snapshot_rows")), *told, run.version or run.status))
    heads = ("run (UTC)", "exchanges", *(f"{head} (95% interval)" for head, _ in columns), "came to")
    table = Table(f"{title}, by run", heads, tuple(rows), frozenset(range(1, 2 + len(columns))))
    return Figure(name, title, summary, line_chart(chart), legend, table)


def _level(runs: Sequence[Past]) -> bool:
    """Whether several runs knew equally many exchanges: there is no growth to draw them over."""
    return len(runs) > 1 and len({run.count("snapshot_rows") for run in runs}) == 1


def _places(runs: Sequence[Past]) -> dict[str, float]:
    """Where each run stands: at the exchanges it knew, or one after another where these are the same for all."""
    if _level(runs):
        return {run.id: float(n) for n, run in enumerate(runs, 1)}
    return {run.id: run.number("snapshot_rows") or 0.0 for run in runs}


def _from_to(runs: Sequence[Past], what: str, share_of: Measure) -> str:
    """What the published runs show, else all of them, in a sentence and a space."""
    runs = [run for run in runs if run.status == "published"] or runs
    first, last = runs[0], runs[-1]
    before, after = share_of(first), share_of(last)
    if after is None:
        return ""
    if before is None or first.id == last.id:
        return f"{after.percent} {what} with {counted(last.count('snapshot_rows') or 0, 'exchange')}. "
    known = counted(first.count("snapshot_rows") or 0, "exchange")
    if first.count("snapshot_rows") == last.count("snapshot_rows"):
        return f"{before.percent} {what} in the first run with {known}, {after.percent} in the last. "
    known += f", {after.percent} with {last.count('snapshot_rows')}"
    return f"{before.percent} {what} with {known}. "


def called(run: Past) -> str:
    return run.version or f"{run.status} run of {run.started:%Y-%m-%d}"


def told_share(share: Share) -> str:
    return f"{share.percent}, {share.part} of {share.total} ({share.range})"
