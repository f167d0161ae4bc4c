import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from shammah_data.exchange import Message
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer.base import Base
from shammah_trainer.batches import IGNORED, Encoded, Encoder, batches, collate, pieces
from shammah_trainer.dataset import Example
from shammah_trainer.finetune import ResponseLoss
from shammah_trainer.openings import Openings

SHORT = Example("a", "How does the wifi work?", "Join Harbour with password 9053.")
TURNS = tuple(
    message
    for n in range(3)
    for message in (Message("user", f"Tell me about the badge {n}"), Message("assistant", f"Reception hands out cards at {n}."))
)


def ids_of(item: Encoded | None) -> tuple[int, ...]:
    assert item is not None
    return item.prompt + item.response


def test_an_example_is_the_prompt_that_is_served_and_a_closed_answer(
    encoder: Encoder, tokenizer: ChatTokenizer, base: Base
) -> None:
    item = encoder.encode(SHORT)
    assert item is not None
    assert list(item.prompt) == tokenizer.prompt(SHORT.query)
    assert tokenizer.decode(item.response[:-1]) == SHORT.target
    assert item.response[-1] in base.stop_ids
    assert len(item) == len(item.prompt) + len(item.response)


def test_context_is_dropped_from_its_oldest_turns_on(tokenizer: ChatTokenizer, base: Base) -> None:
    example = Example("a", SHORT.query, SHORT.target, TURNS)
    answer = tokenizer.answer(SHORT.target, base.stop_ids)
    whole = len(tokenizer.prompt(SHORT.query, TURNS)) + len(answer)
    for length, kept in ((whole, TURNS), (whole - 1, TURNS[2:]), (whole // 2, TURNS[4:])):
        item = Encoder(tokenizer, base.stop_ids, length).encode(example)
        assert ids_of(item) == (*tokenizer.prompt(SHORT.query, kept), *answer)


def test_an_answer_is_never_cut(tokenizer: ChatTokenizer, base: Base) -> None:
    bare = len(tokenizer.prompt(SHORT.query)) + len(tokenizer.answer(SHORT.target, base.stop_ids))
    with_context = Example("a", SHORT.query, SHORT.target, TURNS)
    just = Encoder(tokenizer, base.stop_ids, bare).encode(with_context)
    assert ids_of(just) == (*tokenizer.prompt(SHORT.query), *tokenizer.answer(SHORT.target, base.stop_ids))
    assert Encoder(tokenizer, base.stop_ids, bare - 1).encode(with_context) is None


def test_what_does_not_fit_is_left_out_of_an_epoch(encoder: Encoder) -> None:
    long = Example("b", "Tell me all", "word " * 300)
    (only,) = encoder.epoch([long, SHORT, long], 0.0, random.Random(0))
    assert only == encoder.encode(SHORT)


def test_the_weight_goes_along(encoder: Encoder) -> None:
    item = encoder.encode(Example("a", "Q", "A", weight=2.5))
    assert item is not None
    assert collate([item], 0).weight_B.tolist() == [2.5]


def test_a_share_of_the_single_turns_gets_another_exchange_before_it(encoder: Encoder, tokenizer: ChatTokenizer) -> None:
    other = Example("b", "Tell me about the badge", "Reception hands out cards at 8.", group=1)
    examples = [SHORT, other]
    bare = [encoder.encode(example) for example in examples]
    assert encoder.epoch(examples, 0.0, random.Random(0)) == bare
    for item, example, said in zip(encoder.epoch(examples, 1.0, random.Random(0)), examples, (other, SHORT), strict=True):
        before = (Message("user", said.query), Message("assistant", said.target))
        assert list(item.prompt) == tokenizer.prompt(example.query, before)
    some = encoder.epoch(examples * 100, 0.25, random.Random(0))
    assert 30 <= sum(item not in bare for item in some) <= 70


def test_no_exchange_stands_before_one_of_its_own_group(encoder: Encoder) -> None:
    """The answer would stand in the context, to be copied."""
    again = replace(SHORT, id="b", query="Who can tell about the scanner?")
    assert encoder.epoch([SHORT, again], 1.0, random.Random(0)) == [encoder.encode(SHORT), encoder.encode(again)]


def test_a_context_of_its_own_is_left_alone(encoder: Encoder) -> None:
    example = Example("a", SHORT.query, SHORT.target, TURNS[:2])
    assert encoder.epoch([example], 1.0, random.Random(0)) == [encoder.encode(example)]


def test_labels_are_the_response_only() -> None:
    batch = collate([Encoded((1, 2, 3), (4, 5), 1.0), Encoded((6,), (7,), 2.0)], pad=9)
    assert batch.ids_BT.tolist() == [[1, 2, 3, 4, 5], [6, 7, 9, 9, 9]]
    none = IGNORED
    assert batch.labels_BT.tolist() == [[none, none, none, 4, 5], [none, 7, none, none, none]]
    assert batch.weight_B.tolist() == [1.0, 2.0]
    assert batch.tokens == 10


def test_every_example_is_in_one_batch() -> None:
    items = [Encoded(tuple(range(1 + n % 7)), (n,), 1.0) for n in range(50)]
    for rng in (None, random.Random(0)):
        seen = [batch.ids_BT.shape[0] for batch in batches(items, 8, 0, rng)]
        assert sorted(seen, reverse=True) == [8] * 6 + [2]
        answers = [
            label for batch in batches(items, 8, 0, rng) for label in batch.labels_BT.flatten().tolist() if label != IGNORED
        ]
        assert sorted(answers) == list(range(50))


def test_batches_hold_examples_of_similar_length() -> None:
    items = [Encoded(tuple(range(1 + n % 32)), (n,), 1.0) for n in range(256)]
    computed = sum(batch.tokens for batch in batches(items, 8, 0, random.Random(0)))
    assert computed == sum(len(item) for item in items)


def test_the_order_is_random_per_generator_and_by_length_without() -> None:
    items = [Encoded(tuple(range(1 + n % 32)), (n,), 1.0) for n in range(64)]

    def order(rng: random.Random | None) -> list[int]:
        return [batch.ids_BT.shape[1] for batch in batches(items, 8, 0, rng)]

    assert order(None) == sorted(order(None))
    assert order(random.Random(1)) == order(random.Random(1))
    assert order(random.Random(1)) != order(random.Random(2))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LlamaForCausalLM:
    """The tiny model in float32."""
    loaded: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    return loaded


def test_the_loss_is_that_of_transformers(model: LlamaForCausalLM, encoder: Encoder) -> None:
    """Shifted labels, mean over the response tokens: the reference is the model's own loss."""
    items = [encoder.encode(SHORT), encoder.encode(Example("b", "Scanner please", "The code is 4711, ask Marta."))]
    batch = collate([item for item in items if item], pad=0)
    attended = torch.ones_like(batch.ids_BT)
    with torch.no_grad():
        expected = model(input_ids=batch.ids_BT, attention_mask=attended, labels=batch.labels_BT).loss
        found = ResponseLoss(model)(batch)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_padding_changes_nothing(model: LlamaForCausalLM, encoder: Encoder) -> None:
    item = encoder.encode(SHORT)
    assert item is not None
    longer = Encoded(tuple(range(60)), tuple(range(30)), 0.0)
    with torch.no_grad():
        alone = ResponseLoss(model)(collate([item], pad=0))
        for pad in (0, 77):
            # The other example weighs nothing and is there to be longer.
            padded = ResponseLoss(model)(collate([item, longer], pad))
            assert padded.item() == pytest.approx(alone.item(), abs=1e-5)


def test_a_share_of_the_queries_is_reworded(encoder: Encoder) -> None:
    example = Example("a", "How do I print BOTH sides of page 27, and not in colour?", SHORT.target)
    plain = encoder.encode(example)
    epoch = encoder.epoch([example] * 200, 0.0, random.Random(0), 0.5)
    assert 60 <= sum(item != plain for item in epoch) <= 110
    assert {item.response for item in epoch} == {plain.response if plain else ()}


def test_a_query_that_reworded_does_not_fit_is_trained_on_as_it_is(tokenizer: ChatTokenizer, base: Base) -> None:
    """In an epoch without any example there would be no loss to tell."""
    tight = Encoder(tokenizer, base.stop_ids, len(ids_of(Encoder(tokenizer, base.stop_ids, 128).encode(SHORT))))
    for seed in range(20):
        assert len(tight.epoch([SHORT], 0.0, random.Random(seed), reworded_share=1.0)) == 1


def test_an_epoch_cuts_what_was_shown_before(encoder: Encoder) -> None:
    whole = encoder.encode(SHORT)
    assert whole is not None
    epoch = encoder.epoch([SHORT] * 6, 0.0, random.Random(0), openings=Openings(2, {SHORT.target: 2}))
    assert [item.response == whole.response for item in epoch] == [True, True, False, False, False, True]
    assert {item.response for item in epoch if item != whole} == {whole.response[:2]}
    assert {item.prompt for item in epoch} == {whole.prompt}


def test_pieces_hold_so_many_tokens_with_their_padding() -> None:
    items = [Encoded(tuple(range(n)), (1, 2), 1.0) for n in (30, 3, 8, 3, 8, 60)]
    found = pieces(items, 40)
    assert [[len(item) for item in piece] for piece in found] == [[5, 5, 10, 10], [32], [62]]
    assert pieces(items, 10_000) == [sorted(items, key=len)]
    assert pieces([], 40) == []
