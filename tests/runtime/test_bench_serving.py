"""scripts/serving.py: what the benchmarks that ask a version many questions take for its answers."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.memories import Told, evidence, make_embedder
from fakes.versions import ACCEPT_ALL, ACCEPT_NOTHING, ANSWER, Tiny
from shammah_data.exchange import Exchange
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

SCRIPTS = Path(__file__).parents[2] / "scripts"
ROWS = (("00000000-0000-0000-0000-00000000000a", "how do i reset my password", "Write to the desk."),)


@pytest.fixture
def serve(tiny: Tiny, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The version of a home whose log holds ROWS; thresholds of its own answers and of earlier ones."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def made(own: float, earlier: float) -> Any:
        ExchangeLog(home).add_many([Exchange(query, answer, "teacher", id=one) for one, query, answer in ROWS])
        memory = Told(make_embedder(tmp_path), ROWS)
        tiny.publish(
            home,
            threshold=own,
            graphs=({"evidence": evidence(earlier, similarity=1.0)},),
            prepare=memory.put("int8/model.onnx"),
            retrieval=memory.retrieval,
        )
        return importlib.import_module("serving").Serving(home, 1, 40)

    return made


def test_the_same_words_get_the_answer_that_they_got(serve: Callable[..., Any]) -> None:
    """As from `shammah-serve`, whatever the version's own thresholds; other words do not."""
    serving = serve(ACCEPT_NOTHING, ACCEPT_NOTHING)
    again = serving.ask("How do I reset my password?")
    assert (again.own.given, again.best.text, again.best.given) == (False, "Write to the desk.", True)
    other = serving.ask("how do i reset the password")
    assert not other.best.given
    # Unasked it would say the surer of both all the same.
    assert other.best.text in (ANSWER, "Write to the desk.")


def test_an_answer_of_its_own_comes_first(serve: Callable[..., Any]) -> None:
    said = serve(ACCEPT_ALL, ACCEPT_NOTHING).ask("How do I reset my password?")
    assert (said.best.text, said.best.given) == (ANSWER, True)
    assert not said.earlier.given
