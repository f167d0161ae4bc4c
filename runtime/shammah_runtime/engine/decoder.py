"""Decoding over one session: prompt ids in, tokens and their log-probabilities out. Knows no versions and no tiers."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shammah_runtime.engine.beam import Found, search
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.drafts import Lookup, Pace
from shammah_runtime.engine.prefix import PrefixCache
from shammah_runtime.engine.sampling import Floats, logprob, sample, top_logprobs
from shammah_runtime.engine.session import PASS_ROWS, GraphSession, KVCache

# How much of a draft is expected to be right before it was tried.
_DRAFT_CONFIDENCE = 0.9
_HISTORY_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Generated:
    """One answer of the model. `finished`: it ended by itself, not at `max_tokens`, the context or a request to stop.

    `tops`: per token the likeliest ones and their log-probabilities, as many as `Decoding.logprobs`. `others`: the next best
    answers of a beam search. `passes` of the graph were made for it, that over the prompt included; `reused` tokens of the
    prompt were read before.
    """

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finished: bool
    passes: int = 0
    reused: int = 0
    tops: tuple[tuple[tuple[int, float], ...], ...] = ()
    others: tuple["Generated", ...] = ()


class Decoder:
    """Greedy or sampled decoding and scoring over one session; one request at a time."""

    def __init__(self, session: GraphSession, tokenizer: ChatTokenizer, stop_ids: Sequence[int]) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids)
        self._stops = frozenset(stop_ids)
        self._prefixes = PrefixCache(session)
        self._pace = Pace()
        self._scratch_V: Floats = np.empty(session.shape.vocab, np.float32)
        self._busy = threading.Lock()
        self._passes = 0
        self._reused = 0

    def tokens(
        self,
        prompt_ids: Sequence[int],
        decoding: Decoding,
        draft: Lookup | None = None,
        on_logits: Callable[[Floats], None] | None = None,
    ) -> Iterator[tuple[int, float]]:
        """Token ids and their log-probabilities under the model (untempered), the end token included.

        `draft` makes it faster where it is right, and is not used where it could change a token: each is drawn from the model's
        own distribution, in order, by the same generator. `on_logits` gets the logits [V] that a token was drawn from, before
        it is yielded; the next pass overwrites them. Searches no beams. Ends after an end token, at `max_tokens`, or when the
        context is full. Raises InputError for a prompt that leaves no room for an answer, InterruptedError after `cancel`.
        """
        with self._busy:
            # Importing numpy.random takes as long as a token.
            rng = None if decoding.temperature == 0.0 else np.random.default_rng(decoding.seed)
            said = set(prompt_ids)
            session, context = self.session, self.session.shape.context
            session.resume()
            # Where a pass over several tokens is not the same to the last bit, a draft would change answers.
            if draft is not None and not session.one_path():
                draft = None
            cache, rows_MV = self._read(prompt_ids)
            guesses: list[int] = []
            drawn = 0
            kept = len(prompt_ids)
            began = time.perf_counter()
            try:
                while True:
                    right = 0
                    for row_V in rows_MV:
                        token = sample(row_V, decoding, rng, said)
                        said.add(token)
                        drawn += 1
                        last = token in self._stops or drawn == decoding.max_tokens or kept == context
                        if draft is not None:
                            draft.said(token)
                        matched = right < len(guesses) and guesses[right] == token
                        if on_logits is not None:
                            on_logits(row_V)
                        yield token, logprob(row_V, token, self._scratch_V)
                        if last:
                            return
                        if not matched:
                            break
                        right += 1
                        kept += 1
                    if self._passes > 1:
                        self._pace.passed(len(guesses), right, time.perf_counter() - began)
                    cache.rewind(kept)
                    most = min(PASS_ROWS, context - kept, decoding.max_tokens - drawn) - 1
                    guesses = draft.guess(self._pace.count(most)) if draft is not None else []
                    began = time.perf_counter()
                    rows_MV = session.feed(cache, [token, *guesses], range(len(guesses) + 1))
                    self._passes += 1
                    kept += 1
            finally:
                # What was guessed and not drawn must not be taken for a part of the conversation.
                cache.rewind(min(cache.length, kept))
                self._prefixes.settle()

    def _read(self, prompt_ids: Sequence[int]) -> tuple[KVCache, Floats]:
        """A cache that holds the prompt, and the logits [1, V] behind it."""
        session = self.session
        session.resume()
        if len(prompt_ids) > session.shape.context or not prompt_ids:
            # The session says so in its own words.
            session.feed(session.new_cache(), prompt_ids)
        cache = self._prefixes.take(prompt_ids)
        self._reused, self._passes = cache.length, 1
        return cache, session.feed(cache, prompt_ids[cache.length :])

    def generate(
        self,
        prompt_ids: Sequence[int],
        decoding: Decoding,
        on_text: Callable[[str], None] | None = None,
        on_token: Callable[[int, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        answers: Sequence[Sequence[int]] | None = None,
    ) -> Generated:
        """One whole answer, whose prompt is never part of it.

        `on_text` gets pieces that never split a character, `on_token` before that each token and its log-probability;
        `cancelled` is asked between tokens. Stop strings are not minded: whoever gives the answer cuts it.

        `answers` are ids of likely answers, the best first: drafts, which change the speed only. With None nothing is drafted,
        with an empty sequence what was said before in the conversation is. A beam search drafts nothing, and shows its answer
        when it has been found.
        """
        if decoding.beams > 1:
            return self._search(prompt_ids, decoding, on_text, on_token, cancelled)
        stream = self.tokenizer.stream()
        ids: list[int] = []
        logprobs: list[float] = []
        pieces: list[str] = []
        finished = False

        def emit(piece: str) -> None:
            if piece:
                pieces.append(piece)
                if on_text:
                    on_text(piece)

        draft = None if answers is None else Lookup(answers, prompt_ids)
        self._pace.begin(_DRAFT_CONFIDENCE if answers else _HISTORY_CONFIDENCE)
        tops: list[tuple[tuple[int, float], ...]] = []

        def note(row_V: Floats) -> None:
            tops.append(top_logprobs(row_V, decoding.logprobs, self._scratch_V))

        steps = self.tokens(prompt_ids, decoding, draft, note if decoding.logprobs else None)
        try:
            for token, logprob in steps:
                ids.append(token)
                logprobs.append(logprob)
                if on_token:
                    on_token(token, logprob)
                if token in self._stops:
                    finished = True
                    break
                emit(stream.push(token))
                if cancelled and cancelled():
                    break
        except InterruptedError:
            pass
        finally:
            steps.close()  # type: ignore[attr-defined]  # it is a generator; closing it frees the session
        emit(stream.close())
        return Generated(
            "".join(pieces).strip(),
            tuple(ids),
            tuple(logprobs),
            len(prompt_ids),
            finished,
            self._passes,
            self._reused,
            tuple(tops),
        )

    def _search(
        self,
        prompt_ids: Sequence[int],
        decoding: Decoding,
        on_text: Callable[[str], None] | None,
        on_token: Callable[[int, float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Generated:
        with self._busy:
            try:
                cache, rows_MV = self._read(prompt_ids)
            except InterruptedError:
                return Generated("", (), (), len(prompt_ids), False, self._passes, self._reused)
            try:
                found, passes = search(self.session, cache, rows_MV[0].copy(), decoding, self._stops, cancelled)
            finally:
                cache.rewind(min(cache.length, len(prompt_ids)))
                self._prefixes.settle()
            self._passes += passes
        best, *others = [self._told(one, len(prompt_ids)) for one in found[: decoding.answers]]
        if on_text and best.text:
            on_text(best.text)
        if on_token:
            for token, value in zip(best.ids, best.logprobs, strict=True):
                on_token(token, value)
        return replace(best, others=tuple(others))

    def _told(self, found: Found, prompt_tokens: int) -> Generated:
        """An answer of a beam search as text."""
        stream = self.tokenizer.stream()
        finished = found.ids[-1] in self._stops
        pieces = [stream.push(token) for token in (found.ids[:-1] if finished else found.ids)]
        text = "".join([*pieces, stream.close()]).strip()
        return Generated(text, found.ids, found.logprobs, prompt_tokens, finished, self._passes, self._reused)

    def cancel(self) -> None:
        """End the answer that another thread is generating, within one operator of the graph; it is returned unfinished."""
        if self._busy.locked():
            self.session.interrupt()

    def says(self, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> bool:
        """Whether the greedy answer to a prompt begins with exactly these tokens; an end token may only be the last.

        In as few passes as hold them, where those are the same to the last bit as one by one.
        """
        if not answer_ids or not self._stops.isdisjoint(answer_ids[:-1]):
            return False
        if not self.session.one_path():
            drawn = self.tokens(prompt_ids, Decoding(max_tokens=len(answer_ids)))
            return tuple(token for token, _ in drawn) == tuple(answer_ids)
        with self._busy:
            self.session.resume()
            cache = self._prefixes.take(prompt_ids)
            fed = [*prompt_ids[cache.length :], *answer_ids[:-1]]
            rows_MV = self.session.feed(cache, fed, range(len(fed) - len(answer_ids), len(fed)))
            cache.rewind(len(prompt_ids))
            return all(row_V.argmax() == token for row_V, token in zip(rows_MV, answer_ids, strict=True))

    def score(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        """Log-probabilities of the tokens of each given response after one prompt, which is read only once.

        Raises InputError for what does not fit into the context.
        """
        with self._busy:
            self.session.resume()
            cache = self._prefixes.take(prompt_ids)
            first_V = self.session.feed(cache, prompt_ids[cache.length :])[-1].copy()
            scores = []
            for response in responses:
                found = [logprob(first_V, response[0], self._scratch_V)]
                # In pieces: the logits of a long answer at once would take hundreds of megabytes.
                for at in range(0, len(response) - 1, PASS_ROWS):
                    fed = response[at : min(at + PASS_ROWS, len(response) - 1)]
                    found += self._score_rows(self.session.feed(cache, fed, range(len(fed))), response[at + 1 :])
                cache.rewind(len(prompt_ids))
                scores.append(tuple(found))
            return scores

    def _score_rows(self, rows_MV: Floats, following: Sequence[int]) -> list[float]:
        return [logprob(row_V, token, self._scratch_V) for row_V, token in zip(rows_MV, following, strict=False)]
