"""Runs on a terminal of 80 columns or a pipe: a list of them, and one in full. Knows lines of text, opens nothing."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from shammah_data.past import Past, finite
from shammah_data.present import size
from shammah_data.shares import Share
from shammah_data.text import counted, one_line, printable
from shammah_trainer.history import Group, HeldOut, groups_of

KIND_NAMES = {"phrasing": "other phrasings", "group": "never trained on", "outside": "unanswerable"}
_LABEL = 12
_MOST_GROUPS = 8
_LONGEST = 2000


def history_lines(runs: Sequence[Past], width: int) -> list[str]:
    """A heading and, for each run, a line of figures; what went wrong has a line of its own."""
    lines = [f"{'started (UTC)':<16} {'status':<10} {'learned':>7} {'held-out loss':<14} {'right':<12} {'answers':<7} version"]
    for run in runs:
        learned = run.count("snapshot_rows")
        before, after = run.number("loss_before"), _loss_after(run)
        loss = f"{before:.2f} -> {after:.2f}" if before is not None and after is not None else "-"
        right, given = run.heldout("right"), run.local()
        share = f"{right.percent} {right.range}" if right else "-"
        lines.append(
            f"{run.started:%Y-%m-%d %H:%M} {run.status:<10} {'-' if learned is None else learned:>7} {loss:<14} {share:<12} "
            f"{given.percent if given else '-':<7} {run.version or '-'}"
        )
        if run.status != "published":
            lines.append("  " + one_line(run.reason, width - 2))
    return lines


def run_lines(run: Past, roles: Sequence[str], width: int, answers: Sequence[HeldOut] = ()) -> list[str]:
    """Everything of a run on a screen or two, what went wrong first; `roles` are those of its version.

    `answers`: its held-out answers, for the groups where the run did not record them.
    """
    lines = [f"run {run.id}: {run.status}{f' as {run.version}' if run.version else ''}"]
    if run.status != "published":
        for reason in run.reasons:
            lines += _wrapped(f"- {reason}", width, "  ")
    when = f"{run.started:%Y-%m-%d %H:%M} UTC"
    if run.finished is not None:
        when += f", {_duration((run.finished - run.started).total_seconds())}"
    facts = [("when", when), *_data(run), *_training(run), *_measured(run)]
    if run.version:
        facts.append(("version", f"{run.version}{', ' + ', '.join(roles) if roles else ''}"))
    for label, text in facts:
        lines += _wrapped(f"{label:<{_LABEL}}{text}", width, " " * _LABEL)
    return [*lines, *_kinds(run), *_groups(groups_of(run, answers), width), *_others(run, width)]


def answer_lines(answers: Sequence[HeldOut], width: int) -> list[str]:
    """The held-out answers that were wrong: first those that would have been given, then those that were withheld."""
    lines = []
    for title, chosen in (
        ("bluffed: wrong, and sure enough to be given", [one for one in answers if one.bluffed]),
        ("missed: wrong, and withheld", [one for one in answers if one.missed]),
    ):
        lines += ["", f"{title} ({len(chosen)})"]
        for one in chosen:
            lines += _wrapped(f"? {one_line(one.query, _LONGEST)}", width, "  ")
            expected = one_line(one.reference, _LONGEST) or "(nothing: nobody here can know)"
            lines += _wrapped(f"  expected  {expected}", width, " " * 12)
            lines += _wrapped(f"  answered  {one_line(one.said, _LONGEST) or '(nothing)'}", width, " " * 12)
            lines += _wrapped(f"  {KIND_NAMES.get(one.kind, one.kind)}: {one_line(one.why, _LONGEST)}", width, " " * 4)
    return lines


def _data(run: Past) -> list[tuple[str, str]]:
    facts = []
    rows, groups = run.count("snapshot_rows"), run.count("dataset", "groups")
    if rows is not None:
        facts.append(("learned", counted(rows, "exchange") + (f" in {counted(groups, 'group')}" if groups is not None else "")))
    train = run.count("dataset", "train")
    if train is not None:
        split = f"{train} to train on"
        if replay := run.count("dataset", "replay"):
            split += f" (and {replay} everyday ones)"
        phrasings, whole = run.count("dataset", "heldout_phrasings"), run.count("dataset", "heldout_groups")
        if phrasings is not None and whole is not None:
            split += f"; held out {counted(phrasings, 'phrasing')} and {whole} of whole groups"
        facts.append(("split", split))
    for name, counts in run.counted:
        told = ", ".join(f"{one_line(what, 60)}: {n:g}" for what, n in counts.items())
        facts.append(("left out", told) if name == "excluded" else ("counts", f"{one_line(name, 40)} ({told})"))
    if outdated := run.outdated:
        pairs = ", ".join(f"{old[:8]} by {new[:8]}" for old, new in outdated[:_MOST_GROUPS])
        more = f" and {len(outdated) - _MOST_GROUPS} more" if len(outdated) > _MOST_GROUPS else ""
        facts.append(("outdated", f"replaced by newer facts: {pairs}{more}"))
    return facts


def _training(run: Past) -> list[tuple[str, str]]:
    facts = []
    parts = []
    if (seconds := run.number("train_seconds")) is not None:
        parts.append(_duration(seconds))
    if isinstance(precision := run.at("mixed_precision"), str):
        parts.append("bf16" if precision == "bf16" else "float32")
    if isinstance(through := run.at("trained_through"), str):
        parts.append(f"through {through}")
    if (before := run.number("fitted", "kl_before")) is not None and (after := run.number("fitted", "kl_after")) is not None:
        parts.append(f"from a base fitted to that (KL {_figure(before)} -> {_figure(after)})")
    if (steps := run.count("steps")) is not None:
        stopped = run.at("stopped")
        parts.append(counted(steps, "step") + (f" (ended by {stopped})" if stopped in ("time", "held-out loss") else ""))
    if (kept := run.count("kept_step")) is not None and kept != run.count("steps"):
        parts.append(f"weights of step {kept} kept")
    if (resumed := run.count("resumed", "step")) is not None:
        parts.append(f"taken up at step {resumed} of run {run.at('resumed', 'run')}")
    if isinstance(epochs := run.at("epoch_losses"), list) and epochs:
        shown = [_figure(loss) for loss in epochs]
        parts.append("loss by epoch " + " ".join(shown if len(shown) <= 8 else [*shown[:5], "...", *shown[-2:]]))
    if parts:
        facts.append(("trained", ", ".join(parts)))
    before, after = run.number("loss_before"), _loss_after(run)
    if before is not None:
        facts.append(("held out", f"loss {before:.3f} before" + ("" if after is None else f", {after:.3f} after")))
    return facts


def _measured(run: Past) -> list[tuple[str, str]]:
    facts = []
    if (wins := run.number("matching", "wins")) is not None:
        chance = run.number("matching", "p_value")
        told = f"answers outscore other groups' in {wins:.0%} of comparisons"
        facts.append(("matching", told + ("" if chance is None else f" (p = {chance:.4f})")))
    graph = []
    if isinstance(precision := run.at("export", "precision"), str):
        graph.append(precision)
    if (stored := run.count("export", "bytes")) is not None:
        graph.append(size(stored))
    if (same := run.number("parity", "top1_agreement")) is not None:
        graph.append(f"top-1 agreement with torch {same:.1%}")
    if (apart := run.number("parity", "mean_kl")) is not None:
        graph.append(f"KL {apart:.4f}")
    if graph:
        facts.append(("graph", ", ".join(graph)))
    if (median := run.number("milliseconds_median")) is not None:
        facts.append(("speed", f"{median:.0f} ms an answer (median)"))
    if isinstance(precision := run.at("cuda", "precision"), str):
        told = precision
        correct, asked = (run.count("cuda", "heldout", "phrasing", name) for name in ("right", "asked"))
        if asked and correct is not None:
            told += f", {correct} of {counted(asked, 'other phrasing')} right"
        if (sure := run.number("cuda", "threshold")) is not None:
            told += f", confidence {sure:.2f}" if sure <= 1 else ", gives none of its own answers"
        if (median := run.number("cuda", "milliseconds_median")) is not None:
            told += f", {median:.0f} ms an answer"
        facts.append(("for CUDA", told))
    threshold, target = run.number("calibration", "threshold"), run.number("calibration", "target_precision")
    if threshold is not None:
        right = "enough" if target is None else f"{target:.0%}"
        if threshold > 1:
            told = f"none: too few of the model's own answers were sure, and {right} of them right; it gives none"
        else:
            told = f"confidence {threshold:.2f}, for {right} right"
            if run.at("calibration", "certified") is False:
                told += " (too few answers to promise it)"
        facts.append(("threshold", told))
    return facts


def _kinds(run: Past) -> list[str]:
    lines = []
    for kind, name in KIND_NAMES.items():
        asked = run.count("heldout", kind, "asked")
        if not asked:
            continue
        right, given, counts = run.heldout("right", kind), run.local(kind), run.given(kind)
        correct = Share(counts[1], counts[0]) if counts and counts[1] <= counts[0] > 0 else None
        cells = ("-" if kind == "outside" else _cell(right), _cell(given), _cell(correct))
        lines.append(f"  {name:<17} {asked:>5}  {cells[0]:<16}  {cells[1]:<16}  {cells[2]}".rstrip())
    return [f"  {'held out':<17} {'asked':>5}  {'right':<16}  {'answered':<16}  right of these", *lines] if lines else []


def _cell(share: Share | None) -> str:
    return "-" if share is None else f"{share.part} {share.percent} {share.range}"


def _groups(found: Sequence[Group], width: int) -> list[str]:
    """The groups that do worst."""
    weak = [one for one in found if one.right.value < 1]
    if not weak:
        return [f"  all of {counted(len(found), 'group')} answered right"] if found else []
    lines = [
        f"  {len(weak)} of {counted(len(found), 'group')} {'is' if len(weak) == 1 else 'are'} not all right"
        f"{'; the weakest' if len(weak) > _MOST_GROUPS else ''}:"
    ]
    for one in weak[:_MOST_GROUPS]:
        told = f"{one.right.part} of {one.right.total}{' (older)' if one.older else ''}"
        lines.append(f"  {told:<16} {one_line(one.name, width - 19)}")
    return lines


def _others(run: Past, width: int) -> list[str]:
    """What the gate looked at; of older nights the comparison with the champion, whatever is in it."""
    if run.checks:
        lines = ["  looked at before publishing:"]
        for name, passed, told in run.checks:
            # Why it refuses stands at the top.
            line = f"    ok      {name}: {told}" if passed else f"    REFUSE  {name}"
            lines += _wrapped(line, width, " " * 12)
        return lines
    found = run.at("champion")
    if not isinstance(found, dict) or not found:
        return []
    lines = ["  compared with the champion:"]
    for name, value in flat(found):
        lines += _wrapped(f"    {one_line(name, 60)}  {value}", width, " " * 6)
    return lines


def flat(found: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested figures as (name, value) in reading order; lists by their length."""
    lines = []
    for key, value in found.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            lines += flat(value, f"{name}: ")
        elif isinstance(value, list | tuple) and not all(isinstance(one, int | float | str) for one in value):
            lines.append((name, counted(len(value), "entry", "entries")))
        elif isinstance(value, list | tuple):
            lines.append((name, ", ".join(map(_figure, value))))
        else:
            lines.append((name, _figure(value)))
    return lines


def _figure(value: object) -> str:
    number = finite(value)
    if number is None:
        return "yes" if value is True else "no" if value is False else "-" if value is None else one_line(str(value), 200)
    return str(value) if isinstance(value, int) else f"{number:.4g}"


def _loss_after(run: Past) -> float | None:
    found = run.number("loss_after")
    return run.number("loss_after_torch") if found is None else found


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    flat_text = printable(text).replace("\n", " ").replace("\t", " ")
    return textwrap.wrap(flat_text, width, subsequent_indent=indent, drop_whitespace=True) or [""]
