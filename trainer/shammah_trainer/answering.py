"""What a graph answers to the questions of a night, and how sure of its answers it may be. Knows the engine, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shammah_data.manifest import Calibration, Golden
from shammah_data.settings import TrainSettings
from shammah_data.targets import steps
from shammah_runtime.engine.decoder import Decoder
from shammah_runtime.engine.decoding import Decoding
from shammah_trainer.calibrate import calibrate
from shammah_trainer.commit import fit_early
from shammah_trainer.dataset import Dataset, Example
from shammah_trainer.earlier import Earlier
from shammah_trainer.evaluate import Kind, Outcome, answer_all
from shammah_trainer.progress import Reporter
from shammah_trainer.unlogged import Unlogged, as_answered, spaced

_GOLDEN_TOKENS = 8
_GOLDEN_PROMPTS = 4
# So many of the surest answers are looked at; a token below this log-probability has a rival.
_GOLDEN_CHOICE = 16
_GOLDEN_LOGPROB = -0.1


@dataclass(frozen=True)
class Asked:
    """What every graph of a version is asked: `earlier` has looked the questions up, `most` tokens an answer may have."""

    dataset: Dataset
    questions: tuple[tuple[Kind, Example], ...]
    earlier: Earlier
    imagined: tuple[Unlogged, ...]
    most: int
    train: TrainSettings


@dataclass(frozen=True)
class Answered:
    """A graph's own answers and what follows from them."""

    outcomes: tuple[Outcome, ...]
    calibration: Calibration
    golden: tuple[Golden, ...]


def answered(decoder: Decoder, asked: Asked, reporter: Reporter) -> Answered:
    """Let the graph answer everything, and fit its confidence to what was right."""
    earlier, train = asked.earlier, asked.train
    counter = reporter.counter("answer")
    outcomes = answer_all(decoder, asked.questions, earlier.backing, asked.most, counter, likely=earlier.likely)
    reporter.end()
    beside = spaced(asked.imagined, len(asked.dataset.heldout_phrasings))
    judged_by = [*outcomes, *as_answered(beside, outcomes, train.seed)]
    # Every unanswerable question stands alone; numbers below zero are no group's.
    groups = [-1 - n if outcome.kind == "outside" else outcome.example.group for n, outcome in enumerate(judged_by)]
    labels = [(outcome.features, outcome.right) for outcome in judged_by]
    calibration, places = calibrate(labels, train.target_precision, groups)
    given = {step.target_precision: [place < step.accepted for place in places] for step in steps(calibration)}
    calibration = replace(calibration, early=fit_early(judged_by, given, groups, asked.most))
    return Answered(tuple(outcomes), calibration, _golden(decoder, outcomes))


def _golden(decoder: Decoder, outcomes: Sequence[Outcome]) -> tuple[Golden, ...]:
    """The surest answer and more, different ones of which every token is sure: no machine's rounding may change them."""
    found: dict[tuple[int, ...], tuple[float, Golden]] = {}
    surest = sorted(outcomes, key=lambda outcome: -outcome.features["least"])
    for outcome in surest[:_GOLDEN_CHOICE]:
        prompt = decoder.tokenizer.prompt(outcome.example.query)
        if len(prompt) > decoder.session.shape.context:
            continue
        answer, logprobs = zip(*decoder.tokens(prompt, Decoding(max_tokens=_GOLDEN_TOKENS)), strict=True)
        found.setdefault(answer, (min(logprobs), Golden(tuple(prompt), answer)))
    first, *others = sorted(found.values(), key=lambda one: -one[0])
    sure = [golden for least, golden in others if least > _GOLDEN_LOGPROB]
    return (first[1], *sure[: _GOLDEN_PROMPTS - 1])
