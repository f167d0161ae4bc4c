import base64
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fakes.blocked import block
from fakes.html import Page, contrast
from fakes.nights import HOSTILE, TOO_LARGE, night
from fakes.tiny import Night, Said, TinyHome, script
from shammah_data.errors import LogError
from shammah_data.exchange import Exchange
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Step
from shammah_data.past import KINDS, Past
from shammah_data.queries import Selection
from shammah_data.session import Session
from shammah_data.settings import RoutingSection, Settings
from shammah_data.store import ModelStore
from shammah_data.verdicts import Verdict, note
from shammah_trainer.report import gather, render, write_report

Train = Callable[..., Said]
NOW = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture(scope="session")
def text(past: Home) -> str:
    """The page of the month of nights."""
    return render(gather(past, ExchangeLog(past)), NOW)


def written(home: Home) -> str:
    write_report(home, ExchangeLog(home), home.report, NOW)
    return home.report.read_text(encoding="utf-8")


def test_a_page_says_it_all(text: str) -> None:
    page = Page(text)
    for words in (
        "v0009 serves",
        "published v0009: held-out loss",
        "It answers from a confidence of 0.73 on, set so that 95% of its answers are right.",
        "the newest was refused: held-out loss did not fall: 0.871 before, 0.880 after (1 more reason below).",
        "Right and answered",
        "Right when it answers",
        "The weakest of",
        "Calibration",
        "Risk and coverage",
        "Left out, by reason",
        "asked again later",
        "the answers do not follow from the questions",
        "no space left on the device",
        "previous",
    ):
        assert words in page.text, words
    assert len([one for one in page.named("svg") if one.get("role") == "img"]) == 6


def test_nothing_on_it_runs_or_leads_out(text: str) -> None:
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "image", "use", "foreignobject"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")], tag
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text


def test_the_policy_allows_the_page_s_own_style_and_nothing_else(text: str) -> None:
    (policy,) = [one["content"] for one in Page(text).named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_what_users_wrote_is_only_text(text: str) -> None:
    assert "<script>alert('x')</script> \"' & gnp.exe red  </table><img src=x onerror=alert(1)>" in Page(text).text
    assert not set(text) & set("\x1b\x9b\u202e\u202c")


def test_reasons_and_names_are_only_text_too(home: Home) -> None:
    night(home, 1, known=60, status="refused", reason=f"refused: {HOSTILE}")
    known = gather(home, ExchangeLog(home))
    (run,) = known.runs
    figures = {**run.figures, "groups": [{"name": HOSTILE, "asked": 3, "right": 1}], "dataset": {"excluded": {HOSTILE: 4}}}
    changed = Past(**{**vars(run), "figures": figures, "version": HOSTILE})
    page = Page(render(type(known)(**{**vars(known), "runs": [changed], "subject": changed}), NOW))
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count("<script>") >= 4


def test_it_can_be_read_by_keyboard_and_by_ear(text: str) -> None:
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids
        if len(attributes.get("href", "")) > 1:
            assert attributes["href"][1:] in ids
    for svg in page.named("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-labelledby"])
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("table")) == len(page.named("caption"))
    assert len(page.named("figure")) == len(page.named("details")) - len(page.named("figure")[6:]) - 2
    assert all(one.get("scope") in ("row", "col") for one in page.named("th"))
    scrolled = [one for one in page.named("div") if one.get("class") == "scroll"]
    assert scrolled
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in scrolled)


def test_colours_can_be_told_from_their_grounds() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for what is drawn."""
    style = (Path(__file__).parents[2] / "data/shammah_data/pages.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in style.split("@media (prefers-color-scheme: dark)")
    ]
    light, dark = schemes[0], schemes[1]
    assert len(light) == len(dark) > 10
    for colours in (light, dark):
        for ground in ("page", "card"):
            for text in ("ink", "soft", "link", "s1", "bad"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for drawn in ("s0", "s1", "s2", "s3", "good", "bad"):
            assert contrast(colours[drawn], colours["card"]) >= 3, drawn
            assert drawn.startswith("s") or contrast(colours[drawn], colours["track"]) >= 3, drawn


def test_on_paper_nothing_is_cut_off_and_no_chart_is_split(text: str) -> None:
    """What is scrolled on a screen stands outside of a page."""
    style = text[text.index("<style>") : text.index("</style>")]
    papers = style.split("@media print")[1:]
    paper = " ".join(papers)
    assert re.search(r"\.scroll { overflow-x: auto", style)
    assert re.search(r"\.scroll { overflow: visible", paper)
    for wide, own in (
        (r"\.texts {[^}]*min-width: 44rem", r"\.texts { min-width: 0"),
        ("nowrap", r"\.plain td { white-space: normal"),
    ):
        assert re.search(wide, style)
        assert re.search(own, paper)
    assert re.search(r"figure, tr[^{]*{ break-inside: avoid", paper)
    assert not re.search(r"section {[^}]*break-inside", paper)


def test_every_class_that_is_drawn_has_a_style(text: str) -> None:
    style = text[text.index("<style>") : text.index("</style>")]
    used = {name for _, attributes in Page(text).elements for name in attributes.get("class", "").split()}
    unstyled = {name for name in used if not re.search(rf"\.{name}\b", style)}
    assert unstyled <= {"drawn", "figures", "unfinished"}


@pytest.mark.parametrize(
    "odd",
    [None, "x", [], [None, 3], {}, -1, float("nan"), True, {"asked": "x", "right": None, "a": {"b": []}}, *TOO_LARGE],
    ids=lambda odd: repr(odd)[:40],
)
def test_odd_figures_are_left_out(home: Home, odd: Any) -> None:
    night(home, 1, known=60)
    known = gather(home, ExchangeLog(home))
    (run,) = known.runs
    for key in run.figures:
        changed = Past(**{**vars(run), "figures": {**run.figures, key: odd}})
        page = Page(render(type(known)(**{**vars(known), "runs": [changed], "subject": changed}), NOW))
        assert "v0001 serves" in page.text
        assert "None" not in page.text.replace("None of its", "")
        assert not re.search(r"\bnan\b", page.text)


def test_one_loss_is_no_curve(home: Home) -> None:
    night(home, 1, known=60)
    known = gather(home, ExchangeLog(home))
    alone = Past(**{**vars(known.runs[0]), "figures": {"loss_before": 10**400, "loss_after": 1.0}})
    page = Page(render(type(known)(**{**vars(known), "runs": [alone], "subject": alone}), NOW))
    assert "v0001 serves" in page.text
    assert "nats per token" not in page.text


def test_a_home_without_runs_says_what_to_do(home: Home) -> None:
    page = Page(written(home))
    assert "No version serves" in page.text
    assert "shammah-train starts a run." in page.text
    assert len(page.named("section")) == 1


def test_a_first_night_of_older_days(home: Home) -> None:
    night(home, 1, known=60, old=True)
    page = Page(written(home))
    assert "The curve begins with the second version." in page.text
    assert "epoch of the training" in page.text


def test_who_serves_after_a_rollback_and_beside_a_candidate(month: Home) -> None:
    store = ModelStore(month.models)
    store.rollback()
    assert "It serves although v0009 came later" in Page(written(month)).text
    store.set_candidate("v0009", 0.2)
    text = Page(written(month)).text
    assert "v0008 serves" in text
    assert "v0009 is tried on 20% of the sessions." in text
    assert "candidate, 20%" in text
    assert "although" not in text


def test_the_figures_at_the_top_are_the_champion_s_or_nobody_s(home: Home) -> None:
    night(home, 1, known=40, status="refused", reason="held-out loss did not fall: 0.87 -> 0.88")
    page = Page(written(home))
    assert page.tiles == {"Serving": ("none", "the teacher answers")}
    assert "The last run was refused: held-out loss did not fall: 0.87 → 0.88." in page.text
    assert "Held-out answers of the refused run of 2026-10-02 03:2" in " ".join(page.text.split())
    night(home, 2, known=60)
    night(home, 3, known=80, status="refused", reason="worse than v0001")
    tiles = Page(written(home)).tiles
    assert tiles["Exchanges known"] == ("60", "45 of them to train on")
    # A manifest that cannot be read takes nothing of what the log remembers of its night.
    (home.models / "v0001" / "manifest.json").write_text("{")
    page = Page(written(home))
    assert page.tiles["Exchanges known"] == tiles["Exchanges known"]
    assert "It cannot be used, and every question that needs a model goes to the teacher:" in page.text
    shutil.rmtree(home.models / "v0001")
    assert "models/v0001 is gone: run `shammah-train rollback` or retrain." in Page(written(home)).text


def test_why_a_version_serves_that_is_not_the_newest(month: Home) -> None:
    store = ModelStore(month.models)
    store.rollback()
    note(month.models, "v0009", Verdict("rollback", "2026-10-18T04:00:00", "v0009 is worse than v0008"), store.versions())
    text = Page(written(month)).text
    assert "v0009 was rolled back on 2026-10-18T04:00: v0009 is worse than v0008." in text
    assert "somebody chose it" not in text
    assert "v0009: rolled back on 2026-10-18T04:00" in text
    store.pin("v0007")
    page = Page(written(month))
    assert (
        "It is pinned: it serves whatever nights and audits say, until shammah-train unpin. v0008, v0009 came later."
        in page.text
    )
    assert [row[1] for row in page.tables["Versions and their roles"]][1:] == ["kept", "previous", "champion, pinned"]


def test_the_threshold_is_the_one_that_is_wanted_by_day(month: Home) -> None:
    manifest = month.models / "v0009" / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw["graphs"][0]["calibration"]["ladder"] = [asdict(Step(0.99, 0.91, 30, 30, certified=True))]
    manifest.write_text(json.dumps(raw))
    for target, words in (
        (0.0, "It answers from a confidence of 0.73 on, set so that 95% of its answers are right."),
        (0.99, "It answers from a confidence of 0.91 on, set so that 99% of its answers are right."),
        (
            0.999,
            "It gives no answer of its own: routing.target_precision is 99.9%, and the version was measured up to 99% only.",
        ),
    ):
        settings = Settings(routing=RoutingSection(target_precision=target))
        text = Page(render(gather(month, ExchangeLog(month), settings), NOW)).text
        assert words in text
        assert ("its own threshold (0.73, for 95%)" in text) == (target == 0.99)


def test_it_says_what_the_next_night_will_do(month: Home, home: Home) -> None:
    assert "The next night waits for exchanges: 0 of 100." in Page(written(home)).text
    log = ExchangeLog(month)
    assert "As things are, the next night will not train: 0 of 100 exchanges." in Page(written(month)).text
    log.add_many(Exchange(f"Question {n}?", f"Answer {n}.", "teacher") for n in range(120))
    assert (
        "The next night will train: the base or the settings of the training changed; 120 new exchanges"
        in Page(written(month)).text
    )
    # Looking settles no trial.
    ModelStore(month.models).set_candidate("v0008", 0.2)
    assert "will not train: waits for the end of a trial: v0008" in Page(written(month)).text


def test_it_says_that_answers_are_gone_and_not_which(month: Home) -> None:
    log = ExchangeLog(month)
    whole = gather(month, log)
    asked = sum(whole.subject.count("heldout", kind, "asked") or 0 for kind in KINDS) if whole.subject else 0
    assert len(whole.answers) == asked
    assert "no longer recorded" not in Page(written(month)).text
    one = next(one for one in whole.answers if one.missed and not one.query.startswith("How"))
    assert one.query in written(month)
    exchange = Exchange(one.query, one.reference, "teacher")
    log.append(exchange)
    forget(log, month, Selection(ids=(exchange.id,)))
    left = len(gather(month, log).answers)
    assert left < asked
    text = written(month)
    are = "is" if asked - left == 1 else "are"
    assert f"{asked - left} of its {asked} held-out answers {are} no longer recorded" in text
    assert one.query not in text


def changed(home: Home, **figures: Any) -> Page:
    """The page of a home with one run, some of whose figures are others."""
    known = gather(home, ExchangeLog(home))
    (run,) = known.runs
    other = Past(**{**vars(run), "figures": {**run.figures, **figures}})
    return Page(render(type(known)(**{**vars(known), "runs": [other], "subject": other}), NOW))


def test_what_was_looked_at_before_publishing_is_told_in_words(home: Home) -> None:
    night(home, 1, known=60)
    gate = [
        {"name": "split", "told": "nothing held out was trained on", "reason": None},
        {"name": "against v0001", "told": "8 right", "reason": f"worse than v0001: {HOSTILE}"},
        {"name": None, "told": "odd"},
        {"name": "bare"},
        "odd",
    ]
    page = changed(home, gate=gate, champion={"overall": {"p_worse": 0.01}})
    (title,) = [caption for caption in page.tables if caption.startswith("Looked at before publishing, run of 2026-10-02")]
    heads, *rows = page.tables[title]
    assert heads == ["check", "result", "what was found"]
    assert rows[0] == ["split", "passed", "nothing held out was trained on"]
    assert rows[1][:2] == ["against v0001", "refused"]
    assert rows[1][2].startswith("worse than v0001: <script>")
    assert rows[2] == ["bare", "passed", "-"]
    # The same in figures is there for who asks.
    assert " ".join(page.text.split()).count("UTC, in figures") == 1


def test_what_was_left_out_and_what_was_learned_from_are_told_apart(home: Home) -> None:
    night(home, 1, known=60)
    card = {
        "train": 45,
        "heldout_phrasings": 9,
        "heldout_groups": 4,
        "sources": {"import": 20, "teacher": 40},
        "weights": {"1": 30, "10": 15},
    }
    page = changed(home, dataset={**card, "excluded": {"rated bad": 2, "asked again later": 3}})
    assert (
        "Of 60 exchanges known, 45 were to be trained on; held out were 9 other phrasings of trained groups, and 4 exchanges "
        "of groups that were not trained on at all."
    ) in page.text
    assert page.tables["Left out, by reason"][1:] == [["asked again later", "", "3"], ["rated bad", "", "2"]]
    assert page.tables["Who had answered the exchanges"][1:] == [["teacher", "", "40"], ["import", "", "20"]]
    assert [title for title in page.tables if title.startswith("Exchanges to train on, by weight")]
    nothing = changed(home, dataset={**card, "excluded": {}})
    assert "Nothing was left out." in nothing.text
    assert "What it learned from" in nothing.text


def test_a_training_of_one_step_is_drawn_by_its_ends(home: Home) -> None:
    night(home, 1, known=60)
    point = {"step": 1, "loss": 0.05, "heldout_loss": 0.02, "learning_rate": 0.006}
    page = changed(home, loss_curve=[point], loss_before=6.2, loss_after=2.5)
    assert "the held-out loss went from 6.200 to 2.500 nats per token" in page.text
    assert "went from 0.050 to 0.050" not in page.text


def test_runs_that_knew_as_much_stand_beside_one_another(home: Home) -> None:
    for number in (1, 2, 3):
        night(home, number, known=200, status="published" if number < 3 else "refused", reason="worse")
    page = Page(written(home))
    assert "runs, each with 200 exchanges known" in page.text
    assert " in the first run with 200 exchanges, " in page.text
    places = {one["d"].split("m")[0].split()[0] for one in page.named("path") if one.get("class", "").startswith("dot s2")}
    assert len(places - {"M14"}) == 3


def test_points_of_no_published_run_have_their_names(home: Home) -> None:
    night(home, 1, known=40, status="refused", reason="worse")
    text = " ".join(Page(written(home)).text.split())
    assert "Right and answered right answered at its threshold open: not published" in text


def test_what_later_nights_record(home: Home) -> None:
    night(home, 1, known=60)
    known = gather(home, ExchangeLog(home))
    (run,) = known.runs
    card = {"excluded": {"rated bad": 3}, "outdated": [{"id": "aaaa-1", "replaced_by": "bbbb-2"}]}
    later = {"dataset": card, "steps": 40, "kept_step": 30, "champion": {"overall": {"gained": 7, "lost": 2}}}
    changed = Past(**{**vars(run), "figures": {**run.figures, **later}})
    page = Page(render(type(known)(**{**vars(known), "runs": [changed], "subject": changed}), NOW))
    assert "The weights of step 30 were kept." in page.text
    assert "Outdated: a newer exchange says something else" in page.text
    assert "bbbb-2" in page.text
    assert "overall: gained" in page.text


def test_a_damaged_version_is_a_row_not_a_failure(month: Home) -> None:
    (month.models / "v0008" / "manifest.json").write_text("{")
    assert "cannot be read" in Page(written(month)).text


def test_the_file_is_private_and_whole(month: Home) -> None:
    month.report.write_text("an older one")
    month.report.chmod(0o644)
    written(month)
    assert month.report.stat().st_mode & 0o777 == 0o600
    assert not list(month.root.glob(".report*"))


def test_a_page_that_the_log_could_not_note_is_not_left(month: Home) -> None:
    class Taken(ExchangeLog):
        def change(self, work: Callable[[Session], Any]) -> Any:
            raise LogError("another process has it")

    with pytest.raises(LogError):
        write_report(month, Taken(month), month.report, NOW)
    assert not month.report.exists()


def test_forgetting_takes_the_report_along(month: Home, tmp_path: Path) -> None:
    log = ExchangeLog(month)
    log.append(Exchange("where is it?", "there", "teacher"))
    elsewhere, edited = tmp_path / "page.html", tmp_path / "edited.html"
    for path in (month.report, elsewhere, edited):
        write_report(month, log, path, NOW)
    edited.write_text("changed by hand")
    told = forget(log, month, Selection(words=("where is it",)))
    assert not month.report.exists()
    assert not elsewhere.exists()
    assert any(str(elsewhere) in one for one in told.removed)
    assert [one for one in told.remaining if str(edited) in one]
    # It is asked after only once.
    log.append(Exchange("where is it?", "there", "teacher"))
    assert not [one for one in forget(log, month, Selection(words=("where is it",))).removed if "report" in one]


def test_the_command(month: Home, train: Train, tmp_path: Path) -> None:
    home = TinyHome(month.root, tmp_path)
    assert train(home, "report") == Said(0, f"written: {month.report}\n", "")
    out = tmp_path / "page.html"
    assert train(home, "report", "--out", str(out)) == Said(0, f"written: {out}\n", "")
    assert out.stat().st_mode & 0o777 == 0o600
    for bad in (tmp_path, tmp_path / "none" / "page.html"):
        said = train(home, "report", "--out", str(bad))
        assert (said.code, said.out) == (2, "")
        assert len(said.err.splitlines()) == 1


def test_the_command_replaces_nothing_but_a_report(month: Home, train: Train, tmp_path: Path) -> None:
    home = TinyHome(month.root, tmp_path)
    notes = tmp_path / "notes.html"
    notes.write_text("<!doctype html>\n<title>Notes</title>")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    astray = tmp_path / "astray"
    astray.symlink_to(tmp_path / "none")
    for there in (notes, month.log, pipe, astray):
        before = there.read_bytes() if there.is_file() else None
        said = train(home, "report", "--out", str(there))
        assert said == Said(2, "", f"shammah-train: {there}: is there already and is no report: name another file\n")
        assert (there.read_bytes() if there.is_file() else None) == before
    assert train(home, "history").code == 0
    assert train(home, "report").code == train(home, "report").code == 0


def test_a_path_that_cannot_be_noted_or_written_is_one_line(month: Home, train: Train, tmp_path: Path) -> None:
    home = TinyHome(month.root, tmp_path)
    for bad in (tmp_path / "no text \udcff.html", tmp_path / ("x" * 300)):
        said = train(home, "report", "--out", str(bad))
        assert (said.code, said.out) == (2, "")
        assert len(said.err.splitlines()) == 1
    assert not list(tmp_path.glob("*.html"))


def test_looking_needs_none_of_the_training_packages(month: Home, tmp_path: Path) -> None:
    blocked = block(tmp_path / "blocked", {"torch", "transformers", "onnx", "onnxruntime", "numpy"}, "ModuleNotFoundError")
    home = TinyHome(month.root, tmp_path)
    for arguments in (["history"], ["show", "last", "--answers"], ["report"]):
        done = subprocess.run(
            [script("shammah-train"), *arguments],
            env=home.environment | {"PYTHONPATH": str(blocked)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_a_real_run_has_its_figures(night: Night, tmp_path: Path) -> None:
    shutil.copytree(night.home.root, tmp_path / "home")
    home = Home(tmp_path / "home")
    page = Page(written(home))
    assert "v0001 serves" in page.text
    for figure in ("learning", "precision", "loss0", "reliability", "risk"):
        assert figure in [one.get("id") for one in page.named("figure")]
    known = gather(home, ExchangeLog(home))
    assert known.answers
    assert all(one.confidence is not None for one in known.answers)
