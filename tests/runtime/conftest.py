"""What the runtime's tests share: tiny versions, made once, and a home of one's own for each test."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.claude import FakeClaude
from fakes.listening import Listening
from fakes.versions import OTHER_ANSWER, TAUGHT, TAUGHT_ANSWER, Tiny, make_tiny
from shammah_data.home import Home
from shammah_data.settings import HttpSettings, RoutingSection, ServeSettings, Settings
from shammah_runtime.appliance import Appliance, Options


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model that always gives `fakes.versions.ANSWER`."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def other_tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model that always gives `fakes.versions.OTHER_ANSWER`."""
    return make_tiny(tmp_path_factory.mktemp("other"), OTHER_ANSWER, ["int8"])


@pytest.fixture(scope="session")
def random_tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model with random weights only."""
    return make_tiny(tmp_path_factory.mktemp("random"), None, ["fp32", "int8", "int4"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, in the environment too; no Claude is to be reached from it."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "SHAMMAH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHAMMAH_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home").create()


@pytest.fixture
def claude(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClaude]:
    """A Claude that knows one answer, set in the environment with a key."""
    with FakeClaude({TAUGHT: TAUGHT_ANSWER}) as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        yield running
    for thread in threading.enumerate():
        if thread.name == "shammah-teacher":
            thread.join(10.0)
            assert not thread.is_alive(), "a request outlived its server"


@pytest.fixture
def warnings() -> list[str]:
    """The lines that appliances of this test warned with."""
    return []


@pytest.fixture
def make_appliance(home: Home, warnings: list[str]) -> Iterator[Callable[..., Appliance]]:
    """Start appliances on the test's home; `settings` are those of [serve], `target` the precision that is wanted."""
    made: list[Appliance] = []

    def make(options: Options | None = None, target: float = 0.0, **settings: Any) -> Appliance:
        serve = dataclasses.replace(ServeSettings(threads=1, max_tokens=24, commit_early=True), **settings)
        routing = RoutingSection(target_precision=target)
        appliance = Appliance(home, Settings(serve=serve, routing=routing), options or Options(watch=False), warnings.append)
        appliance.start()
        made.append(appliance)
        return appliance

    yield make
    for appliance in made:
        appliance.close()
    for thread in threading.enumerate():
        if thread.name == "learned-index":
            thread.join(30.0)


@pytest.fixture
def serving(make_appliance: Callable[..., Appliance], warnings: list[str]) -> Iterator[Callable[..., Listening]]:
    """Start HTTP servers over appliances of the test's home; `http` are changes to [http], the rest those to [serve]."""
    with contextlib.ExitStack() as stack:

        def start(
            offline: bool = False,
            http: dict[str, Any] | None = None,
            engine_wait: float = 10.0,
            no_log: bool = False,
            public: bool = False,
            **settings: Any,
        ) -> Listening:
            options = Options(offline=offline, no_log=no_log, watch=False, engine_wait=engine_wait)
            appliance = make_appliance(options, **settings)
            appliance.models.wait()
            given = dataclasses.replace(HttpSettings(), **(http or {}))
            listening = Listening(appliance, given, public=public, no_log=no_log, warn=warnings.append)
            return stack.enter_context(listening)

        yield start
