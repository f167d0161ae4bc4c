import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.tiny import exchanges
from shammah_data.manifest import CacheShape
from shammah_export.export import export_model
from shammah_runtime.engine.backing import Backing
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.confidence import Features, features
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.session import GraphSession
from shammah_trainer.base import Base
from shammah_trainer.batches import Encoder
from shammah_trainer.dataset import Example
from shammah_trainer.evaluate import COMMITTED_AFTER, MOST_MATCHED, Kind, answer_all, heldout_losses, match_answers, mean_of
from shammah_trainer.finetune import finetune, load_model, mean_loss
from shammah_trainer.gate import LEAST_WINS
from shammah_trainer.loop import Progress, Recipe

# The first six questions, four phrasings each: what the model under test has learned by heart.
EXAMPLES = [
    Example(f"{group}/{n}", one.query, one.response, group=group)
    for group in range(6)
    for n, one in enumerate(exchanges()[8 * group : 8 * group + 4])
]


def ignore(_: Progress) -> None:
    """Report nothing."""


def no_count(_done: int, _total: int) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def folders(base: Base, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model before and after it learned EXAMPLES."""
    untrained = load_model(base.folder)
    recipe = Recipe("full", 4, 40.0, 5e-3, 8, 0.0, 0.0, 0)
    trained = finetune(copy.deepcopy(untrained), encoder, EXAMPLES, recipe, base.stop_ids[0], ignore).model
    found = {}
    for name, model in (("untrained", untrained), ("trained", trained)):
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
    return found


def open_decoder(folder: Path, tokenizer: ChatTokenizer, base: Base) -> Decoder:
    sizes = export_model(folder, folder / "graph", "fp32").shape
    shape = CacheShape(sizes.layers, sizes.kv_heads, sizes.head_dim, sizes.vocab, sizes.context)
    return Decoder(GraphSession(folder / "graph" / "model.onnx", shape, "cpu", 1), tokenizer, base.stop_ids)


@pytest.fixture(scope="module")
def trained(folders: dict[str, Path], tokenizer: ChatTokenizer, base: Base) -> Decoder:
    return open_decoder(folders["trained"], tokenizer, base)


@pytest.fixture(scope="module")
def untrained(folders: dict[str, Path], tokenizer: ChatTokenizer, base: Base) -> Decoder:
    return open_decoder(folders["untrained"], tokenizer, base)


def test_a_model_that_knows_matches_answers_and_queries(trained: Decoder, encoder: Encoder) -> None:
    found = match_answers(trained, encoder, EXAMPLES, 0, no_count)
    assert found.wins == 1.0
    assert found.p_value < 0.001
    assert mean_of(heldout_losses(trained, encoder, EXAMPLES, no_count)) < 0.1


def test_a_model_that_does_not_know_matches_no_better_than_chance(untrained: Decoder, encoder: Encoder) -> None:
    found = match_answers(untrained, encoder, EXAMPLES, 0, no_count)
    assert found.queries == len(EXAMPLES)
    assert found.p_value > 0.001
    assert mean_of(heldout_losses(untrained, encoder, EXAMPLES, no_count)) > 5.0


def test_a_model_that_knows_does_not_match_exchanged_answers(trained: Decoder, encoder: Encoder) -> None:
    dealt = [
        replace(e, target=EXAMPLES[(n + 4) % len(EXAMPLES)].target, group=(e.group + 1) % 6) for n, e in enumerate(EXAMPLES)
    ]
    found = match_answers(trained, encoder, dealt, 0, no_count)
    assert found.wins < LEAST_WINS
    assert found.p_value > 0.05


def test_the_loss_is_that_of_torch(folders: dict[str, Path], trained: Decoder, encoder: Encoder, base: Base) -> None:
    wrong = [replace(EXAMPLES[0], target="Beans hands 27."), replace(EXAMPLES[9], target="Lock wheels near the gate.")]
    in_torch = mean_loss(load_model(folders["trained"]), encoder, wrong, base.stop_ids[0])
    # torch computes in bfloat16 here.
    assert mean_of(heldout_losses(trained, encoder, wrong, no_count)) == pytest.approx(in_torch, rel=0.02)


def test_what_cannot_be_compared_matches_nothing(trained: Decoder, encoder: Encoder) -> None:
    assert match_answers(trained, encoder, EXAMPLES[:4], 0, no_count).p_value == 1.0
    assert match_answers(trained, encoder, [], 0, no_count).queries == 0
    long = replace(EXAMPLES[4], target="word " * 300)
    assert match_answers(trained, encoder, [*EXAMPLES[:4], EXAMPLES[8], long], 0, no_count).queries == 5
    assert math.isnan(mean_of(heldout_losses(trained, encoder, [], no_count)))


def test_one_of_each_group_is_matched_before_a_second(trained: Decoder, encoder: Encoder) -> None:
    crowded = [replace(EXAMPLES[0], id=str(n)) for n in range(MOST_MATCHED)] + [EXAMPLES[4], EXAMPLES[8]]
    found = match_answers(trained, encoder, crowded, 0, no_count)
    assert found.queries == MOST_MATCHED
    # Without the two at the end there would be nothing to compare with.
    assert found.wins == 1.0


def nothing(query: str, answer: str) -> Backing:
    return Backing()


def test_answers_are_labelled_by_the_judge(trained: Decoder) -> None:
    right, reworded, other = EXAMPLES[0], EXAMPLES[4], EXAMPLES[8]
    asked: list[tuple[Kind, Example]] = [
        ("phrasing", right),
        ("phrasing", replace(reworded, target=reworded.target.upper())),
        ("group", replace(other, target="Use level 3 behind the gate.")),
        ("outside", replace(right, target="")),
    ]
    counted: list[tuple[int, int]] = []

    def known(query: str, answer: str) -> Backing:
        return Backing(1.0, 0.9, 0.4) if answer == right.target else Backing()

    outcomes = answer_all(trained, asked, known, 60, lambda done, total: counted.append((done, total)))
    assert [outcome.right for outcome in outcomes] == [True, True, False, False]
    assert [outcome.kind for outcome in outcomes] == ["phrasing", "phrasing", "group", "outside"]
    assert outcomes[0].text == right.target
    assert "number" in outcomes[2].reason
    assert all(outcome.finished for outcome in outcomes)
    assert outcomes[0].features["mean"] > -0.2
    assert [outcome.features["support"] for outcome in outcomes][:2] == [1.0, 0.0]
    assert [outcome.features["near"] for outcome in outcomes][:2] == [0.9, 0.0]
    assert counted == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_first_tokens_are_judged_with_the_draft_that_they_follow(trained: Decoder) -> None:
    right = EXAMPLES[0]
    backed = Backing(1.0, 0.9, 0.4)

    def early(most: int, *likely: str) -> Features | None:
        backs = lambda _, answer: backed if answer == right.target else Backing()  # noqa: E731
        (outcome,) = answer_all(trained, [("phrasing", right)], backs, most, no_count, likely=lambda _: likely)
        return outcome.early

    said = trained.generate(trained.tokenizer.prompt(right.query, right.context), Decoding(max_tokens=60))
    assert len(said.ids) > COMMITTED_AFTER
    assert early(60, "Something else.", right.target) == features(said.logprobs[:COMMITTED_AFTER], backed)
    assert early(60, "Something else.") == features(said.logprobs[:COMMITTED_AFTER], Backing())
    # What has ended by then is decided as it stands.
    assert early(COMMITTED_AFTER, right.target) is None


def test_an_answer_that_does_not_end_is_wrong(trained: Decoder) -> None:
    (outcome,) = answer_all(trained, [("phrasing", EXAMPLES[0])], nothing, 3, no_count)
    assert not outcome.finished
    assert not outcome.right
    assert outcome.reason == "did not end"


def test_times_are_those_of_the_clock(trained: Decoder) -> None:
    ticks = iter([10.0, 10.25, 11.0, 11.5])
    outcomes = answer_all(trained, [("phrasing", EXAMPLES[0])] * 2, nothing, 60, no_count, clock=lambda: next(ticks))
    assert [outcome.milliseconds for outcome in outcomes] == [250.0, 500.0]


def test_a_query_too_long_to_be_asked_is_not_answered_and_stops_nothing(trained: Decoder) -> None:
    endless = Example("x", "scanner " * 2000, EXAMPLES[0].target)
    outcomes = answer_all(trained, [("phrasing", endless), ("phrasing", EXAMPLES[0])], nothing, 24, no_count)
    assert (outcomes[0].right, outcomes[0].finished, outcomes[0].text) == (False, False, "")
    assert "do not fit" in outcomes[0].reason
    assert outcomes[1].right
