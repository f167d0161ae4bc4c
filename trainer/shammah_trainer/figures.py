"""From past runs to the figures of the report: charts with the tables behind them. Knows runs and charts, no page."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shammah_data.learning import called, told_share
from shammah_data.pages import Figure, Table
from shammah_data.past import Past, finite
from shammah_data.plots import Axis, Chart, Point, Series, bar, key, line_chart, thinned
from shammah_data.shares import calibration_error, reliability, risk_coverage
from shammah_data.text import counted
from shammah_trainer.history import HeldOut, groups_of
from shammah_trainer.screen import KIND_NAMES

_MOST_ROWS = 24
# What the counts of a dataset's card are, and what is counted in each line.
_COUNTED = {
    "sources": ("Who had answered the exchanges", "source"),
    "phrasings of an answer": ("Answers to train on, by how many questions have them", "questions of an answer"),
    "weights": ("Exchanges to train on, by weight: one rated important or critical counts more", "weight"),
}
# Below so many judged answers a curve over confidence says nothing.
FEWEST_ANSWERS = 10


@dataclass(frozen=True)
class Bars:
    """A table whose rows have a bar; `shown` are the rows that are shown at once, `table` all of them."""

    shown: Table
    table: Table


def loss_curve(run: Past, number: int) -> Figure | None:
    """The losses of one training: step by step where they were recorded, else by epoch; None where there is no curve."""
    train, heldout, rates = _stepwise(run)
    unit = "step"
    if max(len(train), len(heldout)) < 2:
        train, heldout = _by_epoch(run)
        unit = "epoch"
    if len(heldout) < 2 and len(train) < 2:
        return None
    marked = unit == "epoch"
    series = []
    if train:
        series.append(Series("training", thinned(train), 0, marked=marked))
    if heldout:
        series.append(Series("held out", thinned(heldout), 1, marked=len(heldout) < 30, line=not marked))
    shown = heldout if len(heldout) > 1 else train
    said = "held-out" if shown is heldout else "training"
    summary = f"{called(run)}: the {said} loss went from {shown[0][1]:.3f} to {shown[-1][1]:.3f} nats per token."
    if len(shown) > 2 and (least := min(shown, key=lambda one: one[1])) != shown[-1]:
        summary += f" It was least, {least[1]:.3f}, at {unit} {least[0]:g}."
    if rates:
        summary += f" The learning rate peaked at {max(rates):.2g}."
    title = f"Loss of the run of {run.started:%Y-%m-%d %H:%M}"
    x = Axis(f"{unit} of the training", 0.0, None, "whole")
    kept, steps_taken = run.number("kept_step"), run.number("steps")
    mark = None
    if unit == "step" and kept is not None and kept != steps_taken:
        mark = (kept, "kept")
        summary += f" The weights of step {kept:g} were kept."
    y = Axis("nats per response token", 0.0, None)
    chart = Chart(f"loss{number}", title, summary, x, y, tuple(series), mark=mark)
    held = dict(heldout)
    steps = sorted({x for x, _ in train} | set(held))
    stride = max(1, len(steps) // _MOST_ROWS)
    trained = dict(train)
    rows = tuple(
        (f"{x:g}", f"{trained[x]:.3f}" if x in trained else "-", f"{held[x]:.3f}" if x in held else "-")
        for n, x in enumerate(steps)
        if n % stride == 0 or n == len(steps) - 1 or x in held
    )
    table = Table(f"{title}, in nats per token", (unit, "training", "held out"), rows, frozenset({0, 1, 2}))
    return Figure(
        f"loss{number}",
        f"{run.started:%Y-%m-%d %H:%M}, {run.version or run.status}",
        summary,
        line_chart(chart),
        tuple((key(one), one.name) for one in series),
        table,
    )


def reliability_plot(answers: Sequence[HeldOut]) -> Figure | None:
    """Confidence against the share right, with the counts at the foot; None for too few answers."""
    sure = [(one.confidence, one.right) for one in answers if one.confidence is not None]
    if len(sure) < FEWEST_ANSWERS:
        return None
    bins = reliability(sure)
    error = calibration_error(sure)
    series = Series(
        "share right, with its 95% interval",
        tuple((each.mean, each.right.value) for each in bins),
        0,
        tuple(each.right.interval for each in bins),
        tuple(f"confidence {each.mean:.2f}: {told_share(each.right)}" for each in bins),
        line=False,
    )
    summary = (
        f"Over {counted(len(sure), 'held-out answer')}, confidence and share right differ by {error * 100:.1f} points on "
        "average. On the dashed line a confidence means what it says; points below it are too sure. The curve was fitted on "
        "these answers: on new ones expect somewhat more."
    )
    chart = Chart(
        "reliability",
        "Is a confidence what it says?",
        summary,
        Axis("confidence", 0.0, 1.0),
        Axis("share right", 0.0, 1.0, "percent"),
        (series,),
        ((0.0, 0.0), (1.0, 1.0), "a confidence that means what it says"),
        counts=tuple((each.low, each.high, each.right.total) for each in bins),
    )
    rows = tuple(
        (f"{each.low:.1f} to {each.high:.1f}", str(each.right.total), f"{each.mean:.2f}", told_share(each.right))
        for each in bins
    )
    table = Table(
        "Reliability", ("confidence", "answers", "mean confidence", "right (95% interval)"), rows, frozenset({1, 2, 3})
    )
    legend = ((key(series), series.name), (_count_key(), "answers of this confidence"))
    return Figure("reliability", "Calibration", summary, line_chart(chart), legend, table)


def risk_plot(answers: Sequence[HeldOut], threshold: float | None) -> Figure | None:
    """How many wrong answers each share of answers given brings; None for too few answers."""
    sure = [(one.confidence, one.right) for one in answers if one.confidence is not None]
    if len(sure) < FEWEST_ANSWERS:
        return None
    curve = risk_coverage(sure)
    given = [one for one in curve if threshold is not None and one.threshold >= threshold]
    summary = f"Were all {len(sure)} held-out questions answered, {curve[-1].wrong.percent} of the answers would be wrong."
    mark = None
    if given:
        mark = (given[-1].answered.value, "threshold")
        summary += (
            f" At the threshold {given[-1].answered.percent} are answered, of which {given[-1].wrong.part} of "
            f"{given[-1].wrong.total} are wrong."
        )
    series = Series(
        "wrong among the answers given", thinned([(r.answered.value, r.wrong.value) for r in curve]), 2, marked=False
    )
    chart = Chart(
        "risk",
        "Risk and coverage",
        summary,
        Axis("share of the questions answered, the surest first", 0.0, 1.0, "percent"),
        Axis("wrong among them", 0.0, None if curve[-1].wrong.value > 0.02 else 0.05, "percent"),
        (series,),
        mark=mark,
    )
    stride = max(1, len(curve) // _MOST_ROWS)
    rows = tuple(
        (f"{one.threshold:.3f}", told_share(one.answered), told_share(one.wrong))
        for n, one in enumerate(curve)
        if n % stride == 0 or n == len(curve) - 1
    )
    heads = ("from confidence", "answered (95% interval)", "wrong among them (95% interval)")
    table = Table("Risk and coverage", heads, rows, frozenset({0, 1, 2}))
    return Figure("risk", "Risk and coverage", summary, line_chart(chart), ((key(series), series.name),), table)


def by_kind(run: Past) -> Table | None:
    """What becomes of each kind of held-out question, whoever's answer is given, with a bar."""
    rows = []
    for kind, name in KIND_NAMES.items():
        asked, given, held = run.count("heldout", kind, "asked"), run.given(kind), run.withheld_right(kind)
        if not asked or given is None:
            continue
        parts = (given[1], held or 0, max(0, given[0] - given[1]))
        rest = max(0, asked - sum(parts))
        drawn = bar([(part / asked, css) for part, css in zip(parts, ("good", "held", "bad"), strict=True)], "rest")
        withheld = ("-", "-") if held is None else (str(held), str(rest))
        rows.append((name, drawn, str(asked), str(parts[0]), withheld[0], str(parts[2]), withheld[1]))
    heads = ("held-out questions", "", "asked", "right, given", "right, withheld", "wrong, given", "wrong, withheld")
    return Table("What becomes of held-out questions", heads, tuple(rows), frozenset(range(2, 7))) if rows else None


def by_group(run: Past, answers: Sequence[HeldOut]) -> Bars | None:
    """Right answers by group, the weakest first."""
    rows = []
    for one in groups_of(run, answers):
        older = " (from earlier nights)" if one.older else ""
        told = f"{one.right.part} of {one.right.total}"
        given = "-" if one.answered is None else f"{one.answered:.0f}"
        rows.append((_clipped(one.name, 120) + older, bar([(one.right.value, "good")]), told, given))
    if not rows:
        return None
    heads = ("group", "", "right", "answered")
    numbers = frozenset({2, 3})
    shown = Table(f"The weakest of {len(rows)} groups" if len(rows) > 12 else "Groups", heads, tuple(rows[:12]), numbers)
    return Bars(shown, Table("All groups", heads, tuple(rows), numbers))


def split(run: Past) -> str:
    """What became of the exchanges known, in a sentence; empty where the run does not say."""
    known, train = run.count("snapshot_rows"), run.count("dataset", "train")
    phrasings, whole = run.count("dataset", "heldout_phrasings"), run.count("dataset", "heldout_groups")
    if known is None or train is None or phrasings is None or whole is None:
        return ""
    return (
        f"Of {counted(known, 'exchange')} known, {counted(train, 'was', 'were')} to be trained on; held out were "
        f"{counted(phrasings, 'other phrasing')} of trained groups, and {counted(whole, 'exchange')} of groups that were not "
        "trained on at all."
    )


def left_out(run: Past) -> Table | None:
    """What was excluded, and why."""
    counts = dict(run.counted).get("excluded")
    if not counts:
        return None
    whole = max(run.count("snapshot_rows") or 0, *counts.values(), 1)
    return _counted("Left out, by reason", "reason", sorted(counts.items(), key=lambda one: (-one[1], one[0])), whole)


def made_of(run: Past) -> list[Table]:
    """Whatever else the dataset's card counts, and whose facts were replaced."""
    tables = []
    for name, counts in run.counted:
        if name == "excluded":
            continue
        # Sources by their counts; what has an order of its own keeps it.
        ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0])) if name == "sources" else list(counts.items())
        title, head = _COUNTED.get(name, (f"Counted: {name}", "which"))
        tables.append(_counted(title, head, ordered, max(1, sum(counts.values()))))
    if outdated := run.outdated:
        pairs = tuple((old, new) for old, new in outdated[:_MOST_ROWS])
        tables.append(Table("Outdated: a newer exchange says something else", ("exchange", "replaced by"), pairs))
    return tables


def _counted(title: str, head: str, counts: Sequence[tuple[str, float]], whole: float) -> Table:
    rows = tuple((_clipped(what, 120), bar([(n / whole, "held")]), f"{n:g}") for what, n in counts)
    return Table(title, (head, "", "count"), rows, frozenset({2}))


def _stepwise(run: Past) -> tuple[list[Point], list[Point], list[float]]:
    listed = run.at("loss_curve")
    train: list[Point] = []
    heldout: list[Point] = []
    rates: list[float] = []
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or (step := finite(one.get("step"))) is None:
            continue
        for name, points in (("loss", train), ("heldout_loss", heldout)):
            if (value := finite(one.get(name))) is not None:
                points.append((step, value))
        if (rate := finite(one.get("learning_rate"))) is not None:
            rates.append(rate)
    return train, heldout, rates


def _by_epoch(run: Past) -> tuple[list[Point], list[Point]]:
    listed = run.at("epoch_losses")
    losses = [value for one in (listed if isinstance(listed, list) else ()) if (value := finite(one)) is not None]
    # The mean of an epoch belongs to its middle; before and after belong to its ends.
    train = [(n + 0.5, value) for n, value in enumerate(losses)]
    before, after = run.number("loss_before"), run.number("loss_after")
    if after is None:
        after = run.number("loss_after_torch")
    ends = ((0.0, before), (float(max(1, len(losses))), after))
    return train, [(x, value) for x, value in ends if value is not None]


def _clipped(text: str, longest: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def _count_key() -> Markup:
    return Markup(
        '<svg class="key" viewBox="0 0 28 14" aria-hidden="true"><rect class="count" x="8" y="2" width="12" height="11"/></svg>'
    )
