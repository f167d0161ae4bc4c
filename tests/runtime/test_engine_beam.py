"""Beam search: token for token what transformers finds, and one beam is greedy."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fakes.versions import ANSWER, CONTEXT, QUESTION, Tiny
from shammah_data.errors import ArtifactError, InputError
from shammah_data.manifest import CacheShape
from shammah_export.export import export_model
from shammah_runtime.engine import memory
from shammah_runtime.engine.beam import Found, search
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.base import make_base

# Ends that a random model really comes upon, so that beams end in the middle of a search.
STOPS = tuple(range(0, 384, 12))
PROMPTS = [[int(token) for token in np.random.default_rng(seed).integers(0, 384, 3 + 4 * seed)] for seed in range(6)]
MOST = 14


@pytest.fixture(scope="module")
def reference(random_tiny: Tiny) -> Any:
    return AutoModelForCausalLM.from_pretrained(random_tiny.folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def session(random_tiny: Tiny) -> GraphSession:
    return GraphSession(random_tiny.graph(), random_tiny.shape)


def found(session: GraphSession, prompt: Sequence[int], decoding: Decoding, stops: Sequence[int] = STOPS) -> list[Found]:
    cache = session.new_cache()
    first_V = session.feed(cache, prompt)[-1].copy()
    return search(session, cache, first_V, decoding, stops)[0]


def generated(model: Any, prompt: Sequence[int], decoding: Decoding, stops: Sequence[int]) -> list[tuple[list[int], float]]:
    """The answers of transformers and their scores, cut behind their end."""
    with torch.inference_mode():
        told = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            num_beams=decoding.beams,
            num_return_sequences=decoding.beams,
            do_sample=False,
            length_penalty=decoding.length_penalty,
            repetition_penalty=decoding.repetition_penalty,
            max_new_tokens=decoding.max_tokens,
            eos_token_id=list(stops),
            pad_token_id=stops[0],
            return_dict_in_generate=True,
            output_scores=True,
        )
    answers = []
    for row, score in zip(told.sequences[:, len(prompt) :].tolist(), told.sequences_scores.tolist(), strict=True):
        end = next((place for place, token in enumerate(row) if token in stops), len(row) - 1)
        answers.append((row[: end + 1], score))
    return answers


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(beams=4, max_tokens=MOST),
        Decoding(beams=2, max_tokens=MOST, length_penalty=0.0),
        Decoding(beams=5, max_tokens=MOST, length_penalty=1.3),
        Decoding(beams=3, max_tokens=MOST, length_penalty=-1.0),
        Decoding(beams=4, max_tokens=MOST, repetition_penalty=1.3),
        Decoding(beams=4, max_tokens=1),
    ],
    ids=str,
)
def test_beams_are_those_of_transformers(session: GraphSession, reference: Any, decoding: Decoding) -> None:
    lengths = set()
    for prompt in PROMPTS:
        mine = found(session, prompt, decoding)
        theirs = generated(reference, prompt, decoding, STOPS)
        assert [list(one.ids) for one in mine] == [ids for ids, _ in theirs]
        np.testing.assert_allclose([one.score for one in mine], [score for _, score in theirs], atol=1e-3)
        lengths |= {len(one.ids) for one in mine}
    # Else no beam would have ended before the others.
    assert len(lengths) > 1 or decoding.max_tokens == 1


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: f"{len(prompt)} tokens")
def test_one_beam_is_greedy(random_tiny: Tiny, session: GraphSession, prompt: list[int]) -> None:
    (one,) = found(session, prompt, Decoding(max_tokens=40))
    greedy = random_tiny.decoder(stop_ids=STOPS).generate(prompt, Decoding(max_tokens=40))
    assert one.ids == greedy.ids
    np.testing.assert_allclose(one.logprobs, greedy.logprobs, atol=1e-5)
    assert one.score == pytest.approx(np.mean(greedy.logprobs), abs=1e-5)


def test_the_log_probabilities_are_those_of_the_tokens(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder(stop_ids=STOPS)
    said = decoder.generate(PROMPTS[3], Decoding(beams=4, answers=4, max_tokens=MOST, repetition_penalty=1.3))
    answers = [said, *said.others]
    assert len({one.ids for one in answers}) == 4
    scores = decoder.score(PROMPTS[3], [one.ids for one in answers])
    for one, score in zip(answers, scores, strict=True):
        np.testing.assert_allclose(one.logprobs, score, atol=1e-4)


def test_more_beams_find_no_less_likely_answer(session: GraphSession) -> None:
    for prompt in PROMPTS:
        # Without ends and with one length all that counts is the sum.
        few, many = (found(session, prompt, Decoding(beams=beams, max_tokens=6), ())[0] for beams in (1, 30))
        assert many.score >= few.score


def test_a_search_leaves_the_prompt_for_the_next_one(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder(stop_ids=STOPS)
    prompt = PROMPTS[5]
    wanted = random_tiny.decoder(stop_ids=STOPS).generate(prompt, Decoding(max_tokens=MOST))
    first = decoder.generate(prompt, Decoding(beams=4, max_tokens=MOST))
    again = decoder.generate(prompt, Decoding(beams=4, max_tokens=MOST))
    assert (first.reused, again.reused) == (0, len(prompt) - 1)
    assert (again.ids, again.logprobs) == (first.ids, first.logprobs)
    greedy = decoder.generate(prompt, Decoding(max_tokens=MOST))
    assert (greedy.ids, greedy.logprobs) == (wanted.ids, wanted.logprobs)


def test_a_copy_of_what_differs_is_a_copy_of_all(session: GraphSession) -> None:
    source, partly, fresh = session.new_cache(), session.new_cache(), session.new_cache()
    session.feed(source, PROMPTS[4])
    # Read in other passes, and with another end.
    for token in [*PROMPTS[4][:9], 1, 2, 3]:
        session.feed(partly, [token])
    partly.copy_from(source)
    fresh.copy_from(source)
    assert partly.ids == fresh.ids == PROMPTS[4]
    np.testing.assert_array_equal(partly.state(), source.state())
    np.testing.assert_array_equal(fresh.state(), source.state())


def test_the_answer_is_shown_whole(tiny: Tiny) -> None:
    decoder = tiny.decoder()
    pieces: list[str] = []
    logprobs: list[float] = []
    prompt = tiny.chat.prompt(QUESTION)
    said = decoder.generate(prompt, Decoding(beams=3, answers=2), pieces.append, lambda _, logprob: logprobs.append(logprob))
    assert pieces == [said.text] == [ANSWER]
    assert tuple(logprobs) == said.logprobs
    assert said.finished
    assert len(said.others) == 1


def test_a_full_context_ends_the_search(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder(stop_ids=())
    said = decoder.generate([1] * (CONTEXT - 5), Decoding(beams=2, max_tokens=100))
    assert (len(said.ids), said.finished) == (6, False)
    with pytest.raises(InputError, match="context"):
        decoder.generate([1] * (CONTEXT + 1), Decoding(beams=2))


def test_beams_for_which_there_is_no_memory_are_refused(random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_tiny.decoder(stop_ids=())
    prompt, wanted = [1] * 100, Decoding(beams=5, max_tokens=20)
    needed = 4 * 120 * decoder.session.token_bytes
    for room in (needed, None):
        monkeypatch.setattr(memory, "available", lambda room=room: room)
        assert len(decoder.generate(prompt, wanted).ids) == 20
    monkeypatch.setattr(memory, "available", lambda: 200_000)
    with pytest.raises(InputError, match=r"^5 beams of 120 tokens may need \d MB more memory, of which \d MB are free: "):
        decoder.generate(prompt, wanted)
    # One beam needs nothing more, and the engine goes on.
    assert decoder.generate(prompt, Decoding(max_tokens=20)).reused == 99


def test_a_search_can_be_given_up(random_tiny: Tiny) -> None:
    decoder = random_tiny.decoder(stop_ids=())
    asked: list[int] = []
    said = decoder.generate(PROMPTS[2], Decoding(beams=2), cancelled=lambda: asked.append(1) or len(asked) == 3)  # type: ignore[func-returns-value]
    assert len(said.ids) == len(said.logprobs) == 3
    assert not said.finished
    assert len(decoder.generate(PROMPTS[2], Decoding(beams=2, max_tokens=9)).ids) == 9


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(beams=2),
        Decoding(beams=2, repetition_penalty=1.2),
        Decoding(temperature=1.0),
        Decoding(temperature=1.0, top_k=5),
        Decoding(temperature=1.0, top_p=0.9),
        Decoding(temperature=1.0, min_p=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error_of_the_version(
    random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch, decoding: Decoding, value: float
) -> None:
    decoder = random_tiny.decoder()
    plain = decoder.generate(PROMPTS[1], Decoding(max_tokens=4))
    with monkeypatch.context() as patch:
        patch.setattr(decoder.session, "feed", lambda *_: np.full((1, random_tiny.shape.vocab), value, np.float32))
        with pytest.raises(ArtifactError, match="logits are no numbers"):
            decoder.generate(PROMPTS[0], decoding)
    assert decoder.generate(PROMPTS[1], Decoding(max_tokens=4)).ids == plain.ids


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beams": 2, "temperature": 0.5}, "beams 2 and temperature 0.5: a beam search draws nothing"),
        ({"answers": 2}, "answers 2 is more than beams 1"),
        ({"beams": 2, "logprobs": 1}, "beams 2 and logprobs 1"),
        ({"beams": 33}, "beams 33 is out of range: 1 to 32"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decoding(**wrong)


SUBJECTS = (
    "a lighthouse",
    "bread dough",
    "a bicycle chain",
    "the tides",
    "a beehive",
    "snow",
    "a violin",
    "rust",
    "a canal",
    "tea",
)
WORDINGS = (
    "Explain {} in one sentence.",
    "Write two lines of verse about {}.",
    "What should a child know about {}?",
    "Name three things that go with {}.",
    "Once there was somebody who cared for nothing but {}. Go on.",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_searches_with_the_real_model_are_those_of_transformers(tmp_path: Path) -> None:
    base = make_base(None, tmp_path / "bases", lambda _: None)
    export_model(base.folder, tmp_path / "fp32", "fp32", context=256)
    config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
    shape = CacheShape(config["num_hidden_layers"], config["num_key_value_heads"], 64, config["vocab_size"], 256)
    assert config["hidden_size"] == 64 * config["num_attention_heads"]
    session = GraphSession(tmp_path / "fp32" / "model.onnx", shape)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    chat = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    decoding = Decoding(beams=4, max_tokens=24)
    lengths = set()
    for subject, wording in itertools.product(SUBJECTS, WORDINGS):
        prompt = chat.prompt(wording.format(subject))
        mine = found(session, prompt, decoding, base.stop_ids)
        theirs = generated(model, prompt, decoding, base.stop_ids)
        assert list(mine[0].ids) == theirs[0][0], (
            chat.decode(mine[0].ids),
            chat.decode(theirs[0][0]),
            theirs[0][1] - mine[0].score,
        )
        assert mine[0].score == pytest.approx(theirs[0][1], abs=1e-4)
        lengths.add(len(mine[0].ids))
    assert len(lengths) > 1
