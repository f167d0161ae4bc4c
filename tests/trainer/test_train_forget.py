"""What is forgotten leaves the versions too: the next run goes without it and deletes those that had seen it."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fakes.tiny import Night, Said, TinyHome
from shammah_data.exchange import RunRecord
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Manifest
from shammah_data.queries import Selection
from shammah_data.settings import Settings
from shammah_data.store import ModelStore, Pointer
from shammah_data.tombstones import tombstones, versions_that_saw
from shammah_trainer.before import recipe_of

Train = Callable[..., Said]


@pytest.fixture
def after(night: Night, tmp_path: Path) -> TinyHome:
    """A copy of the home after its first run, to be changed."""
    shutil.copytree(night.home.root, tmp_path / "home")
    return TinyHome(tmp_path / "home", night.home.base)


def test_the_next_run_deletes_what_had_seen_it(after: TinyHome, train: Train) -> None:
    home = Home(after.root)
    log = ExchangeLog(home)
    gone = [str(row["id"]) for row in log.search(["scanner"])][:2]
    told = forget(log, home, Selection(ids=tuple(gone)))
    assert told.versions == ["v0001"]
    assert any("snapshot.parquet" in line for line in told.removed)
    # It still serves, and the pointer still names it, until there is a better one.
    assert after.pointer()["champion"] == "v0001"

    done = train(after)
    assert done.out.startswith("published: v0002"), done.err
    assert done.out.rstrip().endswith("deleted v0001, which may have known what was forgotten")
    assert ModelStore(home.models).versions() == ["v0002"]
    assert ModelStore(home.models).pointer() == Pointer("v0002")
    assert train(after).out.startswith("skipped: nothing new since run")


def test_what_knows_too_much_and_does_not_serve_goes_at_once(after: TinyHome, train: Train) -> None:
    home, store = Home(after.root), ModelStore(Home(after.root).models)
    log = ExchangeLog(home)
    staging = store.staging()
    shutil.copytree(store.folder("v0001"), staging, dirs_exist_ok=True)
    (staging / "manifest.json").unlink()
    other = store.publish(staging, lambda name, files: replace(Manifest.load(store.folder("v0001")), version=name, files=files))
    store.promote(other)
    assert store.pointer() == Pointer("v0002", "v0001")
    store.pin("v0002")
    forget(log, home, Selection(words=("scanner",)))
    done = train(after)
    assert "deleted v0001, which may have known what was forgotten" in done.err
    # The last run's version is gone: once more, and then no more though the pinned one stays.
    assert store.versions() == ["v0002", "v0003"]
    assert store.pointer().champion == "v0002"
    done = train(after)
    assert done.out.startswith("skipped: "), done.err
    assert "v0002 may know what was forgotten and is pinned: shammah-train unpin" in done.out


def test_what_is_forgotten_while_a_version_is_published_makes_it_go_next_time(
    after: TinyHome, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(after.root)
    log, store = ExchangeLog(home), ModelStore(home.models)
    publish = ModelStore.publish

    def slowly(*arguments: Any) -> str:
        time.sleep(1.1)  # a manifest names whole seconds
        forget(log, home, Selection(words=("scanner",)))
        time.sleep(1.1)
        return publish(*arguments)

    forget(log, home, Selection(words=("holiday",)))
    monkeypatch.setattr(ModelStore, "publish", slowly)
    done = train(after)
    assert done.out.startswith("published: v0002"), done.err
    assert versions_that_saw(store, log.read(tombstones)) == ["v0002"]


def test_a_run_too_small_to_train_says_what_the_version_may_know(after: TinyHome, train: Train) -> None:
    home = Home(after.root)
    log = ExchangeLog(home)
    keys = ("scanner", "holiday", "garage", "coffee", "payroll", "laptop", "badge")
    for key in keys:
        forget(log, home, Selection(words=(key,)))
    done = train(after)
    assert done.out.startswith("skipped: ")
    assert "v0001 may know what was forgotten and still serves: --force trains without it" in done.out


@pytest.mark.parametrize(("pinned", "told"), [(False, "still serves: --force trains without it"), (True, "is pinned: ")])
def test_after_a_refusal_it_says_that_what_may_know_it_still_serves(
    after: TinyHome, train: Train, tmp_path: Path, pinned: bool, told: str
) -> None:
    home = Home(after.root)
    log, settings = ExchangeLog(home), Settings.load(home.settings)
    forget(log, home, Selection(words=("scanner",)))
    if pinned:
        ModelStore(home.models).pin("v0001")
    sha256, _, until = log.snapshot(tmp_path / "snapshot.parquet")
    figures = {"snapshot_sha256": sha256, "snapshot_until": until.isoformat(), "recipe_sha256": recipe_of(settings.train)}
    now = datetime.now(UTC)
    log.record_run(RunRecord("refused", now, now, "refused", "no better than v0001", None, figures))
    done = train(after)
    assert done.out.startswith("skipped: nothing new since run refused"), done.err
    assert f"; v0001 may know what was forgotten and {told}" in done.out


def test_what_is_forgotten_while_a_run_goes_on_is_not_published(
    after: TinyHome, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shammah_trainer import assess

    home = Home(after.root)
    log = ExchangeLog(home)
    assessing = assess.assess

    def forgetful(*arguments: Any) -> Any:
        found = assessing(*arguments)
        forget(log, home, Selection(words=("scanner",)))
        return found

    monkeypatch.setattr(assess, "assess", forgetful)
    done = train(after, "--force")
    assert done.out.startswith("refused: "), done.err
    assert "of its exchanges were forgotten while it ran: run again" in done.out
    assert ModelStore(home.models).versions() == ["v0001"]
    monkeypatch.undo()
    monkeypatch.setenv("SHAMMAH_HOME", str(home.root))
    again = train(after)
    assert "due: something was forgotten during the last run" in again.err
