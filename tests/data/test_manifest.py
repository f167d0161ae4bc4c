import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.pipes import pipe
from shammah_data.errors import ArtifactError
from shammah_data.manifest import Early, EarlyStep, Evidence, FileEntry, Manifest, Step

Describe = Callable[[str, tuple[FileEntry, ...]], Manifest]
FILES = (FileEntry("int8/model.onnx", 5, "a" * 64), FileEntry("tokenizer.json", 2, "b" * 64))


@pytest.fixture
def raw(describe: Describe) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(describe("v0001", FILES).dump())
    return value


def load(folder: Path, raw: object) -> Manifest:
    (folder / "manifest.json").write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return Manifest.load(folder)


def test_what_is_dumped_is_what_is_loaded(tmp_path: Path, describe: Describe) -> None:
    manifest = describe("v0001", FILES)
    (tmp_path / "manifest.json").write_bytes(manifest.dump())
    assert Manifest.load(tmp_path) == manifest


def test_what_a_night_chose_besides_its_threshold_is_kept_and_may_be_missing(tmp_path: Path, describe: Describe) -> None:
    manifest = describe("v0001", FILES)
    graph = manifest.graphs[0]
    ladder = (Step(0.8, 0.5, 30, 27, True), Step(0.95, 0.9, 20, 20, False))
    evidence = Evidence({"similarity": 1.0}, 0.0, 0.7, 0.95, 20, 10, 10, False, 4.75, 0.25, ladder)
    early = Early(8, 160, {"mean": 2.0}, 1.0, 50, (EarlyStep(0.95, 0.97, 40, 40, 39),))
    graph = replace(graph, calibration=replace(graph.calibration, ladder=ladder, early=early), evidence=evidence)
    (tmp_path / "manifest.json").write_bytes(replace(manifest, graphs=(graph,)).dump())
    assert Manifest.load(tmp_path).graphs == (graph,)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    for curve in ("calibration", "evidence"):
        del raw["graphs"][0][curve]["ladder"]
    del raw["graphs"][0]["calibration"]["early"]
    found = load(tmp_path, raw).graphs[0]
    assert found.evidence is not None
    assert (found.calibration.ladder, found.evidence.ladder, found.calibration.early) == ((), (), None)


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = raw
        for step in way:
            place = place[int(step)] if step.isdecimal() else place[step]
        place[int(last) if last.isdecimal() else last] = value

    return change


def drop(path: str) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for step in way:
            raw = raw[step]
        del raw[last]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("colour", "blue"), "unknown key colour in Manifest"),
        (put("shape.depth", 3), "unknown key depth in CacheShape"),
        (drop("base"), "missing key base in Manifest"),
        (drop("shape.vocab"), "missing key vocab in CacheShape"),
        (put("snapshot_rows", "3"), "expected int, found '3'"),
        (put("snapshot_rows", True), "expected int, found True"),
        (put("base", None), "expected str, found None"),
        (put("stop_ids", 0), "expected a list, found 0"),
        (put("stop_ids", ["0"]), "expected int, found '0'"),
        (put("shape", []), "CacheShape must be an object"),
        (put("evaluation", []), "expected an object"),
        (put("graphs.0.provider", "tpu"), "'tpu' is not one of cpu, cuda"),
        (put("graphs.0.parity", {"max_abs": "small"}), "expected float, found 'small'"),
        (put("graphs.0.calibration.threshold", float("nan")), "expected a finite number, found nan"),
        (put("graphs.0.calibration.weights", {"mean": float("inf")}), "expected a finite number, found inf"),
        (put("chat.system_prefix", 5), "expected str, found 5"),
        (put("format", 1), "format 1, this runtime reads 2 and 3: upgrade"),
        (drop("format"), "format None"),
        (put("graphs.0.golden", []), "a graph without a golden prompt and answer cannot be tested"),
        (put("graphs.0.golden.0.answer_ids", []), "a graph without a golden prompt and answer cannot be tested"),
        (put("graphs.0.golden.0", 3), "Golden must be an object"),
        (put("graphs.0.path", "int4/model.onnx"), "graph int4/model.onnx is not among the files"),
        (put("graphs", []), "needs at least one graph"),
        (put("stop_ids", []), "needs at least one graph, one stop id"),
        (put("files.1.path", "other.json"), "tokenizer.json"),
        (put("shape.layers", 0), "shapes must be positive"),
        (put("snapshot_until", "soon"), "snapshot_until 'soon' is not a time"),
        (put("snapshot_until", "0001-01-01T00:00:00+14:00"), "snapshot_until .* is not a time"),
        (put("snapshot_until", "9999-12-31T23:59:59-14:00"), "snapshot_until .* is not a time"),
        (put("created", "soon"), "created 'soon' is not a time"),
        (put("stop_ids", [0, 64]), "the stop id 64 is beyond its vocabulary of 64 tokens: run `shammah-train rollback`"),
        (put("stop_ids", [-1]), "the stop id -1 is beyond"),
        (put("graphs.0.golden.0.answer_ids", [64]), "the id of a golden answer 64 is beyond"),
    ],
)
def test_a_fault_is_named_in_one_line(
    tmp_path: Path, raw: dict[str, Any], change: Callable[[dict[str, Any]], None], says: str
) -> None:
    load(tmp_path, raw)
    change(raw)
    with pytest.raises(ArtifactError, match=says) as caught:
        load(tmp_path, raw)
    assert str(caught.value).startswith(str(tmp_path / "manifest.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "C:x", "", ".", "./a", "a//b", "a/", "x\0y", "manifest.json"],
)
def test_a_path_that_is_not_plainly_inside_is_refused(tmp_path: Path, raw: dict[str, Any], path: str) -> None:
    raw["files"].append({"path": path, "bytes": 1, "sha256": "c" * 64})
    with pytest.raises(ArtifactError, match="not that of a file inside"):
        load(tmp_path, raw)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_what_is_not_an_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="this runtime reads 2"):
        load(tmp_path, text)


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with pipe(tmp_path / "manifest.json"), pytest.raises(ArtifactError, match="cannot be read: not a plain file: run"):
        Manifest.load(tmp_path)


def test_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Manifest.load(tmp_path)


def test_one_golden_prompt_outside_a_list_is_read_as_a_list_of_one(tmp_path: Path, raw: dict[str, Any]) -> None:
    wanted = load(tmp_path, raw)
    put("graphs.0.golden", raw["graphs"][0]["golden"][0])(raw)
    assert load(tmp_path, raw) == wanted


def test_whole_numbers_serve_as_fractions(tmp_path: Path, raw: dict[str, Any]) -> None:
    put("graphs.0.calibration.intercept", 1)(raw)
    assert type(load(tmp_path, raw).graphs[0].calibration.intercept) is float
