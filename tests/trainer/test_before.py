"""What a run finds when it starts, where the target of the day is not that of the nights."""

import random
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shammah_data.exchange import Audited
from shammah_data.log import ExchangeLog
from shammah_data.settings import RoutingSection, Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_trainer.before import plan_of, state_of

BEGAN = datetime(2030, 1, 1)


def wanting(target: float) -> Settings:
    return Settings(train=TrainSettings(target_precision=0.95), routing=RoutingSection(target_precision=target))


def test_trials_are_decided_for_the_target_in_force() -> None:
    assert plan_of(wanting(0.0)).target_precision == 0.95
    assert plan_of(wanting(0.8)).target_precision == 0.8


def slipped(audits: list[Audited], target: float = 0.0, last_run: datetime | None = None) -> str | None:
    """What calls for a run of these audits of the champion, oldest first."""
    run: dict[str, Any] = {"id": "r", "status": "refused", "started": last_run, "finished": last_run, "figures": {}}
    log = SimpleNamespace(
        learnable_count=lambda: 0,
        news=lambda _: 0,
        runs=lambda _: [run] if last_run else [],
        local_share=lambda _: [],
        read=lambda _: [],
        outcomes=lambda versions, most: audits[-most:] if versions == ["v0001"] else [],
    )
    store = SimpleNamespace(pointer=lambda: SimpleNamespace(pinned=False, champion="v0001"), versions=list)
    return state_of(cast(ModelStore, store), cast(ExchangeLog, log), wanting(target), None).slipped


def audits(chances: list[float], rng: random.Random) -> list[Audited]:
    """One a minute, each right with its chance."""
    minute = timedelta(minutes=1)
    return [Audited(str(n), "v0001", 0.1, rng.random() < chance, "", BEGAN + n * minute) for n, chance in enumerate(chances)]


@pytest.mark.parametrize(("target", "fell"), [(0.0, "95%"), (0.8, None), (0.995, "99.5%")])
def test_a_slip_is_one_below_the_target_in_force(target: float, fell: str | None) -> None:
    told = "16 of the newest 96 audited answers of v0001 were wrong"
    found = slipped([Audited(str(n), "v0001", 1.0, n % 6 > 0) for n in range(96)], target)
    assert found == (None if fell is None else f"the precision fell below {fell}: {told}")


def test_however_many_nights_a_healthy_version_serves_it_calls_for_no_run() -> None:
    """Exactly at the target, looked at after every 30 audits."""
    rng = random.Random(8)
    histories = [audits([0.95] * 1500, rng) for _ in range(25)]
    assert sum(any(slipped(found[:seen]) for seen in range(30, 1501, 30)) for found in histories) <= 2


def test_a_late_slip_calls_for_a_run_and_names_the_newest_audits() -> None:
    found = slipped(audits([0.97] * 1000 + [0.7] * 100, random.Random(9)))
    assert found is not None
    assert found.startswith("the precision fell below 95%: ")
    assert "of the newest 100 audited answers of v0001 were wrong" in found


def test_a_suspicion_that_later_audits_lifted_calls_for_a_run_once() -> None:
    found = audits([0.0] * 6 + [1.0] * 60, random.Random(0))
    assert slipped(found[:6])
    assert slipped(found), "it came up since the last run, of which there is none"
    assert slipped(found, last_run=BEGAN + timedelta(minutes=50)) is None
    assert slipped(found[:6], last_run=BEGAN + timedelta(minutes=50)), "nothing was audited since that would lift it"
