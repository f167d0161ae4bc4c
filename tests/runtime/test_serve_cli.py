"""shammah-serve as a process: one question, the check of an installation, and every mistake in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from fakes.blocked import block
from fakes.claude import FakeClaude, Fault
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.settings import ServeSettings
from shammah_data.store import ModelStore
from shammah_runtime.doctor import examine
from shammah_runtime.engine.decoding import Decoding

FULL = Path("/dev/full")
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


@pytest.mark.parametrize("fault", ["max_tokens", "refusal"])
def test_an_answer_that_was_cut_short_says_so(fault: Fault, home: Home, claude: FakeClaude) -> None:
    claude.fault = fault
    done = serve("ask", "Anything?")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.decode() == f"shammah-serve: the answer is incomplete: cut short: {fault}\n"
    told = json.loads(serve("ask", "Anything?", "--json").stdout)
    assert (told["tier"], told["complete"]) == ("teacher", False)


def test_a_teacher_that_breaks_off_is_an_error_after_what_it_said(home: Home, claude: FakeClaude) -> None:
    claude.fault = "cut"
    done = serve("ask", TAUGHT)
    assert "broke" in one_line(done, 3)
    partial = done.stdout.decode().removesuffix("\n")
    assert partial
    assert TAUGHT_ANSWER.startswith(partial)


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("ask", "thanks"), ()])
def test_an_answer_that_cannot_be_written_is_logged_and_told(home: Home, arguments: tuple[str, ...], unbuffered: str) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "shammah_runtime.cli", *arguments],
            input=b"thanks\n",
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert "No space left on device" in one_line(done, 2)
    # A session whose prompt cannot be written asks nothing.
    assert not arguments or [row["query"] for row in ExchangeLog(home).recent()] == ["thanks"]


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


def test_options_go_over_config_toml(home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    home.settings.write_text('[serve]\nmax_tokens = 2\nstop = ["opens"]\n', encoding="utf-8")
    ask = ("ask", QUESTION, "--offline")
    assert serve(*ask, "--max-tokens", "30").stdout.decode() == f"{ANSWER[: ANSWER.index('opens')]}\n"
    assert serve(*ask, "--max-tokens", "30", "--stop", "###", "--stop", "nine").stdout.decode() == "It opens at \n"
    session = serve("--offline", "--max-tokens", "30", "--stop", "at", stdin=f"{QUESTION}\n".encode())
    assert session.stdout.decode().removeprefix("> ").startswith("It opens \n")


def test_tokens_and_other_answers_are_told_when_asked_for(home: Home, tiny: Tiny) -> None:
    tiny.publish(home)
    told = json.loads(serve("ask", QUESTION, "--offline", "--json", "--logprobs", "2").stdout)
    assert "".join(token["text"] for token in told["tokens"]) == ANSWER
    for token in told["tokens"]:
        best, second = token["top"]
        # The wired model's own choice is the likeliest, and the next one is another.
        assert (best["id"], best["logprob"]) == (token["id"], token["logprob"])
        assert second["logprob"] <= best["logprob"] <= 0.0
    told = json.loads(serve("ask", QUESTION, "--offline", "--json", "--logprobs", "0", "--beams", "3", "--answers", "3").stdout)
    assert told["answer"] == ANSWER
    assert "top" not in told["tokens"][0]
    assert len(told["others"]) == 2
    assert "tokens" not in json.loads(serve("ask", QUESTION, "--offline", "--json").stdout)
    # A courtesy was not decoded.
    home.settings.write_text("[serve]\nmax_tokens = 1\n", encoding="utf-8")
    assert json.loads(serve("ask", "thanks", "--offline", "--json", "--logprobs", "1").stdout)["tokens"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--temperature", "9"), "temperature 9.0 is out of range: 0.0 to 5.0"),
        (("--beams", "2", "--temperature", "0.5"), "beams 2 and temperature 0.5: a beam search draws nothing"),
        (("--stop", ""), "a stop string must not be empty"),
        (("--json", "--answers", "2"), "answers 2 is more than beams 1"),
        (("--logprobs", "2"), "--answers and --logprobs are told in JSON: give --json too"),
    ],
)
def test_options_that_cannot_be_are_one_line(home: Home, options: tuple[str, ...], said: str) -> None:
    assert said in one_line(serve("ask", "hello", "--offline", *options), 2)


def test_the_docs_list_every_setting_with_its_default_and_its_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| `")]
    listed = {name.strip("`"): default for name, default in rows}
    plain = Decoding()
    known = {item.name: getattr(plain, item.name) for item in fields(Decoding) if hasattr(ServeSettings, item.name)}
    assert listed.keys() == known.keys()
    for name, default in known.items():
        assert getattr(ServeSettings(), name) == default
        assert listed[name] == ("none" if name == "stop" else f"{default:g}")
    for command in ((), ("ask",)):
        shown = serve(*command, "--help").stdout.decode()
        assert all(f"--{name.replace('_', '-')} " in shown for name in known)


def test_an_option_may_be_what_the_setting_may_be() -> None:
    for item in fields(ServeSettings):
        if "most" in item.metadata and hasattr(Decoding(), item.name):
            least, most = item.metadata["least"], item.metadata["most"]
            Decoding(**{item.name: least})
            Decoding(**{item.name: most})
            for beyond in (least - 1, most + 1):
                with pytest.raises(InputError, match=f"{item.name} .* is out of range"):
                    Decoding(**{item.name: beyond})


def test_settings_that_contradict_each_other_are_one_line(home: Home) -> None:
    home.settings.write_text("[serve]\nbeams = 2\ntemperature = 0.5\n", encoding="utf-8")
    said = f"{home.settings}: serve.beams = 2 and serve.temperature = 0.5: a beam search draws nothing"
    assert said in one_line(serve("--offline"), 2)
    assert said in checks(home)["settings"]


def test_options_before_the_command_are_not_silently_dropped(home: Home) -> None:
    for options in (["--offline"], ["--seed", "3"], ["--stop", "x"]):
        assert "give these options after the command" in one_line(serve(*options, "ask", "hello"), 2)


def test_an_explicit_provider_that_cannot_be_used_is_told_and_others_answer(home: Home, tiny: Tiny) -> None:
    tiny.publish(home, graphs=[{"provider": "cuda"}, {}])
    done = serve("ask", "hello", "--offline", "--provider", "cuda")
    assert done.returncode == 0
    assert done.stdout.startswith(b"Hello!")
    says = "CUDA cannot be used here (see `shammah-serve doctor`), and v0001 holds int8 on cuda, int8 on cpu"
    assert says in one_line(done, 0)


def test_a_precision_can_be_asked_for_and_what_is_not_there_is_told_with_what_is(home: Home, tiny: Tiny) -> None:
    tiny.publish(home, precisions=["int8", "fp32"])
    done = serve("ask", QUESTION, "--offline", "--precision", "fp32")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{ANSWER}\n", b"")
    home.settings.write_text("[serve]\nprecision = 'int4'\n", encoding="utf-8")
    done = serve("ask", "hello", "--offline")
    assert done.stdout.startswith(b"Hello!")
    assert "v0001 holds no graph for int4: it holds int8 on cpu, fp32 on cpu" in one_line(done, 0)
    assert "v0001 holds no graph for int4: it holds int8 on cpu, fp32 on cpu" in checks(home)["model"]
    assert checks(home)["model"].startswith("warn ")
    done = serve("ask", "hello", "--precision", "int3")
    assert done.returncode == 2
    assert "'int3' is not one of 'auto', 'int8'" in done.stderr.decode()
    assert "give these options after the command" in one_line(serve("--precision", "int8", "ask", "hello"), 2)
    home.settings.write_text("[routing]\ntarget_precision = 95\n", encoding="utf-8")
    told = "routing.target_precision = 95.0; it must lie between 0.0 and 1.0"
    assert told in one_line(serve("ask", "hello", "--offline"), 2)


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
    names = ["runtime", "providers", "kernels", "home", "settings", "log", "base", "model", "key"]
    assert [line.split()[1] for line in lines] == names
    assert "CPUExecutionProvider" in lines[1]
    assert lines[2].split(maxsplit=2)[2].startswith(("Shammah's own", "ONNX Runtime's"))


def test_the_doctor_finds_a_healthy_home_healthy(
    home: Home, tiny: Tiny, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(home)
    assert {check.level for check in examine(home)} == {"ok"}
    assert checks(home)["model"] == (
        "ok   model      v0001 (int8 on cpu), every byte as published; int8 on cpu serves (the only one for the CPU)"
    )
    tiny.publish(home, promote=False, precisions=["fp32", "int8"])
    ModelStore(home.models).set_candidate("v0002", 0.5)
    assert checks(home)["candidate"] == (
        "ok   candidate  v0002 (fp32 on cpu, int8 on cpu), every byte as published; "
        "fp32 on cpu serves (the version's first choice)"
    )
    (home.models / "v0002" / "tokenizer.json").unlink()
    assert checks(home)["candidate"].startswith("warn candidate  ")
    assert claude.calls == 0


def test_the_doctor_names_what_is_wrong(home: Home, tiny: Tiny) -> None:
    found = checks(home)
    assert found["model"].startswith("warn model      none has been published")
    assert found["key"].startswith("warn key        ANTHROPIC_API_KEY is not set")
    tiny.publish(home)
    (home.models / "v0001" / "int8" / "weights.bin").write_bytes(b"")
    home.settings.write_text("serve = 1", encoding="utf-8")
    home.log.write_bytes(b"no database" * 1000)
    (home.models / "guard.json").write_text("{", encoding="utf-8")
    found = checks(home)
    assert found["guard"].startswith(f"fail guard      no answers of the model: {home.models / 'guard.json'}: cannot be read")
    assert found["model"].startswith("fail model")
    assert "weights.bin: not the bytes that were published" in found["model"]
    assert found["settings"].startswith("fail settings")
    assert found["log"].startswith("fail log")
    assert serve("doctor").returncode == 1


def test_the_doctor_knows_a_base_that_no_night_can_begin_with(home: Home, tmp_path: Path) -> None:
    def told(base: str) -> str:
        home.settings.write_text(f"[train]\nbase = {json.dumps(base)}\n", encoding="utf-8")
        return checks(home)["base"]

    cure = f"set it to a folder in bases/, a model folder, a GGUF file or a hub name, in {home.settings}"
    missing = "no such file or folder (a hub name is written owner/name)"
    assert told("/no/such/base") == f"fail base       train.base = '/no/such/base': {missing}: {cure}"
    assert serve("doctor").returncode == 1
    (tmp_path / "a.gguf").write_bytes(b"no model")
    assert told(str(tmp_path / "a.gguf")).startswith(f"fail base       train.base = '{tmp_path}/a.gguf': does not begin like")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    for usable in (str(tmp_path / "a.gguf"), "owner/name", "smollm2-135m-instruct"):
        assert told(usable).startswith("ok   base       none yet")
    # What has been made is there, whatever became of its source.
    (home.bases / "mine").mkdir(parents=True)
    (home.bases / "mine" / "base.json").write_text("{}")
    assert told("mine") == "ok   base       mine"
    assert told("yours").startswith("fail base       train.base = 'yours'")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (" \t", "ANTHROPIC_API_KEY is blank: set it, or"),
        ("sk-ant-\u0443", "ANTHROPIC_API_KEY holds characters that no key has: set it again, or"),
        ("sk-ant one", "ANTHROPIC_API_KEY holds characters that no key has: set it again, or"),
    ],
)
def test_the_doctor_knows_a_key_that_can_be_none(home: Home, monkeypatch: pytest.MonkeyPatch, key: str, said: str) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    assert checks(home)["key"].startswith(f"warn key        {said}")
