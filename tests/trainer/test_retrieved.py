"""The learned index of a night, and the evidence fitted on held-out queries."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

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
from shammah_trainer.retrieved import CURVE, Weigher, build_index, fit_evidence, repeated


def tried(right: bool, rng: random.Random, answer: str = "A.") -> Tried:
    """Right answers are nearer and likelier, with some overlap."""
    level = rng.gauss(1.0 if right else 0.0, 0.25)
    features = {
        "similarity": 0.5 + 0.4 * level,
        "gap": 0.3 * level,
        "share": min(max(level, 0.0), 1.0),
        "relevance": -0.2 + 0.2 * level,
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


def sure_of(similarity: float, right: bool) -> Lookup:
    """A lookup whose one answer has nothing but its similarity to tell it from others."""
    features = dict.fromkeys(NAMES, 0.0) | {"similarity": similarity, "gap": 0.2, "share": 1.0, "lift": 0.5}
    return Lookup("phrasing", str(similarity), (Tried("A.", features, right),))


def test_many_held_out_queries_certify_a_threshold() -> None:
    found = fit_evidence(lookups(600), (), 0.95)
    assert found.certified
    assert found.accepted > 200
    assert lower_bound(found.accepted_right, found.accepted) >= 0.95
    fresh = [one for lookup in lookups(600, seed=9) for one in lookup.tried[:1]]
    given = [one.right for one in fresh if sure(likelihood(found, one.features)) >= found.threshold]
    assert sum(given) / len(given) >= 0.95
    assert len(given) > 200


def test_few_held_out_queries_certify_nothing() -> None:
    found = fit_evidence(lookups(40), (), 0.95)
    assert not found.certified
    assert found.accepted_right >= 0.95 * found.accepted > 0
    assert found.threshold >= 0.5


def test_made_up_labels_move_the_threshold_and_are_not_counted() -> None:
    asked = [sure_of(0.5 + n / 120, True) for n in range(60)]
    wrong = [sure_of(0.5 + n / 150, False) for n in range(60)]
    right = [sure_of(0.5 + n / 800, True) for n in range(400)]
    found = {name: fit_evidence(asked, beside, 0.98) for name, beside in (("none", ()), ("wrong", wrong), ("right", right))}
    assert found["right"].threshold < found["none"].threshold < found["wrong"].threshold
    assert found["right"].accepted > found["none"].accepted > found["wrong"].accepted
    for one in found.values():
        assert one.examples == len(asked)
        given = [lookup for lookup in asked if sure(likelihood(one, lookup.tried[0].features)) >= one.threshold]
        assert one.accepted == one.accepted_right == len(given)


def test_no_promise_of_the_curve_outweighs_what_few_labels_say() -> None:
    """One in ten is wrong however sure the curve is of it: but for those before the first wrong one nothing is given."""
    found = fit_evidence([sure_of(1.0 + n / 1000, n % 10 > 0) for n in range(40)], (), 0.95)
    assert found.accepted == found.accepted_right == 9


def test_a_threshold_leaves_room_for_the_wrong_answers_of_the_model_itself() -> None:
    """Of what is given more is right than the target asks for, by the labels and by what the curve promises together."""
    many = lookups(3000)
    found = fit_evidence(many, (), 0.9, (0.8, 0.99))
    given = {}
    for step in found.ladder:
        tried_first = [repeated(lookup, replace(found, threshold=step.threshold)) for lookup in many]
        given[step.target_precision] = [one.right for one in tried_first if one is not None]
        assert step.accepted == len(given[step.target_precision])
        assert step.accepted_right == sum(given[step.target_precision])
    assert [step.target_precision for step in found.ladder] == [0.8, 0.9, 0.99]
    assert len(given[0.8]) >= len(given[0.9]) > len(given[0.99])
    for target, answers in given.items():
        assert sum(answers) / len(answers) > target + 0.4 * (1 - target)


def test_no_earlier_answer_is_given_that_is_a_guess() -> None:
    """However many sure ones there are to make up for it."""
    many = [sure_of(1.2 + n / 10_000, True) for n in range(1000)]
    unsure = [sure_of(0.2 + n / 200, True) for n in range(100)]
    found = fit_evidence([*many, *unsure], (), 0.95, (0.8, 0.99))
    chances = {step.target_precision: step.threshold for step in found.ladder}
    told = [sure(likelihood(found, one.tried[0].features)) for one in (*many, *unsure)]
    assert chances == {target: min(one for one in told if one >= min(target, 0.95)) for target in (0.8, 0.95, 0.99)}
    assert chances[0.8] < 0.92


def test_where_every_answer_is_wrong_none_is_given() -> None:
    rng = random.Random(1)
    found = fit_evidence([Lookup("outside", str(n), (tried(False, rng),)) for n in range(80)], (), 0.95)
    assert found.threshold > 1.0 or found.accepted == 0
    assert fit_evidence([sure_of(0.6 + n / 250, False) for n in range(100)], (), 0.95).threshold == NOTHING
    assert fit_evidence([], (), 0.95).threshold == NOTHING


def test_the_curve_knows_every_name_and_no_evidence_counts_against() -> None:
    assert set(CURVE) <= set(NAMES)
    assert all(weight > 0 for weight in CURVE.values())


class Scorer:
    """Stands in for a decoder: an answer's tokens are likely after a question that names its first word, others not."""

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: Sequence[int], unasked: float = -3.0) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self._unasked = unasked

    def score(self, prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        asked = self.tokenizer.decode(list(prompt)).lower()
        words = [self.tokenizer.decode(list(response)).split()[0].lower() for response in responses]
        return [(-0.1 if word in asked else self._unasked,) * len(r) for word, r in zip(words, responses, strict=True)]


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
    shutil.copytree(embedder_folder, staging / FOLDER)
    earlier = Earlier(dataset, staging / FOLDER)
    earlier.look_up([one for _, one in questions])
    given = {0.8: [True] * len(questions), 0.9: [False] * len(questions)}
    other = cast(Decoder, Scorer(tokenizer, base.stop_ids, unasked=-2.0))
    found = build_index(
        [Weigher("int8/model.onnx", decoder, given), Weigher("fp16/model.onnx", other, given)],
        dataset,
        questions,
        earlier,
        staging,
        0.9,
        lambda *done: seen.append(done),
    )
    assert found is not None
    assert seen[-1] == (6, 6)
    learned = Learned.load(staging / FOLDER, found.retrieval)
    assert [one.query for one in learned.exchanges] == [one.query for one in (*train, *held_out)]
    assert [learned.answers[one.answer].text for one in learned.exchanges] == [one.target for one in (*train, *held_out)]
    priors = {"int8/model.onnx": pytest.approx(-3.0), "fp16/model.onnx": pytest.approx(-2.0)}
    assert all(one.prior == priors for one in learned.answers)
    reader = Embedder(staging / FOLDER, threads=1)
    assert np.allclose(reader.embed([held_out[0].query])[0], learned.vectors[len(train)].astype(np.float32), atol=2e-3)
    evidence, weighed_otherwise = found.evidence
    # After no question an answer is likelier there, so that a question says less for it.
    assert weighed_otherwise.threshold != evidence.threshold
    low, own = evidence.ladder
    assert (low.target_precision, own.target_precision) == (0.8, 0.9)
    assert low.threshold <= own.threshold
    assert (own.threshold, own.accepted) == (evidence.threshold, evidence.accepted)
    counts = found.figures["heldout"]
    assert counts["phrasing"]["asked"] == 6
    assert counts["outside"] == {"asked": 1, "found": 0, "accepted": 0, "accepted_right": 0}
    assert sum(one.right for one in learned.answers) == counts["phrasing"]["accepted_right"]


def test_without_an_embedder_nothing_is_written(tmp_path: Path) -> None:
    decoder = cast(Decoder, None)
    dataset, folder = Dataset((), (), (), 0), tmp_path / "none"
    earlier = Earlier(dataset, folder)
    assert build_index([Weigher("g", decoder, {})], dataset, [], earlier, tmp_path, 0.9, lambda *_: None) is None
    assert list(tmp_path.iterdir()) == []
