"""shammah-serve as a process: one question, the check of an installation, and every mistake in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fakes.blocked import block
from fakes.claude import FakeClaude
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.doctor import examine

HEAVY = {"torch", "transformers", "onnx", "peft", "accelerate"}


def serve(
    *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "shammah_runtime.cli", *arguments],
        input=stdin,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        timeout=120,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """What a failed command says: one line on standard error."""
    error = done.stderr.decode()
    assert done.returncode == code, error
    assert error.startswith("shammah-serve: ")
    assert error.count("\n") == 1
    return error


# -- ask --------------------------------------------------------------------------------------------------------------


def test_a_question_on_the_command_line(tiny: Tiny, home: Home) -> None:
    tiny.publish(home)
    done = serve("ask", *QUESTION.split(), "--offline")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{ANSWER}\n", b"")
    assert [row["query"] for row in ExchangeLog(home).recent()] == [QUESTION]


def test_a_question_on_standard_input_answered_by_the_teacher_as_json(tiny: Tiny, home: Home, claude: FakeClaude) -> None:
    tiny.publish(home, threshold=ACCEPT_NOTHING)
    done = serve("ask", "--json", stdin=f"{TAUGHT}\n".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert told["answer"] == TAUGHT_ANSWER
    assert (told["tier"], told["complete"], told["error"]) == ("teacher", True, None)
    assert (told["model_version"], told["teacher_model"]) == (None, "claude-sonnet-5-5")
    assert [attempt["tier"] for attempt in told["attempts"]] == ["neural", "learned", "template", "teacher"]
    assert told["attempts"][0]["threshold"] == ACCEPT_NOTHING
    assert told["latency_ms"] > 0
    assert claude.requests[0].body["messages"] == [{"role": "user", "content": TAUGHT}]


def test_nobody_can_answer(home: Home, claude: FakeClaude) -> None:
    done = serve("ask", TAUGHT, "--offline", "--no-log")
    assert one_line(done, 3) == "shammah-serve: no local answer is sure enough, and Claude was not asked: offline\n"
    assert done.stdout == b""
    assert claude.calls == 0
    assert not home.log.exists()


def test_nobody_can_answer_as_json(home: Home) -> None:
    done = serve("ask", TAUGHT, "--json")
    assert (done.returncode, done.stderr) == (3, b"")
    told = json.loads(done.stdout)
    assert (told["answer"], told["tier"], told["complete"]) == (None, None, False)
    assert told["error"].endswith("no ANTHROPIC_API_KEY in the environment")
    assert told["attempts"][-1]["outcome"] == "declined"


def test_a_teacher_that_breaks_off_is_an_error_after_what_it_said(home: Home, claude: FakeClaude) -> None:
    claude.fault = "cut"
    done = serve("ask", TAUGHT)
    assert "broke" in one_line(done, 3)
    partial = done.stdout.decode().removesuffix("\n")
    assert partial
    assert TAUGHT_ANSWER.startswith(partial)


@pytest.mark.parametrize("stdin", [b"", b" \n"])
def test_no_question(home: Home, stdin: bytes) -> None:
    assert "no question" in one_line(serve("ask", stdin=stdin), 2)


@pytest.mark.parametrize("arguments", [("ask", "--offline"), ("--offline",)], ids=str)
@pytest.mark.parametrize("encoding", [{"PYTHONUTF8": "1"}, {"PYTHONIOENCODING": "utf-8:strict"}], ids=str)
def test_bytes_that_are_no_text_are_asked_with_marks_in_their_place(
    home: Home, tiny: Tiny, arguments: tuple[str, ...], encoding: dict[str, str]
) -> None:
    tiny.publish(home)
    done = serve(*arguments, stdin=b"caf\xe9 hours today?\n", environment=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().removeprefix("> ").startswith(f"{ANSWER}\n")
    assert [row["query"] for row in ExchangeLog(home).recent()] == ["caf\N{REPLACEMENT CHARACTER} hours today?"]


# -- settings and arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[serve]\nmax_token = 3\n", "unknown key serve.max_token; did you mean 'max_tokens'?"),
        ("[serve\n", "config.toml: cannot be read as TOML"),
        ("[serve]\nthreads = 0\n", "serve.threads = 0; it must lie between 1 and 256"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("ask", "hello")], ids=str)
def test_wrong_settings_are_one_line(home: Home, toml: str, said: str, arguments: tuple[str, ...]) -> None:
    home.settings.write_text(toml, encoding="utf-8")
    assert said in one_line(serve(*arguments), 2)


def test_settings_are_used(home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    home.settings.write_text("[serve]\nmax_tokens = 2\n[teacher]\noffline = true\n", encoding="utf-8")
    told = json.loads(serve("ask", QUESTION, "--json").stdout)
    assert "did not end within 2 tokens" in told["attempts"][0]["reason"]
    assert told["error"].endswith("offline")


def test_options_before_the_command_are_not_silently_dropped(home: Home) -> None:
    assert "give these options after the command" in one_line(serve("--offline", "ask", "hello"), 2)


def test_an_explicit_provider_that_cannot_be_used_is_told_and_others_answer(home: Home, tiny: Tiny) -> None:
    tiny.publish(home, graphs=[{"provider": "cuda"}, {}])
    done = serve("ask", "hello", "--offline", "--provider", "cuda")
    assert done.returncode == 0
    assert done.stdout.startswith(b"Hello!")
    assert "CUDA was asked for and cannot be used here: see `shammah-serve doctor`" in one_line(done, 0)


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path, home: Home) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = serve("ask", "hello", environment={"SHAMMAH_HOME": str(tmp_path / "file" / "home")})
    assert "set SHAMMAH_HOME" in one_line(done, 2)


# -- what must not be there, and what may be missing ------------------------------------------------------------------


def test_the_session_runs_without_anything_of_training(home: Home, tiny: Tiny, tmp_path: Path) -> None:
    tiny.publish(home)
    site = {"PYTHONPATH": str(block(tmp_path / "site", HEAVY, "RuntimeError"))}
    # The block works.
    for module in HEAVY:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], env={**os.environ, **site}, capture_output=True, check=False, timeout=60
        )
        assert b"is blocked" in done.stderr
    done = serve("--offline", stdin=f"{QUESTION}\n".encode(), environment=site)
    assert (done.returncode, done.stderr) == (0, b"")
    answer, source, *_ = done.stdout.decode().removeprefix("> ").splitlines()
    assert answer == ANSWER
    assert source.startswith("neural · confidence 0.50 · v0001 · ")


def test_without_onnxruntime_the_other_tiers_answer(home: Home, tiny: Tiny, claude: FakeClaude, tmp_path: Path) -> None:
    tiny.publish(home)
    site = {"PYTHONPATH": str(block(tmp_path / "site", {"onnxruntime"}, "ModuleNotFoundError"))}
    for tier in ("teacher", "learned"):
        done = serve("ask", TAUGHT, "--json", environment=site)
        told = json.loads(done.stdout)
        assert (told["tier"], told["answer"]) == (tier, TAUGHT_ANSWER)
        assert "ONNX Runtime is not installed: pip install 'shammah[cpu]'" in told["attempts"][0]["reason"]
        assert "pip install" in one_line(done, 0)
    assert claude.calls == 1
    done = serve("doctor", environment=site)
    assert done.returncode == 1
    assert "fail providers  ONNX Runtime cannot be imported" in done.stdout.decode()


# -- doctor -----------------------------------------------------------------------------------------------------------


def checks(home: Home) -> dict[str, str]:
    return {check.name: str(check) for check in examine(home)}


def test_the_doctor_as_a_command(home: Home) -> None:
    done = serve("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line.split()[1] for line in lines] == ["runtime", "providers", "home", "settings", "log", "base", "model", "key"]
    assert "CPUExecutionProvider" in lines[1]


def test_the_doctor_finds_a_healthy_home_healthy(
    home: Home, tiny: Tiny, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    assert {check.level for check in examine(home)} == {"ok"}
    assert checks(home)["model"] == "ok   model      v0001 (int8 on cpu), every byte as published"
    assert claude.calls == 0


def test_the_doctor_names_what_is_wrong(home: Home, tiny: Tiny) -> None:
    found = checks(home)
    assert found["model"].startswith("warn model      none has been published")
    assert found["key"].startswith("warn key        ANTHROPIC_API_KEY is not set")
    tiny.publish(home)
    (home.models / "v0001" / "int8" / "weights.bin").write_bytes(b"")
    home.settings.write_text("serve = 1", encoding="utf-8")
    home.log.write_bytes(b"no database" * 1000)
    found = checks(home)
    assert found["model"].startswith("fail model")
    assert "weights.bin: not the bytes that were published" in found["model"]
    assert found["settings"].startswith("fail settings")
    assert found["log"].startswith("fail log")
    assert serve("doctor").returncode == 1
