"""What a run finds when it starts, where the target of the day is not that of the nights."""

from types import SimpleNamespace
from typing import cast

import pytest

from shammah_data.exchange import Audited
from shammah_data.log import ExchangeLog
from shammah_data.settings import RoutingSection, Settings, TrainSettings
from shammah_data.store import ModelStore
from shammah_trainer.before import plan_of, state_of


def wanting(target: float) -> Settings:
    return Settings(train=TrainSettings(target_precision=0.95), routing=RoutingSection(target_precision=target))


def test_trials_are_decided_for_the_target_in_force() -> None:
    assert plan_of(wanting(0.0)).target_precision == 0.95
    assert plan_of(wanting(0.8)).target_precision == 0.8


@pytest.mark.parametrize(("target", "fell"), [(0.0, "95%"), (0.8, None), (0.995, "99.5%")])
def test_a_slip_is_one_below_the_target_in_force(target: float, fell: str | None) -> None:
    audits = [Audited(str(n), "v0001", 1.0, n % 6 > 0) for n in range(96)]
    log = SimpleNamespace(
        learnable_count=lambda: 0,
        runs=lambda _: [],
        local_share=lambda _: [],
        read=lambda _: [],
        outcomes=lambda versions, most: audits if versions == ["v0001"] else [],
    )
    store = SimpleNamespace(pointer=lambda: SimpleNamespace(pinned=False, champion="v0001"), versions=list)
    slipped = state_of(cast(ModelStore, store), cast(ExchangeLog, log), wanting(target), None).slipped
    told = "16 of the newest 96 audited answers of v0001 were wrong"
    assert slipped == (None if fell is None else f"the precision fell below {fell}: {told}")
