import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fakes.nights import CALIBRATION, TOO_LARGE, night
from fakes.tiny import Night, Said, TinyHome
from shammah_data.errors import InputError
from shammah_data.exchange import RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.past import Past, past_runs
from shammah_data.shares import Share
from shammah_data.store import ModelStore
from shammah_trainer.history import Group, find, groups_of, heldout_answers
from shammah_trainer.screen import flat, run_lines

Train = Callable[..., Said]


@pytest.fixture
def empty(tmp_path: Path) -> TinyHome:
    return TinyHome(Home(tmp_path / "home").create().root, tmp_path)


@pytest.fixture
def seen(past: Home) -> TinyHome:
    """The month of nights, only to be looked at."""
    return TinyHome(past.root, past.root)


def run(identity: str, **given: Any) -> Past:
    return Past(
        identity, given.pop("status", "published"), datetime(2026, 10, 1), None, "because", given.pop("version", None), given
    )


def test_without_a_run_it_says_what_to_do(empty: TinyHome, train: Train) -> None:
    said = train(empty, "history")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("no run yet: `shammah-train` starts one (0 of 100 exchanges")
    assert train(empty, "history", "--json").out == "[]\n"
    assert train(empty, "show", "last") == Said(2, "", "shammah-train: no run yet: `shammah-train` starts one\n")


def test_looking_writes_nothing(tmp_path: Path, train: Train) -> None:
    home = TinyHome(tmp_path / "none", tmp_path)
    assert train(home, "history").code == 0
    assert train(home, "show", "last").code == 2
    assert not home.root.exists()


def test_history_lists_the_newest_first(seen: TinyHome, train: Train) -> None:
    heading, *lines = train(seen, "history").out.splitlines()
    assert heading.split() == "started (UTC) status learned held-out loss right answers version".split()
    figures = [line.split() for line in lines if not line.startswith("  ")]
    assert [line[0] for line in figures] == sorted((line[0] for line in figures), reverse=True)
    assert len(figures) == 12
    assert [line[-1] for line in figures if line[2] == "published"] == [f"v{n:04d}" for n in range(9, 0, -1)]
    assert lines[1].startswith("  held-out loss did not fall")
    assert len([line for line in train(seen, "history", "-n", "2").out.splitlines() if not line.startswith("  ")]) == 3


def test_history_as_json(seen: TinyHome, train: Train) -> None:
    said = train(seen, "history", "--json", "-n", "3")
    newest = json.loads(said.out)
    assert said.out.isascii()
    assert [one["status"] for one in newest] == ["refused", "published", "published"]
    assert newest[0]["figures"]["snapshot_rows"] == 512
    assert newest[0]["started"].startswith("2026-10-19T03:")


def test_a_figure_that_is_no_number_is_null(month: Home, train: Train) -> None:
    last = past_runs(month, ExchangeLog(month))[0]
    figures = {**last.figures, "loss_after": float("nan"), "groups": [{"asked": float("inf")}]}
    ExchangeLog(month).record_run(RunRecord(last.id, last.started, last.started, "failed", "", None, figures))
    out = train(TinyHome(month.root, month.root), "show", "last", "--json").out
    assert json.loads(out, parse_constant=pytest.fail)["figures"]["groups"] == [{"asked": None}]


@pytest.mark.parametrize("arguments", [("history",), ("show", "last"), ("show", "v0009", "--answers")])
def test_everything_fits_into_80_columns_and_drives_no_terminal(
    seen: TinyHome, train: Train, arguments: tuple[str, ...]
) -> None:
    said = train(seen, *arguments)
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 80
    assert not set(said.out) & set("\x1b\x9b\u202e\u202c")


def test_a_refused_run_begins_with_its_reasons(seen: TinyHome, train: Train) -> None:
    lines = train(seen, "show", "last").out.splitlines()
    assert lines[0].endswith(": refused")
    assert lines[1:3] == [
        "- held-out loss did not fall: 0.871 before, 0.880 after",
        "- the group 'payroll date' fell from 5 of 5 to 3 of 5",
    ]
    assert len(lines) < 40


def test_each_check_of_the_gate_is_one_reason() -> None:
    gate = [
        {"name": "better", "reason": "no better than v0002: 22 right; held-out loss 0.012"},
        {"name": "split", "reason": None},
    ]
    refused = run("20261019T032200123Z", status="refused", gate=gate)
    assert refused.reasons == ["no better than v0002: 22 right; held-out loss 0.012"]
    assert run("20261019T032200123Z", gate=gate).reasons == ["because"]


def test_a_semicolon_in_brackets_does_not_split_a_reason(seen: TinyHome, train: Train) -> None:
    lines = train(seen, "show", "2026-10-01").out.splitlines()
    assert [line for line in lines if line.startswith("- ")] == [lines[1]]


def test_a_published_run_tells_its_role(seen: TinyHome, train: Train) -> None:
    out = train(seen, "show", "v0009").out
    assert "version     v0009, champion\n" in out
    assert "left out    asked again later: 41, empty: 2, rated bad: 11\n" in out
    assert "version     v0005\n" in train(seen, "show", "v0005").out


def test_answers_that_were_wrong(seen: TinyHome, train: Train) -> None:
    out = train(seen, "show", "v0009", "--answers").out
    bluffed, missed = out[out.index("bluffed:") :].split("missed:")
    assert "(3)" in bluffed.splitlines()[0]
    assert bluffed.count("<script>alert('x')</script> \"' & gnp.exe red") == 9
    wrong = json.loads(train(seen, "show", "v0009", "--answers", "--json").out)["answers"]
    assert sum(one["bluffed"] for one in wrong) == 3
    assert missed.count("? ") == len(wrong) - 3
    assert all(not one["right"] for one in wrong)


def test_answers_that_are_gone(month: Home, train: Train) -> None:
    for path in (month.root / "runs").glob("*/heldout.jsonl"):
        path.unlink()
    assert train(TinyHome(month.root, month.root), "show", "last", "--answers").out.endswith(
        "its held-out answers are not recorded, or were deleted\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("20250101", "no run '20250101'"),
        ("", "no run ''"),
        ("v0077", "no run"),
        ("202610", "beginning of 12 runs"),
        ("../x", "no run"),
    ],
)
def test_an_unknown_or_ambiguous_run_is_one_line(seen: TinyHome, train: Train, name: str, words: str) -> None:
    said = train(seen, "show", name)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_a_run_is_found_by_what_people_know_of_it() -> None:
    runs = [run("20261019T032200123Z"), run("20261017T032500123Z", version="v0009")]
    for name in ("last", "20261019", "2026-10-19", "2026-10-19 03:22", "20261019t0322"):
        assert find(runs, name) is runs[0]
    assert find(runs, "v0009") is runs[1]
    with pytest.raises(InputError, match="no run"):
        find(runs, " - ")


def test_a_folder_without_a_record_is_an_unfinished_run(month: Home, train: Train) -> None:
    home = TinyHome(month.root, month.root)
    folder = month.runs / "20261101T031500000Z"
    folder.mkdir()
    (month.runs / "notes").mkdir()
    line, reason = train(home, "history").out.splitlines()[1:3]
    assert line.split() == ["2026-11-01", "03:15", "unfinished", *"-----"]
    assert reason == "  in progress, or cut short: it began at 03:15 UTC"
    # Older runs that are not asked for are not taken for unfinished ones.
    assert "unfinished" not in "".join(train(home, "history", "-n", "3").out.splitlines()[2:])
    reached = datetime(2026, 11, 1, 3, 31, tzinfo=UTC).timestamp()
    for name in ("snapshot.parquet", "merged"):
        (folder / name).touch()
        os.utime(folder / name, (reached, reached))
    assert train(home, "show", "last").out == (
        "run 20261101T031500000Z: unfinished\n"
        "- in progress, or cut short: it had trained its weights at 03:31 UTC\n"
        "when        2026-11-01 03:15 UTC\n"
    )


def test_what_later_nights_record_of_their_data_and_training() -> None:
    card = {
        "sources": {"teacher": 40, "import": 2},
        "excluded": {"rated bad": 3},
        "phrasings_of_an_answer": {"1": 12, "2-4": 30},
        "outdated": [{"id": "aaaaaaaa-1", "replaced_by": "bbbbbbbb-2"}, "odd", {"id": None}],
    }
    resumed = {"run": "20261018T032200123Z", "step": 40}
    told = "\n".join(
        run_lines(
            run("20261019T032200123Z", dataset=card, steps=90, kept_step=70, stopped="held-out loss", resumed=resumed), [], 120
        )
    )
    assert "left out    rated bad: 3\ncounts      sources (teacher: 40, import: 2)\n" in told
    assert "counts      phrasings of an answer (1: 12, 2-4: 30)" in told
    assert "outdated    replaced by newer facts: aaaaaaaa by bbbbbbbb\n" in told
    assert "trained     90 steps (ended by held-out loss), weights of step 70 kept, taken up at step 40 of run 20261018" in told
    fitted = {"kl_before": 0.415, "kl_after": 0.186}
    told = "\n".join(run_lines(run("20261019T032200123Z", trained_through="int4", fitted=fitted), [], 120))
    assert "through int4, from a base fitted to that (KL 0.415 -> 0.186)" in told


def test_the_second_graph_of_a_version_is_told_of() -> None:
    found = {
        "precision": "fp16",
        "heldout": {"phrasing": {"asked": 66, "right": 41}},
        "threshold": 0.93,
        "milliseconds_median": 60.4,
    }
    lines = run_lines(run("20261019T032200123Z", cuda=found), [], 120)
    assert "for CUDA    fp16, 41 of 66 other phrasings right, confidence 0.93, 60 ms an answer" in lines
    lines = run_lines(run("20261019T032200123Z", cuda={**found, "threshold": 2.0}), [], 120)
    assert "for CUDA    fp16, 41 of 66 other phrasings right, gives none of its own answers, 60 ms an answer" in lines


def test_an_older_run_is_shown_without_what_it_lacks(empty: TinyHome, train: Train) -> None:
    name = night(Home(empty.root), 1, known=60, old=True)
    (Home(empty.root).runs / name / "heldout.jsonl").unlink()
    out = train(empty, "show", "last").out
    assert "threshold" not in out
    assert "groups are not" not in out
    assert "None" not in out
    assert not re.search(r"\bnan\b", out)


@pytest.mark.parametrize(
    "odd",
    [None, "x", [], [None, 3], {}, -1, float("nan"), True, {"asked": "x", "right": None, "a": {"b": []}}, *TOO_LARGE],
    ids=lambda odd: repr(odd)[:40],
)
def test_odd_figures_are_left_out(empty: TinyHome, odd: Any) -> None:
    night(Home(empty.root), 1, known=60)
    (whole,) = past_runs(Home(empty.root), ExchangeLog(Home(empty.root)))
    for key in whole.figures:
        lines = run_lines(Past(**{**vars(whole), "figures": {**whole.figures, key: odd}}), ["champion"], 80)
        assert lines[0] == f"run {whole.id}: published as v0001"
        assert len(lines) > 8


def test_a_damaged_line_does_not_hide_the_others(month: Home) -> None:
    home = month
    last = past_runs(home, ExchangeLog(home))[0]
    path = home.runs / last.id / "heldout.jsonl"
    whole = heldout_answers(home, last, None)
    path.write_bytes(b'{"kind": "phrasing"}\nnot json\n[]\n\xff\xfe\n' + path.read_bytes())
    assert heldout_answers(home, last, None) == whole
    assert len(whole) > 100


def test_a_run_is_shown_whose_version_s_role_cannot_be_read(month: Home, train: Train) -> None:
    whole = train(TinyHome(month.root, month.root), "show", "v0009").out
    ModelStore(month.models)._pointer.write_text("{")
    said = train(TinyHome(month.root, month.root), "show", "v0009")
    assert said.code == 0
    assert said.out == whole.replace("v0009, champion", "v0009, role unknown") != whole
    (line,) = said.err.splitlines()
    assert "cannot be read" in line


def test_a_folder_in_the_place_of_the_answers_is_passed_over(month: Home, train: Train) -> None:
    last = past_runs(month, ExchangeLog(month))[0]
    path = month.runs / last.id / "heldout.jsonl"
    path.unlink()
    path.mkdir()
    said = train(TinyHome(month.root, month.root), "show", "last", "--answers")
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("its held-out answers are not recorded, or were deleted\n")


@pytest.mark.parametrize("odd", [1e308, 10**400, -0.1, 1.1, float("inf")], ids=lambda odd: repr(odd)[:40])
def test_a_confidence_is_a_probability(month: Home, odd: float) -> None:
    home = month
    last = past_runs(home, ExchangeLog(home))[0]
    path = home.runs / last.id / "heldout.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(line | {"confidence": odd}) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    assert {one.confidence for one in heldout_answers(home, last, None)} == {None}
    # With its version at hand it is told by what it was made of, unless that is as odd.
    assert all(one.confidence is not None for one in heldout_answers(home, last, CALIBRATION))
    odd_too = {"confidence": odd, "features": dict.fromkeys(CALIBRATION.weights, odd)}
    text = "".join(json.dumps(line | odd_too) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    assert len(heldout_answers(home, last, CALIBRATION)) == len(lines)


def test_a_group_is_what_the_night_took_for_one(month: Home, train: Train) -> None:
    """One that was answered in two wordings is one, and two groups may have the same answer."""
    last = past_runs(month, ExchangeLog(month))[0]
    asked = [(7, "Room 4.", True), (7, "It is room 4.", False), (8, "Room 4.", False), (9, "Room 5.", True)]
    lines = [
        {"kind": "phrasing", "group": group, "older": group == 7, "query": f"Question {n}?", "reference": reference}
        | {"answer": "Room 4.", "right": right, "accepted": right, "reason": "", "confidence": 0.5, "repeated": None}
        for n, (group, reference, right) in enumerate(asked)
    ]
    (month.runs / last.id / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    without = Past(**{**vars(last), "figures": {}})
    assert groups_of(without, heldout_answers(month, last, None)) == [
        Group("Question 2?", Share(0, 1), 0.0, older=False),
        Group("Question 0?", Share(1, 2), 1.0, older=True),
        Group("Question 3?", Share(1, 1), 1.0, older=False),
    ]
    ExchangeLog(month).record_run(RunRecord(last.id, last.started, last.started, "failed", "", None, {}))
    out = train(TinyHome(month.root, month.root), "show", "last").out
    assert "  2 of 3 groups are not all right:\n  0 of 1           Question 2?\n  1 of 2 (older)   Question 0?\n" in out


def test_a_comparison_is_shown_whatever_is_in_it() -> None:
    found = {"version": "v0003", "right": {"before": 41, "after": 46}, "p_value": 0.0123456, "pairs": [[1, 2]], "better": True}
    assert flat(found) == [
        ("version", "v0003"),
        ("right: before", "41"),
        ("right: after", "46"),
        ("p value", "0.01235"),
        ("pairs", "1 entry"),
        ("better", "yes"),
    ]
    assert "    p value  0.01235" in run_lines(run("20261019T032200123Z", champion=found), [], 80)


def test_what_the_gate_looked_at_is_told_in_words() -> None:
    gate = [
        {"name": "split", "told": "nothing held out was trained on", "reason": None},
        {"name": "older groups", "told": "8 right", "reason": "forgot more than 2%: 8 right"},
    ]
    refused = run("20261019T032200123Z", status="refused", gate=gate, champion={"overall": {"p_worse": 0.01}})
    lines = run_lines(refused, [], 80)
    assert lines[1] == "- forgot more than 2%: 8 right"
    assert lines[-3:] == [
        "  looked at before publishing:",
        "    ok      split: nothing held out was trained on",
        "    REFUSE  older groups",
    ]


def test_a_real_run_is_shown(night: Night, train: Train) -> None:
    out = train(night.home, "show", "last", "--answers").out
    assert "published as v0001" in out
    assert "threshold   confidence 0." in out
    assert "other phrasings      22" in out
    # Its held-out answers tell of its groups: no figure does.
    (whole,) = past_runs(Home(night.home.root), ExchangeLog(Home(night.home.root)))
    all_right = whole.at("by_group", "groups_all_right")
    groups = whole.at("by_group", "groups")
    told = f"all of {groups} groups answered right" if all_right == groups else f"{groups - all_right} of {groups} groups "
    assert f"\n  {told}" in out
    assert train(night.home, "history").out.splitlines()[1].endswith(" v0001")
