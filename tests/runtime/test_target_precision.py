"""[routing] target_precision: both local tiers are held to it, and whoever shows a threshold names it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.memories import Told, evidence, make_embedder
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, Tiny
from shammah_data.guard import Raised
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Calibration, Step
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.doctor import examine
from shammah_runtime.status import status_lines
from shammah_runtime.why import why

Make = Callable[..., Appliance]
OFFLINE = Options(offline=True, watch=False)
# The tiny model is 0.5 sure of its answer.
LADDER = (Step(0.8, 0.4, 60, 52, True), Step(0.95, 0.9, 20, 20, False))
CALIBRATION = Calibration({"mean": 1.0}, 0.0, 0.9, 0.95, 100, 20, 20, False, LADDER)
ASKED = "how do i reset my password"


def answered(appliance: Appliance, text: str = QUESTION) -> tuple[str, dict[str, str]]:
    """What is answered, and the reason of each tier that was tried."""
    reply = appliance.conversation.ask(text, lambda _: None)
    # The learned tier comes twice, and last by words alone.
    return reply.text, {attempt.tier: attempt.reason for attempt in reversed(reply.attempts)}


def test_a_lower_target_answers_what_a_higher_one_declines(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": CALIBRATION},))
    text, reasons = answered(make_appliance(OFFLINE))
    assert not text
    assert reasons["neural"].endswith(", below 0.90")
    low = make_appliance(OFFLINE, target=0.7)
    text, reasons = answered(low)
    assert text == ANSWER
    assert reasons["neural"].endswith(", at least 0.40")
    assert any(line.startswith("threshold  answers from 0.40 on for 80% precision: 52 of 60") for line in status_lines(low))
    told = "\n".join(why(home, ExchangeLog(home), None))
    assert "v0001, neural: answers from 0.40 on for 80% precision: 52 of 60 accepted held-out answers were right" in told
    # What audits have raised holds for every target.
    low.guard.raise_to("v0001", Raised(0.8, "3 of 9 disagreed", "2026-01-01T00:00:00+00:00"))
    assert answered(low)[1]["neural"].endswith(", below 0.80")


def test_above_all_that_was_measured_nothing_is_answered(make_appliance: Make, tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": dataclasses.replace(CALIBRATION, threshold=0.0)},))
    assert answered(make_appliance(OFFLINE))[0] == ANSWER
    high = make_appliance(OFFLINE, target=0.99)
    text, reasons = answered(high)
    told = "routing.target_precision is 99%, and the version was measured up to 95% only"
    assert (text, reasons["neural"]) == ("", f"v0001 may not answer: {told}")
    assert f"threshold  no answers: {told}" in status_lines(high)


@pytest.mark.parametrize(("target", "repeated"), [(0.0, False), (0.8, True), (0.95, False), (0.99, False)])
def test_an_earlier_answer_is_held_to_it_too(
    make_appliance: Make, tiny: Tiny, home: Home, tmp_path: Path, target: float, repeated: bool
) -> None:
    curve = dataclasses.replace(evidence(ACCEPT_NOTHING, intercept=5.0), ladder=(Step(0.8, 0.5, 30, 25, True),))
    memory = Told(make_embedder(tmp_path), (("00000000-0000-0000-0000-00000000000a", ASKED, "By mail."),))
    graph = {"calibration": dataclasses.replace(CALIBRATION, threshold=ACCEPT_NOTHING, ladder=()), "evidence": curve}
    tiny.publish(home, graphs=(graph,), prepare=memory.put("int8/model.onnx"), retrieval=memory.retrieval)
    appliance = make_appliance(OFFLINE, target=target)
    text, reasons = answered(appliance, "what do i reset my password")
    assert (text == "By mail.") is repeated
    if repeated:
        assert "earlier ones again: answers from 0.50 on for 80% precision" in "\n".join(status_lines(appliance))
        told = "\n".join(why(home, ExchangeLog(home), None))
        assert "v0001, learned: answers from 0.50 on for 80% precision: 25 of 30 accepted" in told
    elif target == 0.99:
        assert "v0001 may not repeat answers: routing.target_precision is 99%" in reasons["learned"]


def test_the_doctor_names_the_target_in_force(tiny: Tiny, home: Home) -> None:
    tiny.publish(home, graphs=({"calibration": CALIBRATION},))

    def told_of(target: float) -> str:
        home.settings.write_text(f"[routing]\ntarget_precision = {target}\n", encoding="utf-8")
        return next(str(check) for check in examine(home) if check.name == "precision")

    assert told_of(0.0).startswith("ok   precision  answers from 0.90 on for 95% precision: 20 of 20")
    assert told_of(0.8).startswith("ok   precision  answers from 0.40 on for 80% precision: 52 of 60")
    told = "routing.target_precision is 99%, and the version was measured up to 95% only"
    assert told_of(0.99) == f"warn precision  no answers: {told}: lower it in config.toml"


def test_audits_are_held_against_the_target_in_force(
    make_appliance: Make, tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home, graphs=({"calibration": CALIBRATION},))
    for target, promised in ((0.0, (0.95, 0.9)), (0.8, (0.8, 0.4)), (0.99, (0.99, 2.0))):
        found = make_appliance(OFFLINE, target=target)._promise("v0001")
        assert found is not None
        assert (found.target_precision, found.threshold) == promised
