import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from tokenizers import Tokenizer

from fakes.bert import make_bert
from fakes.blocked import block
from fakes.tiny import Asked, Night, Said, TinyHome, exchanges, other_phrasings, script
from shammah_data.embedder import EmbedderCard
from shammah_data.exchange import Audited, Exchange
from shammah_data.home import Home
from shammah_data.learned import Learned
from shammah_data.log import ExchangeLog
from shammah_data.store import ModelStore
from shammah_runtime.engine.embedder import Embedder

Train = Callable[..., Said]
# As many as a second version needs to be better than the first, with what was added.
FEWER_EPOCHS = 16


def records(home: TinyHome) -> list[dict[str, Any]]:
    """The runs that the log remembers, newest first."""
    return ExchangeLog(Home(home.root)).runs()


def run_folders(home: TinyHome) -> list[Path]:
    return sorted(path for path in (home.root / "runs").glob("*") if path.is_dir())


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def permuted() -> Iterator[Asked]:
    """The exchanges with their answers dealt out again, none to a question of its own: they follow from nothing any more."""
    asked = exchanges()
    rng = random.Random(1)
    dealt = list(range(len(asked)))
    rng.shuffle(dealt)

    def own(place: int, answer: int) -> bool:
        return asked[place].response == asked[answer].response

    while kept := [place for place, answer in enumerate(dealt) if own(place, answer)]:
        place, other = kept[0], rng.randrange(len(asked))
        if not own(place, dealt[other]) and not own(other, dealt[place]):
            dealt[place], dealt[other] = dealt[other], dealt[place]
    return (replace(one, response=asked[answer].response) for one, answer in zip(asked, dealt, strict=True))


@pytest.fixture
def after(night: Night, tmp_path: Path) -> TinyHome:
    """A copy of the home after that run, to be changed."""
    shutil.copytree(night.home.root, tmp_path / "home")
    return TinyHome(tmp_path / "home", night.home.base)


@pytest.fixture
def few(make_home: Callable[..., TinyHome]) -> TinyHome:
    """A home with 37 exchanges, where 100 are wanted."""
    home = make_home(min_examples=100)
    home.import_(exchanges()[:37])
    return home


def test_a_run_publishes(night: Night) -> None:
    assert night.done.code == 0, night.done.err
    assert night.done.out.startswith("published: v0001: held-out loss ")
    assert len(night.done.out.splitlines()) == 1
    assert night.home.pointer()["champion"] == "v0001"
    manifest = ModelStore(night.home.root / "models").verify("v0001")
    assert manifest.snapshot_rows == len(exchanges())
    assert manifest.graphs[0].precision == "int8"
    assert manifest.graphs[0].calibration.accepted_right >= 4
    golden = manifest.graphs[0].golden
    assert 2 <= len(golden) <= 4
    assert len({one.answer_ids for one in golden}) == len(golden)
    assert manifest.evaluation["loss_after"] < manifest.evaluation["loss_before"]


def test_a_version_brings_along_what_it_was_made_from(night: Night) -> None:
    store = ModelStore(night.home.root / "models")
    manifest = store.verify("v0001")
    assert manifest.retrieval is not None
    learned = Learned.load(store.folder("v0001") / manifest.retrieval.folder, manifest.retrieval)
    told = {(one.query, learned.answers[one.answer].text) for one in learned.exchanges}
    assert told == {(one.query, one.response) for one in exchanges()}
    (graph,) = manifest.graphs
    assert all(graph.path in answer.prior for answer in learned.answers)
    assert graph.evidence is not None
    figures = records(night.home)[0]["figures"]["retrieved"]
    assert figures["evidence"]["threshold"] == graph.evidence.threshold
    assert figures["heldout"]["outside"]["asked"] > 40


def test_its_embedder_is_weighed_by_the_log_and_made_its_vectors(night: Night) -> None:
    store = ModelStore(night.home.root / "models")
    manifest = store.verify("v0001")
    assert manifest.retrieval is not None
    folder = store.folder("v0001") / manifest.retrieval.folder
    card, homes = EmbedderCard.verify(folder), EmbedderCard.verify(night.home.root / "embedder")
    assert (card.pooling, homes.pooling) == ("weighted mean", "mean")
    assert manifest.retrieval.embedder == card.digest != homes.digest
    learned = Learned.load(folder, manifest.retrieval)
    queries = [one.query for one in learned.exchanges]
    assert learned.vectors.astype(np.float32) == pytest.approx(Embedder(folder, threads=1).embed(queries), abs=2e-3)
    assert np.abs(learned.vectors - Embedder(night.home.root / "embedder", threads=1).embed(queries)).max() > 0.02


def test_its_tokenizer_is_that_of_the_base_without_blanks(night: Night) -> None:
    written = night.home.root / "models" / "v0001" / "tokenizer.json"
    assert b"\n" not in written.read_bytes()
    assert Tokenizer.from_file(str(written)).to_str() == Tokenizer.from_file(str(night.home.base / "tokenizer.json")).to_str()


def test_a_log_gets_plain_lines(night: Night) -> None:
    for text in (night.done.out, night.done.err):
        assert "\r" not in text
        assert "\x1b" not in text
        assert "\x08" not in text
    assert "train: step " in night.done.err
    assert all(line.strip() and len(line) < 200 for line in night.done.err.splitlines())


def test_the_run_is_recorded(night: Night) -> None:
    (record,) = records(night.home)
    assert record["status"] == "published"
    assert record["version"] == "v0001"
    assert night.done.out == f"published: {record['reason']}\n"
    (folder,) = run_folders(night.home)
    assert folder.name == record["id"] == ModelStore(night.home.root / "models").verify("v0001").run
    figures = record["figures"]
    assert figures["snapshot_rows"] == len(exchanges())
    assert figures["dataset"]["heldout_phrasings"] == 22
    assert figures["epoch_losses"][-1] < figures["epoch_losses"][0]
    saved = json.loads((folder / "run.json").read_text())
    assert saved["status"] == "published"
    lines = [json.loads(line) for line in (folder / "heldout.jsonl").read_text().splitlines()]
    asked = {kind: sum(line["kind"] == kind for line in lines) for kind in {line["kind"] for line in lines}}
    assert asked["phrasing"] == figures["heldout"]["phrasing"]["asked"] == 22
    assert figures["heldout"]["phrasing"]["right"] == sum(line["right"] for line in lines if line["kind"] == "phrasing")
    assert sum(line["accepted"] for line in lines) == sum(kind["accepted"] for kind in figures["heldout"].values())
    earlier = [line["repeated"] is not None for line in lines]
    assert sum(earlier) == sum(kind.get("repeated", 0) for kind in figures["heldout"].values())


def test_a_question_never_trained_on_is_not_answered(night: Night) -> None:
    heldout = records(night.home)[0]["figures"]["heldout"]
    assert heldout["phrasing"]["accepted_right"] >= 4
    assert heldout["group"]["accepted"] <= 1


def test_the_models_own_curve_is_fitted_to_imagined_questions_too(night: Night) -> None:
    (run,) = records(night.home)
    heldout = run["figures"]["heldout"]
    imagined = round(heldout["phrasing"]["asked"] / 8)
    assert imagined > 0
    (graph,) = ModelStore(night.home.root / "models").verify("v0001").graphs
    asked = sum(kind["asked"] for kind in heldout.values())
    assert graph.calibration.examples == asked + imagined


def test_the_threshold_of_earlier_answers_rests_on_the_whole_log(night: Night) -> None:
    (run,) = records(night.home)
    (graph,) = ModelStore(night.home.root / "models").verify("v0001").graphs
    assert graph.evidence is not None
    labels = run["figures"]["retrieved"]["labels"]
    assert graph.evidence.examples == labels["asked"] == sum(kind["asked"] for kind in run["figures"]["heldout"].values())
    assert labels["imputed"] > graph.evidence.accepted


def test_nothing_is_left_behind(night: Night) -> None:
    names = {path.name for path in (night.home.root / "models").iterdir()}
    assert names - {".lock"} == {"v0001", "pointer.json"}


def test_what_is_written_is_private(night: Night) -> None:
    for folder in ("models", "runs"):
        files = [path for path in (night.home.root / folder).rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if path.stat().st_mode & 0o077 and not _behind_a_private_folder(path, night.home)]


def _behind_a_private_folder(path: Path, home: TinyHome) -> bool:
    return any(not parent.stat().st_mode & 0o077 for parent in path.parents if parent.is_relative_to(home.root))


def test_a_second_run_without_news_is_skipped(after: TinyHome, train: Train) -> None:
    before = content(after.root / "models")
    (record,) = records(after)
    said = train(after)
    assert (said.code, said.out) == (
        0,
        f"skipped: nothing new since run {record['id']}: waits for 20 exchanges or ratings\n",
    )
    assert content(after.root / "models") == before
    assert len(run_folders(after)) == len(records(after)) == 1


def test_another_recipe_is_news(after: TinyHome, train: Train) -> None:
    said = train(after, "--epochs", "0.1")
    assert not said.out.startswith("skipped")
    assert len(records(after)) == 2


def test_permuted_answers_are_refused_and_the_pointer_stays(after: TinyHome, train: Train) -> None:
    """With the very settings that publish with the true answers."""
    pointer, champion = after.pointer(), content(after.root / "models" / "v0001")
    after.import_(permuted())
    said = train(after)
    assert said.code == 0
    assert said.out.startswith("refused: ")
    assert "the answers do not follow from the questions" in said.out
    assert len(said.out.splitlines()) == 1
    assert after.pointer() == pointer
    assert content(after.root / "models" / "v0001") == champion
    assert ModelStore(after.root / "models").versions() == ["v0001"]
    refused, published = records(after)
    assert (refused["status"], refused["version"]) == ("refused", None)
    assert said.out == f"refused: {refused['reason']}\n"
    assert published["status"] == "published"
    assert refused["figures"]["dataset"]["excluded"] == {"asked again later": len(exchanges())}
    # A refusal is an answer, too: the same data need not be tried again.
    assert train(after).out.startswith(f"skipped: nothing new since run {refused['id']}: ")


def test_too_few_exchanges_are_skipped(few: TinyHome, train: Train) -> None:
    assert train(few) == Said(0, "skipped: 37 of 100 exchanges\n", "")
    assert not records(few)
    assert not run_folders(few)
    assert not (few.root / "models").exists()


def test_without_the_training_packages_it_says_what_to_install(few: TinyHome, tmp_path: Path) -> None:
    blocked = {"PYTHONPATH": str(block(tmp_path / "blocked", {"torch"}, "ModuleNotFoundError"))}
    for arguments in (["--force"], ["base"]):
        done = subprocess.run(
            [script("shammah-train"), *arguments], env=few.environment | blocked, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stderr == (
            "shammah-train: training needs torch, which is not installed: pip install 'shammah[cpu,train]'\n"
        )


def test_force_runs_all_the_same(few: TinyHome, train: Train) -> None:
    said = train(few, "--force", "--epochs", "0.1", "--precision", "fp32")
    assert said.code == 0
    assert said.out.startswith("refused: ")
    (record,) = records(few)
    assert record["figures"]["snapshot_rows"] == 37
    assert record["figures"]["export"]["precision"] == "fp32"


def test_an_empty_log_is_skipped_even_with_force(make_home: Callable[..., TinyHome], train: Train) -> None:
    home = make_home(min_examples=100)
    assert train(home) == Said(0, "skipped: 0 of 100 exchanges\n", "")
    assert train(home, "--force") == Said(0, "skipped: 0 exchanges to learn from\n", "")


def test_force_without_anything_to_hold_out_says_so(make_home: Callable[..., TinyHome], train: Train) -> None:
    home = make_home(min_examples=100)
    home.import_(exchanges()[:2])
    reason = "nothing can be held out of so few exchanges (2), and nothing else shows what it learned"
    assert train(home, "--force") == Said(0, f"skipped: {reason}\n", "")
    assert not run_folders(home)


def test_too_little_to_learn_from_is_told_before_anything_is_fetched(
    make_home: Callable[..., TinyHome], train: Train, tmp_path: Path
) -> None:
    home = make_home(min_examples=100, embedder=str(make_bert(tmp_path / "tiny-bert")))
    # One phrasing of each question: there is none to hold out, whatever is alike.
    home.import_(list({one.response: one for one in exchanges()}.values())[:5])
    reason = "nothing can be held out of so few exchanges (5), and nothing else shows what it learned"
    assert train(home, "--force") == Said(0, f"skipped: {reason}\n", "")
    assert not (home.root / "embedder").exists()
    assert not (home.root / "bases").exists()


def test_another_run_in_progress_is_left_alone(few: TinyHome, train: Train) -> None:
    (few.root / "runs").mkdir()
    with FileLock(few.root / "runs" / ".lock"):
        assert train(few, "--force") == Said(0, "skipped: another run is in progress\n", "")
    assert not records(few)
    assert train(few).out == "skipped: 37 of 100 exchanges\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": "/no/such/base"}, "'/no/such/base': no such file or folder"),
        ({"max_length": 16}, "raise train.max_length"),
    ],
)
def test_a_failed_run_is_one_line_and_a_record(few: TinyHome, train: Train, settings: dict[str, object], words: str) -> None:
    few.configure(min_examples=10, **settings)
    said = train(few)
    assert said.code == 2
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("shammah-train: ")
    assert words in last
    (record,) = records(few)
    assert record["status"] == "failed"
    assert last == f"shammah-train: {record['reason']}"
    assert few.pointer() == {}
    # A failure is tried again.
    assert train(few).code == 2
    assert len(records(few)) == 2


@pytest.mark.parametrize(
    ("base", "wrong"),
    [
        ("/no/such/base", "no such file or folder (a hub name is written owner/name)"),
        ("smollm", "no such file or folder (a hub name is written owner/name)"),
        ("{home}/config.toml", "neither a GGUF file nor a model folder"),
        ("{home}", "holds no config.json; a model folder needs it"),
        ("...", "cannot make a folder name of it"),
        # What only reading it can tell.
        ("{home}/broken", "cannot be loaded: "),
    ],
)
def test_a_base_that_cannot_be_one_is_refused_by_the_name_of_its_setting(
    few: TinyHome, train: Train, tmp_path: Path, base: str, wrong: str
) -> None:
    base = base.format(home=few.root)
    (few.root / "broken").mkdir()
    (few.root / "broken" / "config.json").write_text("{")
    few.configure(min_examples=10, base=base, embedder=str(make_bert(tmp_path / "bert")))
    said = train(few)
    assert (said.code, said.out) == (2, "")
    last = said.err.splitlines()[-1]
    assert last.startswith(f"shammah-train: {few.root / 'config.toml'}: train.base = {base!r}: {wrong}")
    assert last.endswith("; set it to a folder in bases/, a model folder, a GGUF file or a hub name")
    assert records(few)[0]["status"] == "failed"
    # What the files tell is told before anything is made.
    assert (few.root / "embedder").exists() == ("broken" in base)


@pytest.mark.parametrize("arguments", [("promote", "x"), ("promote", "v0002"), ("promote", "../v0001"), ("rollback",)])
def test_a_version_that_is_not_there_is_one_line(after: TinyHome, train: Train, arguments: tuple[str, ...]) -> None:
    pointer = after.pointer()
    said = train(after, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("shammah-train: ")
    assert len(said.err.splitlines()) == 1
    assert after.pointer() == pointer


def copied(home: TinyHome) -> Path:
    """v0002, which is v0001 once more; its folder."""
    second = home.root / "models" / "v0002"
    shutil.copytree(home.root / "models" / "v0001", second)
    manifest = json.loads((second / "manifest.json").read_text())
    (second / "manifest.json").write_text(json.dumps(manifest | {"version": "v0002"}))
    return second


def test_versions_promote_and_rollback(after: TinyHome, train: Train) -> None:
    assert train(after, "versions") == Said(0, "v0001 champion\n", "")
    second = copied(after)
    assert train(after, "versions").out == "v0001 champion\nv0002\n"
    assert train(after, "promote", "v0002") == Said(0, "champion: v0002, previous: v0001\n", "")
    assert train(after, "versions").out == "v0001 previous\nv0002 champion\n"
    assert train(after, "rollback") == Said(0, "champion: v0001, previous: v0002\n", "")
    assert train(after, "versions").out == "v0001 champion\nv0002 previous\n"
    with open(second / "int8" / "weights.bin", "r+b") as file:
        file.seek(100)
        file.write(b"\xff\x00\xff")
    said = train(after, "rollback")
    assert said.code == 2
    assert "weights.bin: not the bytes that were published" in said.err
    assert train(after, "versions").out.startswith("v0001 champion")


def test_pins_and_trials_by_hand(after: TinyHome, train: Train) -> None:
    copied(after)
    assert train(after, "try", "v0002", "--share", "0.25").out == (
        "champion: v0001, previous: none, candidate: v0002 for 25% of the sessions\n"
    )
    assert train(after, "versions").out == (
        "v0001 champion\nv0002 candidate for 25% of the sessions: none of its answers is audited yet, 0 of v0001's are\n"
    )
    assert train(after, "pin", "v0001").out == (
        "champion: v0001, pinned, previous: none, candidate: v0002 for 25% of the sessions\n"
    )
    said = train(after, "promote", "v0002")
    assert (said.code, said.err) == (2, "shammah-train: v0001 is pinned: run `shammah-train unpin` first\n")
    assert train(after, "versions").out.startswith("v0001 champion, pinned\n")
    assert train(after, "unpin").out.startswith("champion: v0001, previous: none, candidate: v0002")
    assert train(after, "drop").out == "champion: v0001, previous: none\n"
    assert train(after, "unpin").out == "no version was pinned\nchampion: v0001, previous: none\n"
    assert train(after, "drop").out == "no version was being tried\nchampion: v0001, previous: none\n"
    assert train(after, "promote", "v0002").out == "champion: v0002, previous: v0001\n"
    with_lease = ModelStore(after.root / "models").lease("v0001")
    assert train(after, "versions").out == "v0001 previous, in use\nv0002 champion\n"
    with_lease.release()


def audited(home: TinyHome, version: str, verdicts: str) -> None:
    log = ExchangeLog(Home(home.root))
    asked = [Exchange(f"asked of {version}, {number}", "an answer", "neural") for number in range(len(verdicts))]
    log.add_many(asked)
    for exchange, letter in zip(asked, verdicts, strict=True):
        log.audit(Audited(exchange.id, version, 0.3, letter == "r"))


@pytest.mark.parametrize(
    ("verdicts", "line", "roles"),
    [
        ("r" * 30, "promoted: v0002 is as good as v0001: 0 of 30", "v0001 previous\nv0002 champion: 0 of 30"),
        ("w" * 9 + "r", "rolled back: v0002 is worse than v0001: 9 of 10", "v0001 champion\nv0002: rolled back on "),
    ],
)
def test_a_run_first_decides_a_trial_by_its_audits(after: TinyHome, train: Train, verdicts: str, line: str, roles: str) -> None:
    copied(after)
    train(after, "try", "v0002")
    said = train(after)
    assert said.out == "skipped: waits for the end of a trial: v0002, none of its answers is audited yet, 0 of v0001's are\n"
    audited(after, "v0002", verdicts)
    said = train(after)
    assert (said.code, said.out.split(" since")[0]) == (0, "skipped: nothing new")
    assert said.err.startswith(line)
    assert train(after, "versions").out.startswith(roles)


def test_a_new_version_is_tried_where_the_settings_say_so(after: TinyHome, train: Train) -> None:
    after.configure(candidate_share=0.3, epochs=FEWER_EPOCHS)
    after.import_(other_phrasings())
    said = train(after)
    assert said.out.rstrip().endswith("; on trial beside v0001 in 30% of the sessions")
    pointer = ModelStore(after.root / "models").pointer()
    assert (pointer.champion, pointer.candidate, pointer.candidate_share) == ("v0001", "v0002", 0.3)
    assert pointer.candidate_since is not None


def test_a_run_publishes_beside_a_pinned_version(after: TinyHome, train: Train) -> None:
    train(after, "pin", "v0001")
    after.configure(epochs=FEWER_EPOCHS)
    after.import_(other_phrasings())
    said = train(after)
    assert said.out.startswith("published: v0002: ")
    assert said.out.rstrip().endswith("; v0001 is pinned and goes on serving")
    assert train(after, "versions").out == "v0001 champion, pinned\nv0002\n"


def test_without_anything_due_it_ends_before_torch_is_read(after: TinyHome, tmp_path: Path) -> None:
    """Nothing that takes long may be imported to find out that there is nothing to do."""
    watched = (
        "import sys; from shammah_trainer import cli\n"
        "try:\n    sys.argv = ['shammah-train']; cli.main()\n"
        "except SystemExit as ending:\n    assert not ending.code\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'onnx', 'onnxruntime', 'peft', 'anthropic'}))"
    )
    done = subprocess.run([sys.executable, "-c", watched], env=after.environment, capture_output=True, text=True, timeout=60)
    told, modules = done.stdout.splitlines()
    assert told.startswith("skipped: nothing new since run")
    assert modules == "[]"


def test_a_home_without_versions(make_home: Callable[..., TinyHome], train: Train) -> None:
    home = make_home()
    assert train(home, "versions") == Said(0, "no version yet: run shammah-train\n", "")
    said = train(home, "rollback")
    assert (said.code, len(said.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("arguments", [("--force", "versions"), ("--epochs", "2", "rollback"), ("--precision", "int4", "base")])
def test_options_of_a_run_do_not_go_with_a_command(
    make_home: Callable[..., TinyHome], train: Train, arguments: tuple[str, ...]
) -> None:
    said = train(make_home(), *arguments)
    assert said.code == 2
    assert "options of a run do not go with the command" in said.err


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--precision", "int2"), ("promote",), ("--no-such-option",)])
def test_bad_arguments_exit_with_two(make_home: Callable[..., TinyHome], train: Train, arguments: tuple[str, ...]) -> None:
    said = train(make_home(), *arguments)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err


def test_a_wrong_setting_is_one_line(make_home: Callable[..., TinyHome], train: Train) -> None:
    said = train(make_home(epoch=3))
    assert (said.code, said.out) == (2, "")
    assert "did you mean 'epochs'?" in said.err
    assert len(said.err.splitlines()) == 1


def test_the_base_command_makes_the_base_that_a_run_uses(make_home: Callable[..., TinyHome], train: Train) -> None:
    home = make_home()
    said = train(home, "base", str(home.base))
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("ready: ")
    (made,) = (home.root / "bases").iterdir()
    assert (made / "base.json").exists()
    assert "already there" in train(home, "base", str(home.base)).out
