"""Examples to padded token batches. Knows ids and lengths, not the model.

B: examples of a batch, T: tokens of its longest example.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from shammah_data.exchange import Message
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer.balance import balanced
from shammah_trainer.dataset import Example
from shammah_trainer.openings import Openings
from shammah_trainer.rewording import reworded

IGNORED = -100
# So often an unrelated exchange is looked for.
_DRAWS = 8


@dataclass(frozen=True)
class Encoded:
    """One example as ids; the loss is taken on the response only."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    weight: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True)
class Batch:
    """Right-padded ids, labels (IGNORED outside the response) and one weight per example."""

    ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    weight_B: torch.Tensor

    @property
    def tokens(self) -> int:
        """Tokens computed, padding included."""
        return self.ids_BT.numel()

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(self.ids_BT.to(device), self.labels_BT.to(device), self.weight_B.to(device))


class Encoder:
    """Encodes examples as the serving runtime will, within `max_length` tokens.

    Context is dropped from its oldest turn on until the example fits; an answer is never cut.
    """

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: Sequence[int], max_length: int) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._max_length = max_length

    def encode(self, example: Example, context: Sequence[Message] | None = None) -> Encoded | None:
        """Ids of one example, or None when query and answer alone do not fit."""
        turns = list(example.context if context is None else context)
        response = self._tokenizer.answer(example.target, self._stop_ids)
        while True:
            prompt = self._tokenizer.prompt(example.query, turns)
            if len(prompt) + len(response) <= self._max_length:
                return Encoded(tuple(prompt), tuple(response), example.weight)
            if not turns:
                return None
            # A context begins with a user's turn: question and answer go together.
            turns = turns[2:]

    def epoch(
        self,
        examples: Sequence[Example],
        context_share: float,
        rng: random.Random,
        reworded_share: float = 0.0,
        balance: float = 1.0,
        openings: Openings | None = None,
    ) -> list[Encoded]:
        """One pass over as many examples as there are, drawn as `balance` says (see `shammah_trainer.balance`).

        A share of the single turns gets an unrelated exchange as its context: single turns alone would teach a model that a
        context never occurs; it then answers the earlier question again. A share of the queries is reworded, so that no single
        word of a phrasing decides. `openings` cuts what is known by heart.
        """
        encoded = []
        for example in balanced(examples, rng, balance):
            context = None
            if not example.context and rng.random() < context_share and (other := _unrelated(example, examples, rng)):
                context = (Message("user", other.query), Message("assistant", other.target))
            query = reworded(example.query, rng) if rng.random() < reworded_share else example.query
            # A courtesy more may be what no longer fits.
            item = self.encode(replace(example, query=query), context) or self.encode(example, context)
            if item is None:
                continue
            if openings is not None:
                item = replace(item, response=openings.of(example.target, item.response))
            encoded.append(item)
        return encoded


def _unrelated(example: Example, examples: Sequence[Example], rng: random.Random) -> Example | None:
    """One of another group, whose answer is another; None where so few are drawn that hardly any is."""
    drawn = (rng.choice(examples) for _ in range(_DRAWS))
    return next((other for other in drawn if other.group != example.group), None)


def chunks(encoded: Sequence[Encoded], size: int, rng: random.Random | None = None) -> Iterator[list[Encoded]]:
    """`size` examples of similar length at a time; in random order when `rng` is given, else by length."""
    order = list(range(len(encoded)))
    if rng:
        rng.shuffle(order)
    order.sort(key=lambda n: len(encoded[n]))
    found = [order[at : at + size] for at in range(0, len(order), size)]
    if rng:
        rng.shuffle(found)
    for chunk in found:
        yield [encoded[n] for n in chunk]


def batches(encoded: Sequence[Encoded], size: int, pad: int, rng: random.Random | None = None) -> Iterator[Batch]:
    """The same as padded batches."""
    for chunk in chunks(encoded, size, rng):
        yield collate(chunk, pad)


def pieces(items: Sequence[Encoded], most_tokens: int) -> list[list[Encoded]]:
    """The items, shortest first, in pieces of at most `most_tokens` tokens with their padding; one item is never cut."""
    found: list[list[Encoded]] = []
    for item in sorted(items, key=len):
        # The item is the longest of the piece that it would join.
        if found and (len(found[-1]) + 1) * len(item) <= most_tokens:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def collate(items: Sequence[Encoded], pad: int) -> Batch:
    """Pad on the right: under a causal mask, padding after the end changes nothing before it."""
    longest = max(len(item) for item in items)
    ids = torch.full((len(items), longest), pad, dtype=torch.long)
    labels = torch.full((len(items), longest), IGNORED, dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : len(item)] = torch.tensor(item.prompt + item.response)
        labels[row, len(item.prompt) : len(item)] = torch.tensor(item.response)
    return Batch(ids, labels, torch.tensor([item.weight for item in items], dtype=torch.float32))
