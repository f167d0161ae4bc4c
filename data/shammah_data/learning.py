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
    for published in (True, False):
        some = [(run, share) for run in runs if (run.status == "published") == published and (share := share_of(run))]
        if some:
            series.append(
                Series(
                    name,
                    tuple((run.number("snapshot_rows") or 0.0, share.value) for run, share in some),
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
    x, y = Axis("exchanges known", 0.0, _room(runs), "whole"), Axis(label, 0.0, 1.0, "percent")
    chart = Chart(name, title, summary, x, y, series)
    legend = tuple((key(one), one.name) for one in series if one.line)
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


def _room(runs: Sequence[Past]) -> float | None:
    """Where the axis ends: a lone point stands in the middle."""
    known = {run.number("snapshot_rows") or 0.0 for run in runs}
    return 2 * max(known) if len(known) == 1 else None


def _from_to(runs: Sequence[Past], what: str, share_of: Measure) -> str:
    """What the published runs show, else all of them, in a sentence and a space."""
    runs = [run for run in runs if run.status == "published"] or runs
    first, last = runs[0], runs[-1]
    before, after = share_of(first), share_of(last)
    if after is None:
        return ""
    if before is None or first.id == last.id:
        return f"{after.percent} {what} with {counted(last.count('snapshot_rows') or 0, 'exchange')}. "
    known = f"{counted(first.count('snapshot_rows') or 0, 'exchange')}, {after.percent} with {last.count('snapshot_rows')}"
    return f"{before.percent} {what} with {known}. "


def called(run: Past) -> str:
    return run.version or f"{run.status} run of {run.started:%Y-%m-%d}"


def told_share(share: Share) -> str:
    return f"{share.percent}, {share.part} of {share.total} ({share.range})"
