import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.tiny import exchanges
from fakes.training import EXAMPLES, recipe
from shammah_data.exchange import Exchange, Feedback
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoded, Encoder, collate
from shammah_trainer.finetune import ResponseLoss, finetune, load_model
from shammah_trainer.preferences import LEAST_PAIRS, Outcome, Pair, Preferring, pairs, preference_loss

# Each question with its own answer, and with that of another as the one that was rejected.
PAIRS = tuple(Pair(example, exchanges()[(n + 48) % 96].response) for n, example in enumerate(EXAMPLES[:32]))
WATCHED = EXAMPLES[:8]


def test_the_loss_is_that_of_the_paper() -> None:
    margin, reference = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    expected = -(math.log(1 / (1 + math.exp(-0.5))) + math.log(1 / (1 + math.exp(1.0)))) / 2
    assert float(preference_loss(margin, reference, beta=0.5)) == pytest.approx(expected)


def test_its_gradient_raises_the_margin() -> None:
    margin = torch.tensor([0.0], requires_grad=True)
    torch.autograd.backward(preference_loss(margin, torch.tensor([0.0]), beta=0.1))
    assert margin.grad is not None
    assert float(margin.grad) == pytest.approx(-0.05)


@pytest.fixture(scope="module")
def loaded(base: Base) -> Any:
    """The tiny model, not to be changed."""
    return load_model(base.folder)


Run = Callable[..., tuple[Any, Outcome | None]]


@pytest.fixture
def prefer(loaded: Any, encoder: Encoder) -> Run:
    """Train a copy of the model on pairs; returns the model and what came of it."""

    def run(given: tuple[Pair, ...] = PAIRS, watched: tuple[Any, ...] = tuple(WATCHED), rate: float = 3e-2) -> Any:
        model = copy.deepcopy(loaded)
        preferring = Preferring(ResponseLoss(model), 0, contextlib.nullcontext, contextlib.nullcontext, torch.device("cpu"))
        items = [item for example in watched if (item := encoder.encode(example)) is not None]
        return model, preferring.run(encoder, given, items, rate, 0)

    return run


def margins(model: Any, encoder: Encoder) -> torch.Tensor:
    found = []
    for pair in PAIRS:
        items = [encoder.encode(example) for example in (pair.chosen, replace(pair.chosen, target=pair.rejected))]
        with torch.no_grad():
            nll_R, row_R = ResponseLoss(model).nll(collate([item for item in items if isinstance(item, Encoded)], 0))
        found.append(nll_R[row_R == 1].sum() - nll_R[row_R == 0].sum())
    return torch.stack(found)


def test_the_margin_of_preferred_answers_rises(prefer: Run, loaded: Any, encoder: Encoder) -> None:
    model, outcome = prefer()
    assert outcome is not None
    assert outcome.kept
    assert (outcome.pairs, outcome.heldout_pairs) == (25, 7)
    assert outcome.right_after > outcome.right_before
    risen = margins(model, encoder) > margins(loaded, encoder)
    assert risen.float().mean() > 0.9


def test_what_does_not_help_is_put_back(prefer: Run, loaded: Any) -> None:
    """What is watched is what the pairs reject: their training makes it less likely."""
    contrary = tuple(replace(pair.chosen, target=pair.rejected) for pair in PAIRS[:8])
    model, outcome = prefer(watched=contrary, rate=0.3)
    assert outcome is not None
    assert not outcome.kept
    assert outcome.loss_after > 1.01 * outcome.loss_before
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_few_pairs_are_left_alone(prefer: Run) -> None:
    assert prefer(PAIRS[: LEAST_PAIRS - 1])[1] is None
    assert prefer(watched=())[1] is None


def test_no_question_is_on_both_sides(prefer: Run) -> None:
    """A question of which several answers were rejected is trained on or held out, not both."""
    answers = [exchanges()[at].response for at in (40, 56, 72)]
    several = tuple(Pair(example, answer) for example in EXAMPLES[:8] for answer in answers if answer != example.target)
    assert len(several) >= LEAST_PAIRS
    _, outcome = prefer(several)
    assert outcome is not None
    # Two of the eight questions.
    assert (outcome.pairs, outcome.heldout_pairs) == (18, 6)
    one = tuple(Pair(EXAMPLES[0], f"It takes {n} days.") for n in range(LEAST_PAIRS))
    assert prefer(one)[1] is None


def test_it_is_a_part_of_the_finetuning(loaded: Any, encoder: Encoder) -> None:
    """Through the quantizer as well, and with the optimizer of the fine-tuning gone."""
    done = finetune(
        copy.deepcopy(loaded),
        encoder,
        EXAMPLES[:32],
        replace(recipe("rounded"), epochs=0.5),
        2,
        lambda _: None,
        heldout=WATCHED,
        pairs=PAIRS,
        mixed="no",
    )
    assert done.preferred is not None
    assert done.preferred.pairs == 25
    plain = finetune(
        copy.deepcopy(loaded), encoder, EXAMPLES[:32], replace(recipe("rounded"), epochs=0.5), 2, lambda _: None, mixed="no"
    )
    assert plain.preferred is None
    weights, others = done.model.state_dict(), plain.model.state_dict()
    assert done.preferred.kept != all(torch.equal(weights[name], others[name]) for name in weights)


def test_pairs_come_from_corrections_and_bad_ratings(tmp_path: Path) -> None:
    log = ExchangeLog(Home(tmp_path).create())
    asked = [Exchange(f"Question {n}?", f"Answer {n}", "teacher") for n in range(4)]
    log.add_many(asked)
    log.rate(Feedback(asked[0].id, "bad", correction="Better 0"))
    log.rate(Feedback(asked[1].id, "bad"))
    log.rate(Feedback(asked[2].id, "good"))
    again = Exchange("question 1", "Another answer 1", "teacher")
    log.append(again)
    rows = log.rejected()
    assert {row["answer"] for row in rows} == {"Answer 0", "Answer 1"}
    train = [
        replace(EXAMPLES[0], query=row["query"], target=row["target"], context=()) for row in log.learnable() if row["query"]
    ]
    found = {(pair.chosen.target, pair.rejected) for pair in pairs(rows, train)}
    assert found == {("Better 0", "Answer 0"), ("Another answer 1", "Answer 1")}
    # What is not trained on, as it is held out, makes no pair.
    assert pairs(rows, [example for example in train if example.query in ("Question 2?", "Question 3?")]) == ()


def test_an_answer_that_was_rejected_again_and_again_is_one_pair(tmp_path: Path) -> None:
    log = ExchangeLog(Home(tmp_path / "home").create())
    for answer in ("Ten days.", "ten days.", "Ten days.", "A week."):
        exchange = Exchange("How long is the pass valid?", answer, "neural")
        log.append(exchange)
        log.rate(Feedback(exchange.id, "bad"))
    taught = replace(EXAMPLES[0], query="How long is the pass valid?", target="Thirty days.")
    assert [pair.rejected for pair in pairs(log.rejected(), (taught,))] == ["Ten days.", "A week."]
