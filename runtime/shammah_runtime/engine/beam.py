"""Beam search over one session: the likeliest whole answers to a prompt. Knows ids, no text.

V: vocabulary. The rules are those of `generate(num_beams=n, early_stopping=False)` in transformers 5, so that one can be
checked against the other.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from shammah_data.errors import InputError
from shammah_runtime.engine import memory
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.sampling import Floats, likeliest, log_softmax, need_numbers, normalizer, penalized
from shammah_runtime.engine.session import GraphSession, KVCache


@dataclass(frozen=True)
class Found:
    """An answer: its ids (the end token included), their log-probabilities under the model, and what it was ranked by."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class _Beam:
    """An answer that goes on: the sum of its log-probabilities, and the cache that holds all but its last token."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    sum: np.float32
    cache: KVCache

    def followed(self, token: int, logprob: float, total: np.float32) -> "_Beam":
        return _Beam((*self.ids, token), (*self.logprobs, logprob), total, self.cache)


def search(
    session: GraphSession,
    cache: KVCache,
    first_V: Floats,
    decoding: Decoding,
    stop_ids: Collection[int],
    cancelled: Callable[[], bool] | None = None,
) -> tuple[list[Found], int]:
    """The best `decoding.beams` answers or fewer, the best first, to the prompt in `cache`, whose last logits are `first_V`.

    Also returns the number of passes that were made.

    An answer ends with one of `stop_ids`, at `max_tokens` or where the context is full. In each step the best continuations
    of all beams go on, but for those that end; an end among the best ones is kept with its score, the sum of its
    log-probabilities divided by length ** `length_penalty` (Wu et al., "Google's Neural Machine Translation System", 2016, in
    its simplest form). The search is over when `beams` answers have ended and the best beam, at its present length, scores no
    better than the worst of them. A `repetition_penalty` acts on log-probabilities, as in transformers. One beam is greedy.

    `cache` is used and holds something else behind the prompt afterwards. When `cancelled`, or interrupted in the session,
    returns what had ended until then, or else the beams. Raises InputError, with both figures, where there is no memory for
    the beams, and ArtifactError for logits that are no numbers.
    """
    width, penalty = decoding.beams, decoding.length_penalty
    prompt_ids = tuple(cache.ids)
    most = min(decoding.max_tokens, session.shape.context - len(prompt_ids) + 1)
    _need_room(session, width, len(prompt_ids) + most)
    caches = [cache, *(session.new_cache() for _ in range(width - 1))]
    scratch_V: Floats = np.empty_like(first_V)
    # As many more as there can be ends among them, so that `width` go on.
    wide = (1 + len(stop_ids)) * width

    def continued(beam: _Beam, logits_V: Floats) -> list[_Beam]:
        taken = normalizer(logits_V, scratch_V)
        need_numbers(taken)
        ranked_V = logits_V
        if decoding.repetition_penalty != 1.0:
            ranked_V = penalized(log_softmax(logits_V), {*prompt_ids, *beam.ids}, decoding.repetition_penalty)
        tokens = likeliest(ranked_V, wide)[:wide]
        gained = ranked_V[tokens] if ranked_V is not logits_V else logits_V[tokens] - np.float32(taken)
        return [
            beam.followed(int(token), float(logits_V[token]) - taken, beam.sum + gain)
            for token, gain in zip(tokens, gained, strict=True)
        ]

    passes = 0
    ended: list[Found] = []
    running: list[_Beam] = []
    following = continued(_Beam((), (), np.float32(0.0), cache), first_V)
    try:
        for length in range(1, most + 1):
            divisor = np.float32(length**penalty)
            following = sorted(following, key=lambda beam: -beam.sum)[:wide]
            running = []
            for rank, beam in enumerate(following):
                if beam.ids[-1] in stop_ids or length == most:
                    if rank < width:
                        ended.append(Found(beam.ids, beam.logprobs, float(beam.sum / divisor)))
                elif len(running) < width:
                    running.append(beam)
            ended = sorted(ended, key=lambda found: -found.score)[:width]
            if not running or (cancelled and cancelled()):
                break
            full = len(ended) == width
            if full and (width == 1 or float(running[0].sum / divisor) <= ended[-1].score):
                break
            running = _housed(running, caches)
            following = []
            for beam in running:
                following += continued(beam, session.feed(beam.cache, beam.ids[-1:])[-1])
                passes += 1
    except InterruptedError:
        pass
    found = ended or [Found(beam.ids, beam.logprobs, float(beam.sum / len(beam.ids) ** penalty)) for beam in running]
    return found, passes


def _need_room(session: GraphSession, beams: int, tokens: int) -> None:
    """Raise InputError where all beams but the first, which goes on in the prompt's cache, may need more than is free."""
    needed = (beams - 1) * tokens * session.token_bytes
    # Buffers on a GPU are whole from the start, and their memory is not what the system tells of.
    room = memory.available() if session.gpu is None else None
    if room is not None and needed > room:
        raise InputError(
            f"{beams} beams of {tokens} tokens may need {needed / 1e6:.0f} MB more memory, "
            f"of which {room / 1e6:.0f} MB are free: set fewer beams"
        )


def _housed(beams: Sequence[_Beam], caches: Sequence[KVCache]) -> list[_Beam]:
    """Each beam with a cache of its own: its parent's, or for the second and further ones of a parent a copy."""
    used = {id(beam.cache) for beam in beams}
    free = [cache for cache in caches if id(cache) not in used]
    housed = []
    for beam in beams:
        if id(beam.cache) in used:
            used.remove(id(beam.cache))
            housed.append(beam)
        else:
            copy = free.pop()
            copy.copy_from(beam.cache)
            housed.append(_Beam(beam.ids, beam.logprobs, beam.sum, copy))
    return housed
