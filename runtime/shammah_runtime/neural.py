"""The neural tier: the model's own answer, accepted when the model is sure enough. Knows the model, no log, no teacher."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from shammah_data.errors import ShammahError
from shammah_data.exchange import Attempt
from shammah_data.guard import Guard
from shammah_data.manifest import Calibration
from shammah_data.targets import beyond, held_to, shown_early
from shammah_data.text import counted
from shammah_runtime.committing import Commitment
from shammah_runtime.engine.backing import FULL, Backing
from shammah_runtime.engine.confidence import ceiling, confidence, features
from shammah_runtime.engine.decoder import Decoder, Generated
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.model import Model, Prompt
from shammah_runtime.followup import depends_on_context
from shammah_runtime.proposal import REPLACED, STOPPED, Proposal, Query, Token, declined
from shammah_runtime.serving import Serving
from shammah_runtime.stopping import NEVER, Deadline, Stop

T = TypeVar("T")
# The confidence is calibrated on questions that stand alone until a version has seen this many that do not.
_LEAST_CONTEXT_EXAMPLES = 20
# How often one looks whether an answer is still wanted.
_STOP_SECONDS = 0.02


class NeuralTier:
    """Decodes with the version that serves; the first query waits for it to load. `decoding` may change between queries."""

    def __init__(
        self,
        models: Serving,
        decoding: Decoding,
        backing: Callable[[str, str], Backing],
        likely: Callable[[str], Sequence[str]] = lambda _: (),
        against: Callable[[str, str], str | None] = lambda _query, _answer: None,
        guard: Guard | None = None,
        seconds: float = 0.0,
        target: float = 0.0,
        commit_early: bool = False,
        most: Callable[[str], Backing] = lambda _: FULL,
    ) -> None:
        """`backing(query, answer)`: what earlier exchanges say for an answer; `most(query)`: what they can say for any.

        `likely(query)`: answers that the model may well give, the best first. They make it faster and change nothing.
        `against(query, answer)`: why an answer must not be given however sure the model is, or None.
        `guard`: thresholds that audits have raised. `seconds`: how long an answer may take to decode; 0 for any time.
        `target`: the precision to hold answers to (`shammah_data.targets`); 0 for the version's own. `commit_early`: whether an
        answer may be shown before it has ended, to whoever can be told that it was cut.
        """
        self._models = models
        self._likely = likely
        self._against = against
        self._backing = backing
        self._guard = guard
        self._seconds = seconds
        self._target = target
        self._commit_early = commit_early
        self._most = most
        self.decoding = decoding

    def propose(self, query: Query) -> Proposal:
        """The model's answer, or the reason for none; `committed` where some of it has been shown by then."""
        model = query.version(self._models)
        if model is None:
            return declined("neural", REPLACED if query.replaced else self._models.reason)
        commitment = Commitment(query.show)
        try:
            proposal = self._propose(query, model, commitment)
        except (KeyboardInterrupt, InterruptedError):
            if not commitment.shown:
                raise
            proposal = declined("neural", STOPPED)
        return commitment.told(replace(proposal, model_version=model.manifest.version))

    def _propose(self, query: Query, model: Model, commitment: Commitment) -> Proposal:
        learned_turns = model.manifest.context_examples
        if learned_turns < _LEAST_CONTEXT_EXAMPLES and depends_on_context(query):
            return declined(
                "neural",
                f"the question depends on earlier turns, of which {model.manifest.version} learned from {learned_turns}",
            )
        if (reason := beyond(model.graph.calibration, self._target)) is not None:
            return declined("neural", f"{model.manifest.version} may not answer: {reason}")
        try:
            calibration = self._held_to(model)
        except ShammahError as error:
            return declined("neural", str(error))
        decoding = query.decoding or self.decoding
        budget = answer_budget(model, decoding.max_tokens)
        decoding = replace(decoding, max_tokens=budget)
        query.stop.heed()
        most = self._most(query.text)
        query.stop.heed()
        best = confidence(calibration, ceiling((), budget, most))
        if best < calibration.threshold <= 1.0:
            told = f"confidence at most {best:.2f}, whatever the answer"
            backed = ", ".join(f"{name} {value:.2f}" for name, value in asdict(most).items())
            return declined("neural", f"{told} ({backed}), below {calibration.threshold:.2f}", best, calibration.threshold)
        stop = Deadline(query.stop, self._seconds) if self._seconds else query.stop
        seen: list[float] = []
        try:
            prompt = read_prompt(model, query, self.decoding.max_tokens)
            likely = self._likely(query.text)
            drafts = [model.decoder.tokenizer.answer(text, model.decoder.stop_ids) for text in likely]
            if self._may_show(model, calibration, decoding):
                commitment.begin(
                    held_to(model.graph.calibration, self._target),
                    list(zip(likely, drafts, strict=True)),
                    lambda text: self._backing(query.text, text),
                    lambda text: self._against(query.text, text),
                )

            def note(token: int, logprob: float) -> None:
                seen.append(logprob)
                if token not in model.decoder.stop_ids:
                    commitment.token(token, logprob)

            answer = interruptible(
                model.decoder,
                lambda: model.decoder.generate(
                    prompt.ids,
                    decoding,
                    on_text=commitment.text,
                    on_token=note,
                    cancelled=lambda: _hopeless(seen, calibration, budget, most),
                    answers=drafts,
                ),
                stop,
                commitment.pass_on if commitment.begun else None,
            )
            if query.stop.asked():
                return declined("neural", STOPPED)
            if stop.asked():
                return self._gave_up()
            found = features(answer.logprobs, self._backing(query.text, answer.text))
            sure = confidence(calibration, found)
        except InterruptedError:
            if query.stop.asked():
                raise
            return self._gave_up()
        except ShammahError as error:
            return declined("neural", str(error))
        told = f"confidence {sure:.2f} ({', '.join(f'{name} {value:.2f}' for name, value in found.items())})"
        trimmed = ""
        if prompt.left_out:
            trimmed = f"; {exchanges_left_out(prompt.left_out)}: the context holds {model.manifest.shape.context} tokens"
        figures = (sure, calibration.threshold)
        if calibration.threshold > 1.0:
            return declined(
                "neural",
                f"{told}; {model.manifest.version} may not answer: no threshold reached the target precision{trimmed}",
                *figures,
            )
        # Not `<`, which lets pass what is no number.
        if not sure >= calibration.threshold:
            return declined("neural", f"{told}, below {calibration.threshold:.2f}{trimmed}", *figures)
        if not answer.finished or not answer.text:
            return declined(
                "neural", f"{told}, but the answer did not end within {counted(budget, 'token')}{trimmed}", *figures
            )
        if (reason := self._against(query.text, answer.text)) is not None:
            return declined("neural", f"{told}, but {reason}{trimmed}", *figures)
        return Proposal(
            Attempt("neural", "accepted", f"{told}, at least {calibration.threshold:.2f}{trimmed}", *figures),
            text=answer.text,
            prompt_tokens=answer.prompt_tokens,
            answer_tokens=len(answer.ids),
            tokens=_tokens(answer, model.decoder),
            others=tuple(other.text for other in answer.others if other.finished),
            left_out=prompt.left_out,
        )

    def _may_show(self, model: Model, calibration: Calibration, decoding: Decoding) -> bool:
        """Whether an answer may be shown before it has ended: only as it was measured at night."""
        held = held_to(model.graph.calibration, self._target)
        return (
            self._commit_early
            and held.early is not None
            and shown_early(held) is not None
            and calibration.threshold <= held.threshold
            and decoding.max_tokens >= held.early.most_tokens
            and decoding.beams == 1
            and decoding.temperature == 0.0
            and decoding.repetition_penalty == 1.0
        )

    def _gave_up(self) -> Proposal:
        return declined("neural", f"gave up after {self._seconds:g} s (routing.local_seconds)")

    def _held_to(self, model: Model) -> Calibration:
        """The calibration as published, for the target in force, with the threshold that audits have raised since."""
        calibration = held_to(model.graph.calibration, self._target)
        if self._guard is None:
            return calibration
        threshold = self._guard.threshold(model.manifest.version, calibration.threshold)
        return replace(calibration, threshold=threshold)


def answer_budget(model: Model, most: int) -> int:
    """Tokens that an answer may have: at most so many, and no more than half of the context."""
    return min(most, model.manifest.shape.context // 2)


def read_prompt(model: Model, query: Query, most: int) -> Prompt:
    """The prompt that a version answers a query after. Raises InputError for a query that does not fit."""
    # A version that learned from single questions only has never seen more than one exchange before a question.
    whole = model.manifest.context_examples >= _LEAST_CONTEXT_EXAMPLES
    return model.prompt(query.text, query.context if whole else query.context[-2:], answer_budget(model, most))


def exchanges_left_out(count: int) -> str:
    """In words, for whoever wonders why an earlier turn was not minded."""
    return f"{counted(count, 'earlier exchange')} left out"


def _tokens(answer: Generated, decoder: Decoder) -> tuple[Token, ...]:
    stream = decoder.tokenizer.stream()
    tokens: list[Token] = []
    for number, logprob, top in zip(answer.ids, answer.logprobs, answer.tops or ((),) * len(answer.ids), strict=True):
        likeliest = tuple(Token(one, stream.peek(one), value, end=one in decoder.stop_ids) for one, value in top)
        end = number in decoder.stop_ids
        tokens.append(Token(number, "" if end else stream.push(number), logprob, likeliest, end))
        if end and (rest := stream.close()):
            tokens[-2] = replace(tokens[-2], text=tokens[-2].text + rest)
    return tuple(tokens)


def interruptible(
    decoder: Decoder, work: Callable[[], T], stop: Stop = NEVER, meanwhile: Callable[[], None] | None = None
) -> T:
    """Run on a thread of its own what a Ctrl-C or `stop` must end at once: a signal is not handled while the graph runs.

    `meanwhile` is called again and again on the thread that waits, and once after the end.
    """
    outcome: list[T | BaseException] = []
    # An event, since a thread whose join was interrupted counts as ended in Python 3.11.
    done, given_up = threading.Event(), threading.Event()

    def run() -> None:
        try:
            if not given_up.is_set():
                outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
            outcome.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="neural", daemon=True)
    try:
        # A signal may come as early as here.
        thread.start()
        while not done.wait(None if stop is NEVER and meanwhile is None else _STOP_SECONDS):
            if meanwhile is not None:
                meanwhile()
            if stop.asked():
                decoder.cancel()
        if meanwhile is not None:
            meanwhile()
    except BaseException:
        given_up.set()
        while thread.ident is not None and not done.is_set():
            decoder.cancel()
            done.wait(0.01)
        raise
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _hopeless(logprobs: list[float], calibration: Calibration, budget: int, most: Backing) -> bool:
    """Whether the threshold is out of reach even if every token to come were certain; a beam search tells of none before."""
    return bool(logprobs) and confidence(calibration, ceiling(logprobs, budget, most)) < calibration.threshold
