"""The command itself, in a process of its own, under curl, llm, schemathesis and signals."""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.blocked import block
from fakes.claude import FakeClaude
from fakes.listening import TOKEN, Listening
from fakes.tiny import script
from fakes.versions import ANSWER, QUESTION, TAUGHT, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

Serving = Callable[..., Listening]
BODY = {"model": "shammah", "messages": [{"role": "user", "content": QUESTION}]}
# The line before may have been read together with the first one.
STOPPED = re.compile(
    r"(shammah-serve: the page is at http://127\.0\.0\.1:\d+/ and asks for the same token\n)?shammah-serve: stopped\n"
)


class Served:
    """A running `shammah-serve http`."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [script("shammah-serve"), "http", "--port", "0", *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        self.url = self.first.partition("serving ")[2].partition("/v1")[0]

    def end(self, number: int) -> str:
        """Send a signal; what was said until the end."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30.0)
        return said

    def curl(self, path: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """What curl makes of a path."""
        return subprocess.run(["curl", "-sS", f"{self.url}{path}", *options], capture_output=True, text=True, timeout=60.0)


@pytest.fixture
def serve(home: Home) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(*options: str, **environment: str) -> Served:
        made.append(Served(*options, **environment))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.communicate()


# -- the command ------------------------------------------------------------------------------------------------------


def test_curl_and_two_signals(tiny: Tiny, home: Home, serve: Callable[..., Served]) -> None:
    tiny.publish(home)
    served = serve("--offline")
    assert served.first == f"shammah-serve: serving {served.url}/v1 with the token in {home.http_token}\n"
    assert stat.S_IMODE(home.http_token.stat().st_mode) == 0o600
    token = home.http_token.read_text(encoding="ascii").strip()
    assert len(token) >= 32
    wanted = ["-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"]
    answer = served.curl("/v1/chat/completions", *wanted, "-D", "-", "-d", json.dumps(BODY))
    head, _, body = answer.stdout.partition("\n\n")
    assert "x-shammah-tier: neural" in head
    assert json.loads(body)["choices"][0]["message"]["content"] == ANSWER
    streamed = served.curl("/v1/chat/completions", *wanted, "-N", "-d", json.dumps(BODY | {"stream": True}))
    assert streamed.stdout.endswith("data: [DONE]\n\n")
    assert '"code":"token"' in served.curl("/v1/models").stdout.replace(" ", "")
    assert STOPPED.fullmatch(served.end(signal.SIGTERM))
    assert served.process.returncode == 0
    # Nothing is lost, and the token stays.
    assert [row["answer"] for row in ExchangeLog(home).recent()] == [ANSWER, ANSWER]
    again = serve("--offline")
    assert home.http_token.read_text(encoding="ascii").strip() == token
    assert STOPPED.fullmatch(again.end(signal.SIGINT))
    assert again.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_hangs_and_keeps_what_came(
    home: Home, claude: FakeClaude, serve: Callable[..., Served], number: int
) -> None:
    home.settings.write_text("[http]\ngrace_seconds = 0.1\n", encoding="utf-8")
    claude.fault = "stall"
    served = serve(SHAMMAH_HTTP_TOKEN=TOKEN)
    assert served.first.endswith("with the token in SHAMMAH_HTTP_TOKEN\n")
    assert not home.http_token.exists()
    asked = {"model": "shammah", "stream": True, "messages": [{"role": "user", "content": TAUGHT}]}
    curl = subprocess.Popen(
        ["curl", "-sSN", f"{served.url}/v1/chat/completions", "-H", f"x-api-key: {TOKEN}", "--json", json.dumps(asked)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert curl.stdout is not None
    assert curl.stdout.readline().startswith("data: ")
    assert STOPPED.fullmatch(served.end(number))
    assert "the server is ending" in curl.communicate()[0]
    (row,) = ExchangeLog(home).recent()
    assert not row["complete"]
    assert row["answer"]


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--host", "0.0.0.0"], {}, "0.0.0.0 can be reached from other machines: say --public if that is what you want"),
        (["--host", "::"], {}, "say --public"),
        (["--host", "no.such.host.invalid"], {}, "is no address of this machine"),
        ([], {"SHAMMAH_HTTP_TOKEN": "short"}, "a token has at least 16"),
        ([], {"SHAMMAH_HTTP_TOKEN": "sixteen letters and a space"}, "no space"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    serve: Callable[..., Served], options: list[str], environment: dict[str, str], said: str
) -> None:
    served = serve("--offline", *options, **environment)
    _, rest = served.process.communicate(timeout=30.0)
    assert served.process.returncode == 2
    assert said in served.first
    assert rest == ""


def test_a_token_that_others_can_read_is_none(home: Home, serve: Callable[..., Served]) -> None:
    home.http_token.write_text("x" * 32, encoding="ascii")
    home.http_token.chmod(0o644)
    served = serve("--offline")
    assert served.process.wait(30.0) == 2
    assert "readable by others: chmod 600" in served.first


def test_a_port_that_is_taken_is_one_line(home: Home, serving: Serving, serve: Callable[..., Served]) -> None:
    port = serving(offline=True).port
    served = serve("--offline", "--port", str(port))
    assert served.process.wait(30.0) == 2
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in served.first


def test_without_the_extra_it_says_what_to_install(home: Home, tmp_path: Path, serve: Callable[..., Served]) -> None:
    blocked = block(tmp_path / "blocked", {"uvicorn"}, "ModuleNotFoundError")
    served = serve(PYTHONPATH=str(blocked))
    assert served.process.wait(30.0) == 2
    assert served.first == "shammah-serve: the HTTP server is not installed (uvicorn is blocked): pip install 'shammah[http]'\n"


def test_no_other_command_imports_what_the_server_is_built_on(tiny: Tiny, home: Home, tmp_path: Path) -> None:
    tiny.publish(home)
    blocked = block(tmp_path / "blocked", {"uvicorn", "starlette", "prometheus_client"}, "RuntimeError")
    done = subprocess.run(
        [script("shammah-serve"), "ask", "--offline", QUESTION],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(blocked)},
        timeout=60.0,
    )
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n")


# -- llm --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_llm_asks_it(tiny: Tiny, home: Home, serving: Serving, tmp_path: Path, options: list[str]) -> None:
    tiny.publish(home)
    server = serving(offline=True)
    (tmp_path / "llm").mkdir()
    # As docs/http.md says.
    model = {"model_id": "shammah", "model_name": "shammah", "api_base": f"{server.url}/v1", "api_key_name": "shammah"}
    (tmp_path / "llm" / "extra-openai-models.yaml").write_text(json.dumps([model]), encoding="utf-8")
    (tmp_path / "llm" / "keys.json").write_text(json.dumps({"shammah": TOKEN}), encoding="utf-8")
    done = subprocess.run(
        [script("llm"), "-m", "shammah", *options, QUESTION],
        capture_output=True,
        text=True,
        env={**os.environ, "LLM_USER_PATH": str(tmp_path / "llm")},
        stdin=subprocess.DEVNULL,
        timeout=60.0,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ANSWER), done.stderr
    assert [row["source"] for row in ExchangeLog(home).recent()] == ["http"]


# -- schemathesis -----------------------------------------------------------------------------------------------------


def schemathesis(server: Listening, tmp_path: Path, phases: str, examples: int) -> "subprocess.CompletedProcess[str]":
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"
    return subprocess.run(
        [
            *(script("schemathesis"), "run", f"{server.url}/openapi.json", "--checks", checks),
            *("-H", f"Authorization: Bearer {TOKEN}", "--phases", phases),
            *("--max-examples", str(examples), "--seed", "1", "--no-color", "--generation-database", "none"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600.0,
    )


def test_its_own_description_holds(tiny: Tiny, home: Home, serving: Serving, tmp_path: Path, warnings: list[str]) -> None:
    tiny.publish(home)
    done = schemathesis(serving(offline=True), tmp_path, "fuzzing", 5)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert warnings == []


@pytest.mark.slow
def test_its_own_description_holds_at_length(
    tiny: Tiny, home: Home, serving: Serving, tmp_path: Path, warnings: list[str]
) -> None:
    tiny.publish(home)
    done = schemathesis(serving(offline=True), tmp_path, "examples,coverage,fuzzing", 200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert warnings == []
