import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from fakes.tiny import exchanges
from shammah_data.errors import TrainingError
from shammah_export.precision import LARGEST_BLOCK
from shammah_export.quantize import block_size_for, dequantize, quantize_blocks
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoded, Encoder, collate
from shammah_trainer.dataset import Example, build_dataset
from shammah_trainer.finetune import ResponseLoss, finetune, load_model, mean_loss, mixed_precision
from shammah_trainer.loop import Progress, Recipe

# peft 0.21 still asks transformers 5 for an attribute under its old name.
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
RECIPE = Recipe(
    method="full", lora_rank=4, epochs=1.0, learning_rate=3e-3, batch_size=8, context_share=0.0, reworded_share=0.0, seed=0
)
EXAMPLES = [Example(str(n), one.query, one.response) for n, one in enumerate(exchanges()[:32])]
PLAIN = Encoded((5, 6, 7), (8, 9, 10), 1.0)
OTHER = Encoded((11, 12), (13, 14, 15), 1.0)


def ignore(_: Progress) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def loaded(base: Base) -> Any:
    """The tiny model, not to be changed."""
    return load_model(base.folder)


@pytest.fixture
def model(loaded: Any) -> Any:
    """The tiny model, to be trained."""
    return copy.deepcopy(loaded)


@pytest.fixture
def tune(encoder: Encoder, base: Base, loaded: Any) -> Callable[..., tuple[dict[str, torch.Tensor], list[float]]]:
    """Train a fresh model with changes to the recipe; returns its weights and losses."""

    def run(examples: list[Example] = EXAMPLES, **changes: Any) -> tuple[dict[str, torch.Tensor], list[float]]:
        fresh = copy.deepcopy(loaded)
        trained = finetune(fresh, encoder, examples, replace(RECIPE, **changes), base.stop_ids[0], ignore)
        return trained.model.state_dict(), trained.epoch_losses

    return run


def gradients(model: Any, items: list[Encoded]) -> dict[str, torch.Tensor]:
    """Gradients of the loss of one batch."""
    model.zero_grad()
    torch.autograd.backward(ResponseLoss(model)(collate(items, pad=0)))
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_weight_of_three_is_the_example_three_times(model: Any) -> None:
    weighted = gradients(model, [replace(PLAIN, weight=3.0), OTHER])
    assert_close(weighted, gradients(model, [PLAIN, PLAIN, PLAIN, OTHER]))
    plain = gradients(model, [PLAIN, OTHER])
    assert not torch.allclose(weighted["model.norm.weight"], plain["model.norm.weight"], rtol=1e-2)


def test_a_weight_of_zero_is_no_example(model: Any) -> None:
    assert_close(gradients(model, [replace(PLAIN, weight=0.0), OTHER]), gradients(model, [OTHER]))


def test_weights_reach_the_optimizer(tune: Callable[..., Any]) -> None:
    """One step with a weight of three is the step with the example three times."""
    first, second = EXAMPLES[0], EXAMPLES[9]
    weighted, _ = tune([replace(first, weight=3.0), second])
    thrice, _ = tune([first, first, first, second])
    plain, _ = tune([first, second])
    for name in weighted:
        # Adam's first step is the sign of the gradient: what differs is near zero, or rounded in bfloat16.
        agree = (weighted[name] - thrice[name]).abs() < 1e-4
        assert agree.float().mean() > 0.95
    assert not same(weighted, plain)


def test_the_loss_is_on_the_response_only(model: Any) -> None:
    batch = collate([PLAIN, OTHER], pad=0)
    nll_R, row_R = ResponseLoss(model).nll(batch)
    assert row_R.tolist() == [0, 0, 0, 1, 1, 1]
    with torch.no_grad():
        logits = model(input_ids=batch.ids_BT).logits.log_softmax(-1)
    expected = [-logits[0, 2, 8], -logits[0, 3, 9], -logits[0, 4, 10], -logits[1, 1, 13], -logits[1, 2, 14], -logits[1, 3, 15]]
    torch.testing.assert_close(nll_R, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_prompt_is_not_learned(model: Any) -> None:
    """The gradient is that of the response's own cross-entropy: what stands in the prompt is read, never predicted."""
    prompt, response = tuple(range(20, 30)), (40, 41, 42)
    found = gradients(model, [Encoded(prompt, response, 1.0)])
    model.zero_grad()
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    expected: torch.Tensor = torch.nn.functional.cross_entropy(logits, torch.tensor(response))
    torch.autograd.backward(expected)
    assert_close(found, {name: parameter.grad for name, parameter in model.named_parameters()})


def test_the_loss_falls(tune: Callable[..., Any]) -> None:
    _, losses = tune(epochs=8.0)
    assert len(losses) == 8
    assert losses[0] > 4.0
    assert losses[-1] < 0.6 * losses[0]


def test_mean_loss_falls_on_what_was_trained_and_changes_nothing(model: Any, encoder: Encoder, base: Base) -> None:
    before = copy.deepcopy(model.state_dict())
    first = mean_loss(model, encoder, EXAMPLES, base.stop_ids[0])
    assert same(before, model.state_dict())
    # A random model knows nothing: about the logarithm of the vocabulary.
    assert first == pytest.approx(math.log(512), abs=0.5)
    trained = finetune(model, encoder, EXAMPLES, replace(RECIPE, epochs=6.0), base.stop_ids[0], ignore).model
    assert mean_loss(trained, encoder, EXAMPLES, base.stop_ids[0]) < 0.6 * first


def test_mean_loss_is_per_token_whatever_the_batches(loaded: Any, encoder: Encoder, base: Base) -> None:
    whole = mean_loss(loaded, encoder, EXAMPLES, base.stop_ids[0])
    counts = [len(item.response) for example in EXAMPLES if (item := encoder.encode(example)) is not None]
    single = [mean_loss(loaded, encoder, [example], base.stop_ids[0]) for example in EXAMPLES]
    assert whole == pytest.approx(sum(n * loss for n, loss in zip(counts, single, strict=True)) / sum(counts), rel=2e-3)
    assert math.isnan(mean_loss(loaded, encoder, [], base.stop_ids[0]))


@PEFT_WARNS
@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_is_deterministic_per_seed(tune: Callable[..., Any], method: str) -> None:
    first, losses = tune(method=method, context_share=0.3)
    again, losses_again = tune(method=method, context_share=0.3)
    other, _ = tune(method=method, context_share=0.3, seed=1)
    assert same(first, again)
    assert losses == losses_again
    assert not same(first, other)


@PEFT_WARNS
def test_lora_merges_to_a_plain_model(model: Any, encoder: Encoder, base: Base, tmp_path: Path) -> None:
    before = copy.deepcopy(model.state_dict())
    recipe = replace(RECIPE, method="lora", epochs=4.0, learning_rate=1e-2)
    done = finetune(model, encoder, EXAMPLES, recipe, base.stop_ids[0], ignore)
    trained = done.model
    assert done.epoch_losses[-1] < done.epoch_losses[0]
    assert isinstance(trained, LlamaForCausalLM)
    assert trained.state_dict().keys() == before.keys()
    changed = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "_proj" in name}
    trained.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, trained(input_ids=ids).logits)


@PEFT_WARNS
@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_through_the_quantizer_ends_with_the_weights_it_stores(tune: Callable[..., Any], method: str) -> None:
    weights, losses = tune(method=method, through="int4", epochs=4.0, learning_rate=1e-2)
    assert losses[-1] < losses[0]
    for name, W_NK in weights.items():
        if W_NK.ndim == 2:
            blocks = quantize_blocks(W_NK.numpy(), 4, block_size_for(W_NK.shape[1], LARGEST_BLOCK["int4"]))
            np.testing.assert_array_equal(dequantize(blocks), W_NK, err_msg=name)


@pytest.mark.parametrize(("epochs", "steps"), [(0.25, 1), (0.5, 2), (1.0, 4), (2.5, 10), (0.01, 1)])
def test_epochs_may_be_a_fraction(model: Any, encoder: Encoder, base: Base, epochs: float, steps: int) -> None:
    seen: list[Progress] = []
    finetune(model, encoder, EXAMPLES, replace(RECIPE, epochs=epochs), base.stop_ids[0], seen.append)
    assert [progress.step for progress in seen] == list(range(1, steps + 1))
    assert {progress.steps for progress in seen} == {steps}
    assert seen[-1].seconds_left == 0.0
    assert seen[-1].examples == max(1, math.ceil(epochs * 32))
    assert all(progress.loss > 0 and progress.tokens_per_second > 0 for progress in seen)


def test_progress_is_told_by_the_clock(model: Any, encoder: Encoder, base: Base) -> None:
    ticks = iter(float(n) for n in range(100))
    seen: list[Progress] = []
    finetune(model, encoder, EXAMPLES, RECIPE, base.stop_ids[0], seen.append, clock=lambda: next(ticks))
    assert [progress.seconds_left for progress in seen] == [3.0, 2.0, 1.0, 0.0]


def test_a_loss_that_is_no_number_ends_the_run(model: Any, encoder: Encoder, base: Base) -> None:
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(TrainingError, match=r"the loss became nan at step 0: lower train\.learning_rate"):
        finetune(model, encoder, EXAMPLES, RECIPE, base.stop_ids[0], ignore)


def test_nothing_that_fits_is_an_error(model: Any, encoder: Encoder, base: Base) -> None:
    long = Example("a", "Q", "word " * 300)
    with pytest.raises(TrainingError, match=r"raise train\.max_length"):
        finetune(model, encoder, [long], RECIPE, base.stop_ids[0], ignore)


def test_examples_that_do_not_fit_do_not_lengthen_the_run(model: Any, encoder: Encoder, base: Base) -> None:
    long = Example("a", "Q", "word " * 300)
    seen: list[Progress] = []
    done = finetune(model, encoder, [*EXAMPLES[:8], *[long] * 8], replace(RECIPE, epochs=2.0), base.stop_ids[0], seen.append)
    assert len(done.epoch_losses) == 2
    assert seen[-1].step == 2


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be loaded") as caught:
        load_model(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("milliseconds", "stalled", "chosen"),
    [
        ((2.0, 20.0), 0, "no"),
        ((2.0, 1.0), 0, "bf16"),
        # Others take turns on the cores: nearly every float32 product is held up, some of the others too.
        ((2.0, 20.0), 17, "no"),
        # A gain that is hardly one is not worth the rounding.
        ((2.0, 1.9), 0, "no"),
    ],
)
def test_the_clearly_faster_precision_is_taken(
    milliseconds: tuple[float, float], stalled: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = dict(zip((torch.float32, torch.bfloat16), milliseconds, strict=True))
    products: Counter[torch.dtype] = Counter()
    now = 0.0

    def linear(input_MK: torch.Tensor, _: torch.Tensor) -> None:
        nonlocal now
        assert torch.get_num_threads() == 1, "another process may hold any of several threads up"
        products[input_MK.dtype] += 1
        held_up = input_MK.dtype == torch.float32 and products[input_MK.dtype] <= stalled
        now += takes[input_MK.dtype] + (100.0 if held_up else 0.0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    threads = torch.get_num_threads()
    assert mixed_precision.__wrapped__(lambda: now) == chosen
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("weight", [3, 10])
def test_a_rating_in_the_log_scales_the_gradient(model: Any, encoder: Encoder, weight: int) -> None:
    """From the rating in a snapshot's row to the gradient: an example that weighs ten counts as ten of it."""
    rows = [
        {"id": str(n), "query": one.query, "target": one.response, "context": "[]", "weight": float(w), "rating": "good"}
        for n, (one, w) in enumerate(zip((exchanges()[0], exchanges()[9]), (weight, 1), strict=True))
    ]
    weighty, other = (encoder.encode(example) for example in build_dataset(rows, 0).train)
    assert weighty is not None
    assert other is not None
    once = replace(weighty, weight=1.0)
    assert_close(gradients(model, [weighty, other]), gradients(model, [once] * weight + [other]))
    # Alone in its batch it is the same direction, whatever it weighs.
    assert_close(gradients(model, [weighty]), gradients(model, [once]))
