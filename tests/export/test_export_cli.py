"""scripts/export: what it prints, and that every mistake is one line and exit code 2."""

import os
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

from shammah_export import parity
from shammah_export.checkpoint import Checkpoint
from shammah_export.cli import main
from shammah_export.parity import Limits

Save = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]

SCRIPT = Path(__file__).parents[2] / "scripts" / "export"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["shammah-export", *map(str, arguments)])
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
        "reference",
        "largest logit difference",
        "mean KL",
        "top-1 agreement",
    ]
    assert "torch fp32, 128 positions" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx", "weights.bin"]


def test_halves_by_hand(run: Run, save_model: Save, tmp_path: Path) -> None:
    code, out, err = run(save_model(), tmp_path / "fp16", "--precision", "fp16", "--context", 64)
    assert (code, err) == (0, "")
    assert "top-1 agreement" in out
    code, out, err = run(save_model(), tmp_path / "bf16", "--precision", "bf16", "--context", 64)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].split(maxsplit=1) == ["parity", "not measured: ONNX Runtime has no CPU kernels for bf16"]


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
    places = [str(SCRIPT.parents[1] / folder) for folder in ("data", "export")]
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
