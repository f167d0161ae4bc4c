"""Answers that were preferred to others: pairs from the log, and the training on them. Knows tensors of a batch, not the run.

Direct preference optimization (Rafailov et al., arXiv 2305.18290): the loss of a pair is -log sigmoid(beta * (m - m_ref)),
where m = log p(chosen) - log p(rejected) under the model in training and m_ref the same before it began. It alone makes both
answers less likely, so the likelihood of the chosen one is trained on beside it (Pang et al., arXiv 2404.19733). On the loss
of the fine-tuning it is forty lines; a library would bring a second way to make batches, prompts and devices.

B: pairs of a batch.
"""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from shammah_data.judge import normalize
from shammah_data.log import context_of
from shammah_trainer.batches import Encoded, Encoder, collate
from shammah_trainer.dataset import Example

# With fewer pairs than this, nothing can be said of whether they help.
LEAST_PAIRS = 20
_HELDOUT_EVERY = 5
_BETA = 0.1
_EPOCHS = 2
_PAIRS_AT_ONCE = 4
# Of the learning rate of the fine-tuning.
_RATE = 0.1
# The held-out loss may rise by so much for the sake of preferences: less than it can be told apart.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Pair:
    """Two answers to one question, of which the first is to be preferred."""

    chosen: Example
    rejected: str


@dataclass(frozen=True)
class Outcome:
    """What training on the pairs did. `kept` is false where the weights were put back.

    Losses are held-out, in nats per token; `right` is the share of held-out pairs whose chosen answer is the likelier one, by
    tokens.
    """

    pairs: int
    heldout_pairs: int
    loss_before: float
    loss_after: float
    right_before: float
    right_after: float
    kept: bool

    @property
    def figures(self) -> dict[str, Any]:
        """For the run's record."""
        return asdict(self)


def pairs(rejected: Sequence[dict[str, Any]], train: Sequence[Example]) -> tuple[Pair, ...]:
    """Pair each rejected answer with the one that is trained on for the same question; without one it says nothing.

    `rejected`: rows of id, query, context, answer (see `shammah_data.log.ExchangeLog.rejected`). What is held out is not in
    `train`, and so never in a pair. An answer that was rejected several times makes one pair.
    """
    taught = {(normalize(example.query), example.context): example for example in train}
    found: dict[tuple[str, str], Pair] = {}
    for row in rejected:
        chosen = taught.get((normalize(row["query"]), context_of(row)))
        if chosen is not None and normalize(chosen.target) != normalize(row["answer"]):
            found.setdefault((chosen.id, normalize(row["answer"])), Pair(chosen, row["answer"]))
    return tuple(found.values())


def preference_loss(margin_B: torch.Tensor, reference_B: torch.Tensor, beta: float = _BETA) -> torch.Tensor:
    """Mean over the pairs of -log sigmoid(beta * (margin - reference)), margins in nats."""
    return -functional.logsigmoid(beta * (margin_B - reference_B)).mean()


class Preferring:
    """Trains a fine-tuned model on pairs, and puts its weights back where that did not help.

    `objective`: a ResponseLoss; `rounding` and `autocast` make the contexts of a forward pass, as in the fine-tuning.
    """

    def __init__(
        self,
        objective: Any,
        pad: int,
        rounding: Callable[[], AbstractContextManager[Any]],
        autocast: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
    ) -> None:
        self._objective = objective
        self._pad = pad
        self._rounding = rounding
        self._autocast = autocast
        self._device = device
        self._trained = [parameter for parameter in objective.model.parameters() if parameter.requires_grad]

    def run(
        self, encoder: Encoder, given: Sequence[Pair], watched: Sequence[Encoded], rate: float, seed: int
    ) -> Outcome | None:
        """Train on the pairs of four fifths of the questions; keep that if the others get better and what is watched no worse.

        `rate`: the peak learning rate of the fine-tuning. None where there are too few pairs or nothing to watch.
        """
        encoded = [pair for one in given if (pair := _encoded(encoder, one)) is not None]
        rng = random.Random(seed)
        rng.shuffle(encoded)
        # By question: what was learned of one pair would be found again in the next one of the same question.
        held = set(list(dict.fromkeys(chosen.prompt for chosen, _ in encoded))[::_HELDOUT_EVERY])
        heldout = [pair for pair in encoded if pair[0].prompt in held]
        train = [pair for pair in encoded if pair[0].prompt not in held]
        if len(encoded) < LEAST_PAIRS or not train or not watched:
            return None
        kept = [parameter.detach().clone() for parameter in self._trained]
        loss, right = self._loss(watched), self._right(heldout)
        self._train(train, rate, rng)
        loss_after, right_after = self._loss(watched), self._right(heldout)
        better = right_after > right and loss_after <= loss * (1 + _TOLERANCE)
        if not better:
            with torch.no_grad():
                for parameter, before in zip(self._trained, kept, strict=True):
                    parameter.copy_(before)
        return Outcome(len(train), len(heldout), loss, loss_after, right, right_after, better)

    def _train(self, train: Sequence[tuple[Encoded, Encoded]], rate: float, rng: random.Random) -> None:
        self._objective.eval()
        with torch.no_grad(), self._rounding():
            reference = {id(pair): self._margin([pair])[0] for pair in train}
        optimizer = torch.optim.AdamW(self._trained, lr=rate * _RATE, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
        steps = _EPOCHS * math.ceil(len(train) / _PAIRS_AT_ONCE)
        step = 0
        self._objective.train()
        for _ in range(_EPOCHS):
            order = list(train)
            rng.shuffle(order)
            for at in range(0, len(order), _PAIRS_AT_ONCE):
                part = order[at : at + _PAIRS_AT_ONCE]
                for group in optimizer.param_groups:
                    group["lr"] = rate * _RATE * (1 - step / steps)
                before_B = torch.cat([reference[id(pair)] for pair in part])
                with self._rounding():
                    margin_B, chosen = self._margin(part)
                    torch.autograd.backward(preference_loss(margin_B, before_B) + chosen)
                torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
                step += 1

    def _margin(self, part: Sequence[tuple[Encoded, Encoded]]) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(chosen) - log p(rejected) of each pair, and the mean negative log-likelihood of the chosen answers' tokens."""
        batch = collate([chosen for chosen, _ in part] + [rejected for _, rejected in part], self._pad).to(self._device)
        with self._autocast():
            nll_R, row_R = self._objective.nll(batch)
        logp = torch.zeros(2 * len(part), device=nll_R.device).index_add(0, row_R, -nll_R)
        return logp[: len(part)] - logp[len(part) :], nll_R[row_R < len(part)].mean()

    @torch.no_grad()
    def _right(self, heldout: Sequence[tuple[Encoded, Encoded]]) -> float:
        """The share whose chosen answer has the higher log-probability per token: the shorter answer is not to win by that."""
        self._objective.eval()
        right = 0
        with self._rounding(), self._autocast():
            for pair in heldout:
                nll_R, row_R = self._objective.nll(collate(pair, self._pad).to(self._device))
                right += bool(nll_R[row_R == 0].mean() < nll_R[row_R == 1].mean())
        return right / len(heldout)

    @torch.no_grad()
    def _loss(self, watched: Sequence[Encoded]) -> float:
        self._objective.eval()
        total, count = 0.0, 0
        with self._rounding(), self._autocast():
            for item in watched:
                nll_R, _ = self._objective.nll(collate([item], self._pad).to(self._device))
                total, count = total + float(nll_R.sum()), count + len(nll_R)
        return total / count


def _encoded(encoder: Encoder, pair: Pair) -> tuple[Encoded, Encoded] | None:
    found = [encoder.encode(example) for example in (pair.chosen, replace(pair.chosen, target=pair.rejected))]
    return None if found[0] is None or found[1] is None else (found[0], found[1])
