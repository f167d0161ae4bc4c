"""Trials for real: versions that were trained, a real log, a Claude on this machine. Nobody decides but the audits."""

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes.claude import FakeClaude
from fakes.tiny import Asked, Night, Said, TinyHome, exchanges, other_phrasings
from shammah_data import audit_queries
from shammah_data.auditing import is_drawn
from shammah_data.home import Home
from shammah_data.manifest import FileEntry, Manifest
from shammah_data.settings import AuditSection, ServeSettings, Settings
from shammah_data.store import ModelStore
from shammah_data.verdicts import verdicts
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.status import status_lines

PATIENCE = 60.0
MOST_QUESTIONS = 60
AT_ONCE = 6


def questions() -> list[Asked]:
    """All phrasings, so mixed that every run of twelve meets every group."""
    found = [*exchanges(), *other_phrasings()]
    return sorted(found, key=lambda one: [each for each in found if each.key == one.key].index(one))


def swapped() -> list[Asked]:
    """The same log with the answers of four of the twelve groups dealt to each other."""
    answers = {one.key: one.response for one in exchanges()}
    keys = sorted(answers)[:4]
    wrong = answers | {key: answers[other] for key, other in zip(keys, keys[1:] + keys[:1], strict=True)}
    return [dataclasses.replace(one, response=wrong[one.key]) for one in exchanges()]


def republish(version: Path, store: ModelStore, share: float) -> str:
    """Put a version that another home made on trial in this one."""
    staging = store.staging()
    shutil.copytree(version, staging, dirs_exist_ok=True)
    (staging / "manifest.json").unlink()
    was = Manifest.load(version)

    def describe(name: str, files: tuple[FileEntry, ...]) -> Manifest:
        return dataclasses.replace(was, version=name, files=files)

    name = store.publish(staging, describe)
    store.set_candidate(name, share)
    return name


@pytest.fixture
def home(night: Night, tmp_path: Path) -> TinyHome:
    shutil.copytree(night.home.root, tmp_path / "home")
    return TinyHome(tmp_path / "home", night.home.base)


@pytest.fixture
def open_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TinyHome], Appliance]]:
    """Open a session on a home, with a Claude that knows the right answers."""
    made: list[Appliance] = []
    with FakeClaude({one.query: one.response for one in questions()}) as claude:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")

        def make(home: TinyHome) -> Appliance:
            settings = Settings(
                serve=ServeSettings(threads=1, max_tokens=40, context_turns=0),
                audit=AuditSection(share=0.02, new_share=0.3, per_day=1000),
            )
            appliance = Appliance(Home(home.root), settings, Options(), lambda text: None)
            made.append(appliance)
            appliance.start()
            return appliance

        yield make
        for appliance in made:
            appliance.close()


def waits(appliance: Appliance) -> bool:
    """Whether anything is still to be asked of the other version or of Claude."""
    since = datetime.now(UTC) - timedelta(hours=1)
    rivals = appliance.log.read(lambda session: audit_queries.rivals_since(session, since), PATIENCE)
    rows = appliance.log.read(lambda session: audit_queries.waiting(session, since), PATIENCE)
    return any(
        is_drawn(str(row["id"]), found.probability)
        if (found := rivals.get(str(row["id"]))) is not None
        else row["model_version"] is not None or is_drawn(str(row["id"]), row["teacher_probability"])
        for row in rows
    )


def audits(appliance: Appliance) -> int:
    return appliance.log.stats().audits


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.1)


def ask_until_decided(appliance: Appliance, candidate: str) -> int:
    """Ask as people do, with pauses in which audits get on; how many questions were asked."""
    auditor = appliance.auditor
    assert auditor is not None
    until(lambda: appliance.models.rival(candidate) is not None, "the two versions were never loaded beside each other")
    until(lambda: auditor.probability(candidate) > 0.0, "audits never began")

    def rested() -> bool:
        return appliance.store.pointer().candidate != candidate or not waits(appliance)

    for number, one in enumerate(questions()[:MOST_QUESTIONS]):
        if number % AT_ONCE == 0:
            until(rested, "audits did not get on")
        if appliance.store.pointer().candidate != candidate:
            return number
        appliance.conversation.session = f"session {number}"
        appliance.conversation.ask(one.query, lambda _: None)
    until(rested, "audits did not get on")
    return MOST_QUESTIONS


def test_a_version_that_answers_a_third_of_the_questions_wrong_goes_back_by_itself(
    home: TinyHome, make_home: Callable[..., TinyHome], train: Callable[..., Said], open_: Callable[[TinyHome], Appliance]
) -> None:
    worse = make_home()
    worse.import_(swapped())
    trained = train(worse, "--force")
    assert trained.out.startswith("published: v0001"), trained.out + trained.err
    store = ModelStore(home.root / "models")
    candidate = republish(worse.root / "models" / "v0001", store, 0.3)
    appliance = open_(home)
    ask_until_decided(appliance, candidate)
    pointer = store.pointer()
    assert (pointer.champion, pointer.candidate) == ("v0001", None)
    assert 0 < audits(appliance) <= 50
    (told,) = (line for line in status_lines(appliance) if line.startswith("trial"))
    assert f"{candidate} rolled back on 20" in told
    assert f"{candidate} is worse than v0001: " in told
    said = train(home, "versions")
    assert said.code == 0, said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith(candidate))
    assert "rolled back on 20" in line
    assert " audited answers wrong, " in line
    assert line.endswith("of 20")


def test_one_that_answers_as_the_champion_does_is_not_rolled_back(
    home: TinyHome, open_: Callable[[TinyHome], Appliance]
) -> None:
    store = ModelStore(home.root / "models")
    candidate = republish(home.root / "models" / "v0001", store, 0.3)
    appliance = open_(home)
    asked = ask_until_decided(appliance, candidate)
    pointer = store.pointer()
    assert candidate in (pointer.candidate, pointer.champion), f"rolled back after {asked}: {verdicts(store.root)}"
    # Where both say the same, few are audited.
    assert 0 < audits(appliance) <= 30
