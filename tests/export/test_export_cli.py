"""scripts/export: what it prints, and that every mistake is one line and exit code 2."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from fakes.tiny import make_tiny_base, other_phrasings
from shammah_data.judge import Verdict
from shammah_export import parity
from shammah_export.checkpoint import Checkpoint
from shammah_export.parity import Limits
from shammah_runtime.engine.decoder import Decoder, Generated
from shammah_trainer import export_cli, measure
from shammah_trainer.base import make_base
from shammah_trainer.export_cli import main

Save = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]

SCRIPT = Path(__file__).parents[2] / "scripts" / "export"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        # More threads than one would wait for one another, for a model that has next to nothing to compute.
        monkeypatch.setattr(sys, "argv", ["shammah-export", "--threads", "1", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    return call


def one_line(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2
    assert err.startswith("shammah-export: ")
    assert err.count("\n") == 1
    return err


def test_export_with_parity(run: Run, save_model: Save, tmp_path: Path) -> None:
    code, out, err = run(save_model(), tmp_path / "out", "--precision", "fp32", "--context", 64)
    assert (code, err) == (0, "")
    labels = [line[:26].strip() for line in out.splitlines()]
    assert labels == [
        "precision",
        "size",
        "nodes",
        "seconds",
        "measured on",
        "reference",
        "largest logit difference",
        "mean KL",
        "top-1 agreement",
        "perplexity ratio",
        "answered right",
        "decode speed",
    ]
    assert "torch fp32, 128 positions" in out
    assert "+- 0.0000, 124 tokens" in out
    assert "not measured: no --heldout FILE" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx", "weights.bin"]


def test_halves_by_hand(run: Run, save_model: Save, tmp_path: Path) -> None:
    code, out, err = run(save_model(), tmp_path / "fp16", "--precision", "fp16", "--context", 64)
    assert (code, err) == (0, "")
    assert "top-1 agreement" in out
    code, out, err = run(save_model(), tmp_path / "bf16", "--precision", "bf16", "--context", 64)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].split(maxsplit=1) == [
        "parity",
        "not measured: bf16 runs on CUDA only, and CUDAExecutionProvider cannot be used here: see `shammah-serve doctor`",
    ]


def test_a_run_folder_is_known_by_its_merged_model(run: Run, save_model: Save, tmp_path: Path) -> None:
    model = tmp_path / "run" / "merged"
    model.parent.mkdir()
    model.symlink_to(save_model(), target_is_directory=True)
    code, out, _ = run(tmp_path / "run", tmp_path / "out", "--precision", "int8", "--no-parity")
    assert code == 0
    assert "top-1" not in out


def test_prompts_are_tokenized_with_the_models_own_tokenizer(run: Run, save_model: Save, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in save_model().iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    tokenizer = Tokenizer(WordLevel({"?": 0, "What": 1, "is": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    code, out, _ = run(model, tmp_path / "out", "--precision", "fp32", "--context", 10)
    assert code == 0
    assert "torch fp32, 40 positions" in out


def test_a_used_folder_needs_force(run: Run, save_model: Save, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    arguments = (save_model(), tmp_path, "--precision", "int4", "--no-parity")
    assert "is not empty; choose another folder or add --force" in one_line(run(*arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert run(*arguments, "--force")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_bad_parity_needs_force(run: Run, save_model: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "LIMITS", {"fp32": Limits(max_abs_difference=0.0, mean_kl=1.0, top1_agreement=0.5)})
    arguments = (save_model(), tmp_path / "out", "--precision", "fp32")
    result = run(*arguments)
    assert "largest logit difference" in one_line(result)
    assert "top-1 agreement" in result[1]
    assert run(*arguments, "--force")[0] == 0


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as a base folder, which has a chat format and stop ids; its norms are far from one another's size."""
    source = make_tiny_base(tmp_path_factory.mktemp("source"))
    return make_base(str(source), tmp_path_factory.mktemp("bases"), lambda line: None).folder


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    """Exchanges, and a question that nobody can answer."""
    rows: list[dict[str, str | None]] = [dict(asked.row) for asked in other_phrasings()]
    path = tmp_path / "heldout.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [{"query": "Who am I?", "response": None}, *rows]) + "\n\n")
    return path


def test_heldout_exchanges_are_measured(run: Run, tiny_base: Path, heldout: Path, tmp_path: Path) -> None:
    arguments = (tiny_base, tmp_path / "out", "--precision", "fp32", "--heldout", heldout)
    code, out, err = run(*arguments, "--rows", 5)
    assert (code, err) == (0, "")
    # A random model knows nothing, and costs nothing as fp32.
    assert "answered right            0 of 5 (0.0%)" in out
    assert "perplexity ratio          1.0000 +- 0.0000" in out
    code, out, _ = run(*arguments, "--force")
    assert "of 24 (" in out


def test_everyday_exchanges_are_compared_where_none_are_given(
    run: Run, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_cli, "_EVERYDAY", 4)
    code, out, err = run(tiny_base, tmp_path / "out", "--precision", "fp32")
    assert (code, err) == (0, "")
    tokens = int(next(line for line in out.splitlines() if line.startswith("perplexity ratio")).split()[-2])
    assert tokens > 60
    assert "not measured: no --heldout FILE" in out


def test_a_right_answer_counts(run: Run, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "judge", lambda reference, answer: Verdict(True, ""))
    monkeypatch.setattr(Decoder, "generate", lambda *_, **__: Generated("x", (2,), (0.0,), 3, True))
    path = tmp_path / "heldout.jsonl"
    path.write_text('{"query": "a", "reference": "b"}\n{"query": "' + "long " * 300 + '", "reference": "b"}\n')
    code, out, _ = run(tiny_base, tmp_path / "out", "--precision", "fp32", "--heldout", path)
    assert code == 0
    assert "answered right            2 of 2 (100.0%)" in out


def test_a_runs_own_heldout_exchanges_are_taken(run: Run, tiny_base: Path, heldout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "merged").symlink_to(tiny_base, target_is_directory=True)
    heldout.rename(folder / "heldout.jsonl")
    code, out, _ = run(folder, tmp_path / "out", "--precision", "fp32")
    assert code == 0
    assert "of 24 (" in out


def test_rounding_that_costs_too_much_needs_force(
    run: Run, tiny_base: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "RATIO_LIMITS", {"int4": 0.5, "int8": 0.5})
    arguments = (tiny_base, tmp_path / "out", "--heldout", heldout, "--rows", 4)
    result = run(*arguments, "--precision", "int4")
    refused = one_line(result)
    assert "is above 0.5; weights that were not trained through int4 lose this much: train with" in refused
    assert "decode speed" in result[1]
    assert run(*arguments, "--precision", "int4", "--force")[0] == 0
    (tmp_path / "int8").mkdir()
    result = run(tiny_base, tmp_path / "int8", "--heldout", heldout, "--rows", 4, "--precision", "int8")
    assert "is above 0.5; the files are in" in one_line(result)


def test_a_heldout_file_that_cannot_be_used_is_one_line(run: Run, save_model: Save, tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "heldout.jsonl"
    arguments = ("--precision", "fp32", "--heldout", path)
    for text, told in (
        ("", "no line with a query and a response"),
        ('{"query": "a"}\n', "no line with a query and a response"),
        ("[1]\n", "line 1: an object with query and response is needed"),
        ('{"query": "a", "response": "b"}\n{"query": 1, "response": "b"}\n', "line 2: query and response must be texts"),
    ):
        path.write_text(text)
        assert told in one_line(run(tiny_base, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()
    path.write_text('{"query": "a", "response": "' + "b " * 300 + '"}\n')
    assert "no line of the held-out file fits a context of 256" in one_line(run(tiny_base, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()
    path.unlink()
    assert "cannot be read" in one_line(run(tiny_base, tmp_path / "out2", *arguments))
    path.write_text('{"query": "a", "response": "b"}\n')
    assert "not a base folder" in one_line(run(save_model(), tmp_path / "out2", *arguments))


def test_everyday_exchanges_that_do_not_fit_are_not_called_a_file(run: Run, tiny_base: Path, tmp_path: Path) -> None:
    told = one_line(run(tiny_base, tmp_path / "out", "--precision", "fp32", "--context", 1))
    assert "no everyday exchange fits a context of 1 " in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"version": "1.0", "model": 5}'])
@pytest.mark.parametrize("is_base", [True, False])
def test_a_tokenizer_that_cannot_be_read_is_told_before_anything_is_written(
    run: Run, tiny_base: Path, tmp_path: Path, content: bytes | None, is_base: bool
) -> None:
    model = Path(shutil.copytree(tiny_base, tmp_path / "model"))
    (model / "tokenizer.json").unlink()
    if content is not None:
        (model / "tokenizer.json").write_bytes(content)
    if not is_base:
        (model / "base.json").unlink()
    result = run(model, tmp_path / "out", "--precision", "fp32")
    if content is None and not is_base:
        assert result[0] == 0
        return
    assert "tokenizer.json: not a tokenizer: " in one_line(result)
    assert not (tmp_path / "out").exists()
    # What is not compared needs none.
    assert run(model, tmp_path / "out", "--precision", "fp32", "--no-parity")[0] == 0


def test_mistakes_are_one_line(run: Run, save_model: Save, tmp_path: Path) -> None:
    out, empty, broken = tmp_path / "out", tmp_path / "empty", tmp_path / "broken"
    for folder in (empty, broken):
        folder.mkdir()
    (broken / "config.json").write_text("{")
    precision = ("--precision", "int8")
    assert "is no folder" in one_line(run(tmp_path / "none", out, *precision))
    assert "config.json is missing" in one_line(run(empty, out, *precision))
    assert "config.json cannot be read" in one_line(run(broken, out, *precision))
    assert "is a file; give a folder" in one_line(run(save_model(), broken / "config.json", *precision))
    assert "int3" in one_line(run(save_model(), out, "--precision", "int3"))
    assert "precision" in one_line(run(save_model(), out))
    assert "--colour" in one_line(run(save_model(), out, *precision, "--colour"))
    assert "context 999 is outside 1 to 128" in one_line(run(save_model(), out, *precision, "--context", 999))
    (broken / "config.json").write_bytes((save_model() / "config.json").read_bytes())
    assert "model.safetensors is missing" in one_line(run(broken, out, *precision))
    (broken / "model.safetensors").write_bytes(b"not a safetensors file")
    assert "model.safetensors cannot be read" in one_line(run(broken, out, *precision))
    (broken / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    assert "has no weight_map" in one_line(run(broken, out, *precision))
    assert not any(path.suffix for path in out.glob("*"))


def test_whole_numbers_are_not_read_as_weights(run: Run, save_model: Save, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_bytes((save_model() / "config.json").read_bytes())
    weights = {name: array.astype(np.int8) for name, array in Checkpoint(save_model()).items()}
    safetensors.numpy.save_file(weights, model / "model.safetensors")
    assert "is of type I8" in one_line(run(model, tmp_path / "out", "--precision", "fp32"))


def test_the_script_starts_the_command(tmp_path: Path) -> None:
    places = [str(SCRIPT.parents[1] / folder) for folder in ("data", "export", "runtime", "trainer")]
    environment = os.environ | {
        # A set VIRTUAL_ENV makes the script take the first python3 of PATH.
        "VIRTUAL_ENV": sys.prefix,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(places),
    }
    command = [str(SCRIPT), str(tmp_path / "none"), str(tmp_path / "out"), "--precision", "int8"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    # In an environment that lacks some of the packages the script says first that it installs them.
    assert one_line((done.returncode, done.stdout, done.stderr.splitlines(keepends=True)[-1])).endswith(
        "give a model folder or a run folder\n"
    )
