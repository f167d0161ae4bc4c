"""The learned index of a night, and the evidence fitted on held-out queries."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shammah_data.binomial import lower_bound
from shammah_data.learned import FOLDER, Learned
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.embedder import Embedder
from shammah_runtime.engine.evidence import NAMES, likelihood, sure
from shammah_trainer.base import Base
from shammah_trainer.calibrate import NOTHING
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind
from shammah_trainer.lookups import Lookup, Tried
from shammah_trainer.retrieved import build_index, fit, fit_evidence


def tried(right: bool, rng: random.Random, answer: str = "A.") -> Tried:
    """Right answers are nearer and likelier, with some overlap."""
    level = rng.gauss(1.0 if right else 0.0, 0.25)
    features = {
        "similarity": 0.5 + 0.4 * level,
        "gap": 0.3 * level,
        "share": min(max(level, 0.0), 1.0),
        "mean": -2.0 + 1.9 * level,
        "least": -6.0 + 5.0 * level,
        "opening": -2.0 + 1.9 * level,
        "lift": 2.0 * level,
    }
    return Tried(answer, features, right)


def lookups(count: int, seed: int = 0) -> list[Lookup]:
    rng = random.Random(seed)
    found: list[Lookup] = []
    for n in range(count):
        kind: Kind = "phrasing" if n % 3 else "outside"
        found.append(Lookup(kind, str(n % 40), (tried(kind == "phrasing", rng, f"Answer {n % 20}."), tried(False, rng))))
    return found


def test_enough_held_out_queries_certify_a_threshold() -> None:
    found = fit_evidence(lookups(600), 0.95)
    assert found.certified
    assert found.accepted > 200
    assert lower_bound(found.accepted_right, found.accepted) >= 0.95
    fresh = [one for lookup in lookups(600, seed=9) for one in lookup.tried[:1]]
    given = [one.right for one in fresh if sure(likelihood(found, one.features)) >= found.threshold]
    assert sum(given) / len(given) >= 0.95
    assert len(given) > 200


def test_few_held_out_queries_certify_nothing_and_let_no_wrong_answer_pass() -> None:
    found = fit_evidence(lookups(40), 0.95)
    assert not found.certified
    assert found.accepted == found.accepted_right > 0
    assert found.threshold >= 0.5


def test_the_threshold_is_chosen_where_the_models_own_answer_is_not_given() -> None:
    rng = random.Random(5)
    easy = [Lookup("phrasing", f"easy {n}", (tried(True, rng),)) for n in range(80)]
    hard = [Lookup("phrasing", f"hard {n}", (tried(bool(n % 2), rng),)) for n in range(40)]
    given = [True] * len(easy) + [False] * len(hard)
    found, of_all = fit_evidence([*easy, *hard], 0.95, given), fit_evidence([*easy, *hard], 0.95)
    assert found.weights == of_all.weights
    assert of_all.accepted > len(hard) / 2
    assert found.accepted <= len(hard) / 2
    assert not found.certified


def test_where_every_answer_is_wrong_none_is_given() -> None:
    rng = random.Random(1)
    found = fit_evidence([Lookup("outside", str(n), (tried(False, rng),)) for n in range(80)], 0.95)
    assert found.threshold > 1.0 or found.accepted == 0
    assert fit_evidence([], 0.95).threshold == NOTHING


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=12))
def test_more_evidence_never_counts_against(rows: list[tuple[bool, int]]) -> None:
    rng = random.Random(2)
    weights, _ = fit([Lookup("phrasing", str(group), (tried(right, rng),)) for right, group in rows])
    assert set(weights) <= set(NAMES)
    assert all(weight >= 0 for weight in weights.values())


class Scorer:
    """Stands in for a decoder: an answer's tokens are likely after a question that names its first word."""

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids

    def score(self, prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        asked = self.tokenizer.decode(list(prompt)).lower()
        words = [self.tokenizer.decode(list(response)).split()[0].lower() for response in responses]
        return [(-0.1 if word in asked else -3.0,) * len(r) for word, r in zip(words, responses, strict=True)]


def example(n: int, query: str, target: str, group: int) -> Example:
    return Example(f"00000000-0000-0000-0000-{n:012d}", query, target, group=group)


def test_the_index_holds_every_exchange_that_stands_alone(
    embedder_folder: Path, tokenizer: ChatTokenizer, base: Base, tmp_path: Path
) -> None:
    words = ("scanner", "holiday", "garage", "coffee", "payroll", "laptop")
    train = [
        example(10 * n + k, f"{start} the {word}", f"{word} is dealt with by desk {n}.", n)
        for n, word in enumerate(words)
        for k, start in enumerate(("what about", "how do i use", "tell me of"))
    ]
    held_out = [example(100 + n, f"how do i use {word}", train[3 * n].target, n) for n, word in enumerate(words)]
    dataset = Dataset(tuple(train), tuple(held_out), (), 6)
    decoder = cast(Decoder, Scorer(tokenizer, base.stop_ids))
    questions: list[tuple[Kind, Example]] = [("phrasing", one) for one in held_out]
    questions += [("outside", example(200, "what is the meaning of the sea", "", 0))]
    seen: list[tuple[int, int]] = []
    staging = tmp_path / "staging"
    staging.mkdir()
    earlier = Earlier(dataset, embedder_folder)
    earlier.look_up([one for _, one in questions])
    found = build_index(
        decoder,
        "int8/model.onnx",
        dataset,
        questions,
        earlier,
        {0.8: [True] * len(questions), 0.9: [False] * len(questions)},
        embedder_folder,
        staging,
        0.9,
        lambda *done: seen.append(done),
    )
    assert found is not None
    assert seen[-1] == (6, 6)
    learned = Learned.load(staging / FOLDER, found.retrieval)
    assert [one.query for one in learned.exchanges] == [one.query for one in (*train, *held_out)]
    assert [learned.answers[one.answer].text for one in learned.exchanges] == [one.target for one in (*train, *held_out)]
    assert all(one.prior == {"int8/model.onnx": pytest.approx(-3.0)} for one in learned.answers)
    reader = Embedder(staging / FOLDER, threads=1)
    assert np.allclose(reader.embed([held_out[0].query])[0], learned.vectors[len(train)].astype(np.float32), atol=2e-3)
    # At the lower target the model answers all of it by itself, and nothing is left to repeat.
    low, own = found.evidence.ladder
    assert (low.target_precision, low.accepted, own.target_precision) == (0.8, 0, 0.9)
    assert (own.threshold, own.accepted) == (found.evidence.threshold, found.evidence.accepted)
    counts = found.figures["heldout"]
    assert counts["phrasing"]["asked"] == 6
    assert counts["outside"] == {"asked": 1, "found": 0, "accepted": 0, "accepted_right": 0}
    assert sum(one.right for one in learned.answers) == counts["phrasing"]["accepted_right"]


def test_without_an_embedder_nothing_is_written(tmp_path: Path) -> None:
    decoder = cast(Decoder, None)
    dataset, folder = Dataset((), (), (), 0), tmp_path / "none"
    earlier = Earlier(dataset, folder)
    assert build_index(decoder, "g", dataset, [], earlier, {}, folder, tmp_path, 0.9, lambda *_: None) is None
    assert list(tmp_path.iterdir()) == []
