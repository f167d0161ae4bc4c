"""shammah-serve similar: the nearest first, only new queries embedded, and one line where the embedder is not there."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pexpect
import pytest

from fakes.bert import make_bert
from fakes.blocked import block
from shammah_data import embeddings
from shammah_data.errors import ArtifactError
from shammah_data.exchange import Exchange
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_export.embedder import export_embedder
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.similar import Similar, find_similar, told

QUERIES = ["how do i reset my password", "what is a b c", "what is 15 + 27?", "reset the password", "zzz qqq xxx"]


@pytest.fixture(scope="session")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedder; not to be changed."""
    folder = tmp_path_factory.mktemp("embedder")
    export_embedder(make_bert(tmp_path_factory.mktemp("bert")), folder, name="tiny")
    return folder


@pytest.fixture
def ready(home: Home, embedder_folder: Path) -> Home:
    """A home with the tiny embedder and five exchanges."""
    import shutil

    shutil.copytree(embedder_folder, home.embedder)
    log = ExchangeLog(home)
    for query in QUERIES:
        log.append(Exchange(query=query, answer=f"On {query}.", tier="teacher", source="test"))
    return home


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that was embedded, in order."""
    seen: list[str] = []
    embed = Embedder.embed

    def counting(self: Embedder, texts: Sequence[str], *rest: object) -> object:
        seen.extend(texts)
        return embed(self, texts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "embed", counting)
    return seen


def similar(home: Home, text: str, limit: int = 10) -> list[Similar]:
    return find_similar(home, ExchangeLog(home), text, limit, threads=1)


def serve(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "shammah_runtime.cli", "similar", *arguments],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    error = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert error.startswith("shammah-serve: ")
    assert error.count("\n") == 1
    return error


# -- the search -------------------------------------------------------------------------------------------------------


def test_the_nearest_come_first(ready: Home) -> None:
    found = similar(ready, "reset the password")
    vectors = Embedder(ready.embedder, threads=1).embed([*QUERIES, "reset the password"])
    cosines = vectors[:-1] @ vectors[-1]
    assert [one.row["query"] for one in found] == [QUERIES[row] for row in np.argsort(-cosines)]
    assert [one.similarity for one in found] == pytest.approx(sorted(cosines.tolist(), reverse=True), abs=2e-3)
    assert found[0].row["answer"] == "On reset the password."
    assert found[0].similarity == pytest.approx(1.0, abs=2e-3)
    assert similar(ready, "reset the password", limit=2) == found[:2]


def test_only_new_queries_are_embedded(ready: Home, embedded: list[str]) -> None:
    similar(ready, "a")
    assert sorted(embedded) == sorted([*QUERIES, "a"])
    embedded.clear()
    ExchangeLog(ready).append(Exchange(query="what is new", answer="This.", tier="teacher", source="test"))
    assert similar(ready, "what is new")[0].row["query"] == "what is new"
    assert embedded == ["what is new", "what is new"]


def test_a_query_that_was_asked_often_is_embedded_once_and_shown_newest_first(ready: Home, embedded: list[str]) -> None:
    log = ExchangeLog(ready)
    for number in range(3):
        log.append(Exchange(query="what is it", answer=f"Answer {number}.", tier="teacher", source="test"))
    found = similar(ready, "what is it", limit=3)
    assert [one.row["answer"] for one in found] == ["Answer 2.", "Answer 1.", "Answer 0."]
    assert embedded.count("what is it") == 2  # as one of the log's queries, and as the one looked for


def test_what_was_forgotten_is_found_no_more_and_leaves_the_cache(ready: Home, embedded: list[str]) -> None:
    gone = str(similar(ready, QUERIES[0])[0].row["id"])
    forget(ExchangeLog(ready), ready, Selection(ids=(gone,)))
    embedded.clear()
    assert QUERIES[0] not in [one.row["query"] for one in similar(ready, QUERIES[0])]
    assert embedded == [QUERIES[0]]
    assert embeddings.forget(ready, [gone]) == 0


def test_a_vector_that_was_forgotten_is_made_again_while_its_exchange_is_there(ready: Home, embedded: list[str]) -> None:
    known = str(similar(ready, QUERIES[0])[0].row["id"])
    assert embeddings.forget(ready, [known]) == 1
    embedded.clear()
    assert str(similar(ready, QUERIES[0])[0].row["id"]) == known
    assert embedded == [QUERIES[0], QUERIES[0]]


def test_an_emptied_log_empties_the_cache(ready: Home) -> None:
    found = similar(ready, "a")
    full = (ready.cache / "embeddings.bin").stat().st_size
    for one in found:
        forget(ExchangeLog(ready), ready, Selection(ids=(str(one.row["id"]),)))
    assert similar(ready, "a") == []
    assert (ready.cache / "embeddings.bin").stat().st_size < full / 2


def test_another_embedder_begins_a_new_cache(ready: Home, embedded: list[str], tmp_path: Path) -> None:
    similar(ready, "a")
    embedded.clear()
    export_embedder(make_bert(tmp_path / "other", seed=9), ready.embedder, name="other")
    similar(ready, "a")
    assert sorted(embedded) == sorted([*QUERIES, "a"])


def test_an_interrupted_search_keeps_what_it_has(ready: Home, embedded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shammah_runtime.similar._AT_ONCE", 2)

    def stop(done: int, total: int) -> None:
        assert total == len(QUERIES)
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_similar(ready, ExchangeLog(ready), "a", 10, 1, stop)
    assert len(embedded) == 4
    similar(ready, "a")
    assert len(embedded) == 6


def test_a_damaged_embedder_is_told(ready: Home) -> None:
    (ready.embedder / "embedder.onnx").write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"embedder\.onnx: not the bytes that were made: run `shammah-train embedder`"):
        similar(ready, "a")


def test_a_line_cannot_drive_the_terminal() -> None:
    row = {"id": "0123456789", "tier": "teacher", "query": "a\x1b[2J\nb", "answer": "c" * 200, "source": "serve"}
    line = told(Similar(row, 0.5))
    assert line == f" 0.50 01234567 teacher  {'a b':<44} {'c' * 49}…"


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command(ready: Home) -> None:
    done = serve("reset", "the", "password", "--limit", "2")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 2
    similarity, identity, tier, *rest = lines[0].split()
    assert (similarity, tier, rest[:3]) == ("1.00", "teacher", ["reset", "the", "password"])
    assert ExchangeLog(ready).find(identity)[0]["query"] == "reset the password"


def test_the_command_as_json_and_from_standard_input(ready: Home) -> None:
    done = serve("--json", "-n", "1", stdin=b"reset the password\n")
    assert (done.returncode, done.stderr) == (0, b"")
    (told_row,) = json.loads(done.stdout)
    assert told_row["query"] == "reset the password"
    assert told_row["similarity"] == pytest.approx(1.0, abs=2e-3)
    assert {"id", "answer", "tier", "created_at"} <= told_row.keys()


def test_progress_is_shown_on_a_terminal(ready: Home) -> None:
    child = pexpect.spawn(sys.executable, ["-m", "shammah_runtime.cli", "similar", "reset"], timeout=120)
    child.expect("5 of 5 new questions embedded\r\n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_without_an_embedder_there_is_one_line(home: Home) -> None:
    assert one_line(serve("anything")) == (
        "shammah-serve: similarity needs the embedder: run `shammah-train embedder` once (shammah-log search finds words)\n"
    )


def test_an_empty_log(home: Home, embedder_folder: Path) -> None:
    home.embedder.symlink_to(embedder_folder)
    done = serve("anything")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"the log is empty: ")
    assert json.loads(serve("anything", "--json").stdout) == []


@pytest.mark.parametrize("stdin", [b"", b" \n"])
def test_nothing_to_look_for(ready: Home, stdin: bytes) -> None:
    assert "nothing to look for" in one_line(serve(stdin=stdin))


def test_a_damaged_embedder_is_one_line(ready: Home) -> None:
    (ready.embedder / "tokenizer.json").unlink()
    assert "run `shammah-train embedder`" in one_line(serve("reset"))


def test_it_runs_without_anything_of_training(ready: Home, tmp_path: Path) -> None:
    names = {"torch", "transformers", "onnx", "peft", "accelerate", "safetensors"}
    done = serve("reset", PYTHONPATH=str(block(tmp_path / "site", names, "RuntimeError")))
    assert (done.returncode, done.stderr) == (0, b"")
    done = serve("reset", PYTHONPATH=str(block(tmp_path / "lean", {"onnxruntime"}, "ModuleNotFoundError")))
    assert "pip install 'shammah[cpu]'" in one_line(done)
