"""A version in use: the same tokens as transformers, its stops and limits, and what makes it be refused."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from fakes.versions import ANSWER, CONTEXT, QUESTION, Tiny
from shammah_data.errors import ArtifactError, InputError
from shammah_data.exchange import Message
from shammah_data.home import Home
from shammah_data.manifest import Golden
from shammah_data.settings import Precision, Provider, WantedPrecision
from shammah_data.store import ModelStore
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model, Prompt, graph_here, open_model
from shammah_runtime.engine.sampling import log_softmax
from shammah_runtime.engine.session import GraphSession

PROMPTS = [
    [int(token) for token in np.random.default_rng(seed).integers(0, 384, size)]
    for seed, size in enumerate([1, 2, 3, 5, 8, 13, 21, 34, 55, 89] * 2)
]
NEW_TOKENS = 16


class Reference:
    """The random model in transformers."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self._model(torch.tensor([ids])).logits[0].numpy()
        return found


@pytest.fixture(scope="module")
def reference(random_tiny: Tiny) -> Reference:
    return Reference(random_tiny.folder)


@pytest.fixture(scope="module")
def endless(random_tiny: Tiny) -> Decoder:
    """A decoder of the random model that stops at no token."""
    return random_tiny.decoder(stop_ids=())


@pytest.fixture(scope="module")
def fluent(tiny: Tiny) -> Decoder:
    return tiny.decoder()


def opened(home: Home, version: str, provider: Provider = "auto", precision: WantedPrecision = "auto") -> Model:
    store = ModelStore(home.models)
    return open_model(store.folder(version), store.verify(version), Wanted(provider, precision, 1))


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: f"{len(prompt)} tokens")
def test_greedy_tokens_are_those_of_transformers(endless: Decoder, reference: Reference, prompt: list[int]) -> None:
    found = list(endless.tokens(prompt, Decoding(max_tokens=NEW_TOKENS)))
    ids = [token for token, _ in found]
    # One pass over all of it says of each token whether it is the likeliest after those before it.
    logits_SV = reference.logits([*prompt, *ids])[len(prompt) - 1 : -1]
    assert ids == [int(token) for token in logits_SV.argmax(axis=-1)]
    wanted = log_softmax(logits_SV).max(axis=-1)
    np.testing.assert_allclose([logprob for _, logprob in found], wanted, atol=1e-3)


def test_scores_are_the_log_probabilities_of_transformers(endless: Decoder, reference: Reference) -> None:
    prompt = PROMPTS[5]
    # The longest one is scored in several pieces.
    responses = [PROMPTS[6], [3], PROMPTS[9] * 2, PROMPTS[6]]
    found = endless.score(prompt, responses)
    for scores, response in zip(found, responses, strict=True):
        logs_SV = log_softmax(reference.logits([*prompt, *response])[len(prompt) - 1 : -1])
        np.testing.assert_allclose(scores, logs_SV[range(len(response)), response], atol=2e-3)
    assert found[0] == found[3]


def test_scoring_what_a_model_said_gives_what_it_said_it_with(endless: Decoder) -> None:
    said = endless.generate(PROMPTS[7], Decoding(max_tokens=NEW_TOKENS))
    (scores,) = endless.score(PROMPTS[7], [said.ids])
    np.testing.assert_allclose(scores, said.logprobs, atol=1e-3)


def test_a_response_beyond_the_context_is_an_input_error(endless: Decoder) -> None:
    fitting = [1] * (CONTEXT - 3)
    assert len(endless.score([1, 2, 3, 4], [fitting])[0]) == len(fitting)
    with pytest.raises(InputError, match="context"):
        endless.score([1, 2, 3, 4], [[*fitting, 1]])


def test_an_answer_is_text_without_its_prompt_and_its_end(fluent: Decoder) -> None:
    prompt = fluent.tokenizer.prompt(QUESTION)
    pieces: list[str] = []
    logprobs: list[float] = []
    said = fluent.generate(prompt, Decoding(), pieces.append, lambda _, logprob: logprobs.append(logprob))
    assert said.text == "".join(pieces) == ANSWER
    assert len(pieces) > 1
    assert tuple(logprobs) == said.logprobs
    assert said.finished
    assert said.prompt_tokens == len(prompt)
    assert said.ids[-1] == fluent.stop_ids[0]


def test_every_stop_id_ends_an_answer(tiny: Tiny) -> None:
    words = tiny.chat.encode(ANSWER)
    for index, stop in enumerate(words[1:], start=1):
        said = tiny.decoder(stop_ids=(383, stop)).generate(tiny.chat.prompt(QUESTION), Decoding())
        assert said.ids == (*words[:index], stop)
        assert said.text == tiny.chat.decode(words[:index])
        assert said.finished


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_than_max_tokens(fluent: Decoder, most: int) -> None:
    said = fluent.generate(fluent.tokenizer.prompt(QUESTION), Decoding(max_tokens=most))
    assert len(said.ids) == most
    assert not said.finished
    assert ANSWER.startswith(said.text)


def test_an_answer_ends_where_the_context_does(endless: Decoder) -> None:
    said = endless.generate([1] * (CONTEXT - 5), Decoding(max_tokens=100))
    assert len(said.ids) == 6  # the last one need not be read
    assert not said.finished
    with pytest.raises(InputError, match="context"):
        endless.generate([1] * (CONTEXT + 1), Decoding())


def test_a_cancelled_answer_stops_between_two_tokens_and_frees_the_model(fluent: Decoder) -> None:
    prompt = fluent.tokenizer.prompt(QUESTION)
    seen: list[float] = []
    said = fluent.generate(
        prompt, Decoding(), on_token=lambda _, logprob: seen.append(logprob), cancelled=lambda: len(seen) == 2
    )
    assert len(said.ids) == 2
    assert not said.finished
    assert fluent.generate(prompt, Decoding()).text == ANSWER


def test_an_error_of_the_one_who_shows_frees_the_model(fluent: Decoder) -> None:
    prompt = fluent.tokenizer.prompt(QUESTION)

    def show(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fluent.generate(prompt, Decoding(), show)
    assert fluent.generate(prompt, Decoding()).text == ANSWER


def test_the_same_seed_draws_the_same_answer_and_another_seed_another(endless: Decoder) -> None:
    drawn = [
        endless.generate(PROMPTS[3], Decoding(temperature=1.5, seed=seed, max_tokens=NEW_TOKENS)).ids for seed in (1, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


# -- opening a published version --------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_published_version_opens_and_says_what_it_is(tiny: Tiny, home: Home, precision: str) -> None:
    model = opened(home, tiny.publish(home, precision=precision))  # type: ignore[arg-type]
    assert model.description == f"v0001 ({precision}, cpu)"
    assert model.decoder.generate(model.prompt(QUESTION, [], 8).ids, Decoding()).text == ANSWER
    assert model.why == "the only one for the CPU"


def test_the_oldest_turns_are_dropped_where_they_do_not_fit(tiny: Tiny, home: Home) -> None:
    model = opened(home, tiny.publish(home))
    turns = [
        Message("user", "old " * 40),
        Message("assistant", "x"),
        Message("user", "new " * 20),
        Message("assistant", "y"),
    ]
    everything = tiny.chat.prompt("How?", turns)
    assert model.prompt("How?", turns, CONTEXT - len(everything)) == Prompt(everything, 0)
    assert model.prompt("How?", turns, CONTEXT - len(everything) + 1) == Prompt(tiny.chat.prompt("How?", turns[2:]), 1)
    alone = tiny.chat.prompt("How?")
    assert model.prompt("How?", turns, CONTEXT - len(alone)) == Prompt(alone, 2)


def test_a_question_that_does_not_fit_is_refused_with_both_figures(tiny: Tiny, home: Home) -> None:
    model = opened(home, tiny.publish(home))
    turns = [Message("user", "old"), Message("assistant", "x")]
    length = len(tiny.chat.prompt("How?"))
    says = f"the question takes {length} tokens; the context of v0001 has room for {length - 1}, and {CONTEXT - length + 1} for"
    with pytest.raises(InputError, match=says):
        model.prompt("How?", turns, CONTEXT - length + 1)


@pytest.mark.parametrize("number", [1, 2])
def test_another_answer_to_a_golden_prompt_is_refused(tiny: Tiny, home: Home, number: int) -> None:
    goldens = list(tiny.goldens["int8"])
    golden = goldens[number - 1]
    goldens[number - 1] = Golden(golden.prompt_ids, (*golden.answer_ids[:-1], 5))
    with pytest.raises(ArtifactError, match=f"v0001: its answer to golden prompt {number} of 2 is not the one"):
        opened(home, tiny.publish(home, graphs=[{"golden": tuple(goldens)}]))


def test_a_golden_answer_that_goes_on_after_a_stop_is_refused(tiny: Tiny, home: Home) -> None:
    golden = tiny.goldens["int8"][0]
    longer = (Golden(golden.prompt_ids, (*golden.answer_ids, 5)),)
    with pytest.raises(ArtifactError, match="golden"):
        opened(home, tiny.publish(home, graphs=[{"golden": longer}]))


def test_cuda_where_there_is_none_is_a_clear_error(tiny: Tiny, home: Home) -> None:
    version = tiny.publish(home, graphs=[{"provider": "cuda"}, {}])
    with pytest.raises(
        ArtifactError, match=r"CUDA cannot be used here \(see `shammah-serve doctor`\), and v0001 holds int8 on cuda"
    ):
        opened(home, version, "cuda")
    assert opened(home, version, "auto").description == "v0001 (int8, cpu)"
    assert opened(home, version, "cpu").description == "v0001 (int8, cpu)"


def test_a_cuda_session_that_cannot_be_had_leaves_the_cpu_and_says_so(
    tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an onnxruntime-gpu whose CUDA libraries are missing: it names the provider and gives none."""
    monkeypatch.setattr("shammah_runtime.engine.model.cuda_usable", lambda: True)
    version = tiny.publish(home, graphs=[{"provider": "cuda"}, {}])
    with pytest.raises(ArtifactError, match="CUDAExecutionProvider"):
        opened(home, version, "cuda")
    model = opened(home, version)
    assert model.description == "v0001 (int8, cpu)"
    assert "CUDAExecutionProvider" in model.why


def test_what_is_told_of_a_version_is_of_the_graph_that_answers_here(
    tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tiny.publish(home, graphs=[{}, {"provider": "cuda"}])
    manifest = ModelStore(home.models).verify(version)
    own, other = manifest.graphs
    assert graph_here(manifest, Wanted()) == own
    monkeypatch.setattr("shammah_runtime.engine.model.cuda_usable", lambda: True)
    assert graph_here(manifest, Wanted()) == other
    assert graph_here(manifest, Wanted("cpu")) == own
    # Nothing of it can answer.
    assert graph_here(manifest, Wanted("auto", "fp16")) == own


def test_a_version_without_what_is_asked_for_lists_what_it_holds(tiny: Tiny, home: Home) -> None:
    version = tiny.publish(home, precisions=["int8", "fp32"])
    with pytest.raises(ArtifactError, match=r"^v0001 holds no graph for cuda: it holds int8 on cpu, fp32 on cpu$"):
        opened(home, version, "cuda")
    with pytest.raises(ArtifactError, match=r"^v0001 holds no graph for bf16: it holds"):
        opened(home, version, "auto", "bf16")
    with pytest.raises(ArtifactError, match=r"^v0001 holds no graph for int4 on cpu: it holds"):
        opened(home, version, "cpu", "int4")


@pytest.mark.parametrize("order", [["int8", "fp32"], ["fp32", "int8"]], ids=str)
def test_the_first_graph_serves_unless_another_is_asked_for(tiny: Tiny, home: Home, order: list[Precision]) -> None:
    version = tiny.publish(home, precisions=order)
    first = opened(home, version)
    assert first.description == f"v0001 ({order[0]}, cpu)"
    assert first.why == "the version's first choice"
    other = opened(home, version, "auto", order[1])
    assert other.description == f"v0001 ({order[1]}, cpu)"
    assert other.why == "asked for"
    for model in (first, other):
        assert model.decoder.generate(model.prompt(QUESTION, [], 8).ids, Decoding()).text == ANSWER


@pytest.mark.parametrize("oldest", ["99", "99.0.0", "0.99.1"])
def test_a_version_for_a_newer_runtime_is_refused(tiny: Tiny, home: Home, oldest: str) -> None:
    with pytest.raises(ArtifactError, match=rf"v0001 needs Shammah {oldest} or newer: upgrade"):
        opened(home, tiny.publish(home, oldest_runtime=oldest))


def test_a_tokenizer_with_more_tokens_than_the_graph_is_refused(tiny: Tiny, home: Home, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "tiny"))
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.add_tokens([f"more{number}" for number in range(100)])
    raw.save(str(folder / "tokenizer.json"))
    with pytest.raises(ArtifactError, match=f"its tokenizer has {raw.get_vocab_size()} tokens, its graph 384"):
        opened(home, dataclasses.replace(tiny, folder=folder).publish(home))


def test_a_manifest_with_another_vocabulary_is_refused(tiny: Tiny, home: Home) -> None:
    shape = dataclasses.replace(tiny.shape, vocab=400)
    with pytest.raises(ArtifactError, match="vocabulary is 384, not 400"):
        opened(home, tiny.publish(home, shape=shape))


def test_the_tokenizer_is_parsed_while_onnx_runtime_reads_the_graph(
    tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing lets no other thread run Python, and before it begins to read the graph the session needs some."""
    order: list[str] = []

    class Watched(GraphSession):
        def __init__(self, *given: Any, reading: Callable[[], None], **more: Any) -> None:
            def begun() -> None:
                time.sleep(0.1)
                order.append("reading")
                reading()

            super().__init__(*given, reading=begun, **more)

    class Parsed(ChatTokenizer):
        def __init__(self, *given: Any) -> None:
            order.append("parsing")
            super().__init__(*given)

    monkeypatch.setattr("shammah_runtime.engine.model.GraphSession", Watched)
    monkeypatch.setattr("shammah_runtime.engine.model.ChatTokenizer", Parsed)
    opened(home, tiny.publish(home))
    assert order == ["reading", "parsing"]


def test_a_graph_that_ends_before_it_is_read_holds_nothing_up(tiny: Tiny, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise ArtifactError("no ONNX Runtime")

    version = tiny.publish(home)
    monkeypatch.setattr("shammah_runtime.engine.session.import_onnxruntime", none)
    with pytest.raises(ArtifactError, match="no ONNX Runtime"):
        opened(home, version)
