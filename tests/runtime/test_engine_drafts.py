"""Drafts and prefixes change how long an answer takes, and nothing else."""

import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.kernels import need_one_path
from fakes.versions import CONTEXT, Tiny
from shammah_data.settings import Precision
from shammah_runtime.engine import prefix
from shammah_runtime.engine.decoder import Decoder, Generated
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.drafts import Lookup, Pace
from shammah_runtime.engine.sampling import Floats
from shammah_runtime.engine.session import GraphSession, KVCache, has_avx512

VOCABULARY = 384
PROMPT = [int(token) for token in np.random.default_rng(2).integers(0, VOCABULARY, 30)]
LENGTH = 48
DECODINGS = [
    Decoding(max_tokens=LENGTH),
    Decoding(max_tokens=LENGTH, temperature=0.7, top_k=20, seed=5),
    Decoding(max_tokens=LENGTH, temperature=0.3, top_p=0.9, seed=6),
]


def whole(answer: Generated) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """What must not depend on a draft: ids and log-probabilities, to the last bit."""
    return answer.ids, answer.logprobs


@pytest.fixture(scope="module")
def decoders(random_tiny: Tiny) -> dict[Precision, Decoder]:
    """Decoders that stop at no token."""
    return {precision: random_tiny.decoder(precision, stop_ids=()) for precision in ("fp32", "int8", "int4")}


@pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "top-k", "top-p"])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_right_draft_gives_the_same_answer_in_fewer_passes(
    decoders: dict[Precision, Decoder], precision: Precision, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_one_path(precision)
    decoder = decoders[precision]
    # How many guesses pay is measured: here every pass takes as long, whatever else this machine has to do.
    monkeypatch.setattr(decoder, "_pace", Pace())
    monkeypatch.setattr("shammah_runtime.engine.decoder.time", SimpleNamespace(perf_counter=count(0.0, 1e-3).__next__))
    plain = decoder.generate(PROMPT, decoding)
    assert plain.passes == LENGTH
    drafted = decoder.generate(PROMPT, decoding, answers=[plain.ids])
    assert whole(drafted) == whole(plain)
    assert drafted.passes < LENGTH / 3


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.integers(0, LENGTH - 1), st.integers(0, VOCABULARY - 1), max_size=12),
    cut=st.tuples(st.integers(0, LENGTH), st.integers(0, 5)),
    which=st.integers(0, len(DECODINGS) - 1),
)
def test_no_draft_changes_an_answer(
    decoders: dict[Precision, Decoder], precision: Precision, changes: dict[int, int], cut: tuple[int, int], which: int
) -> None:
    need_one_path(precision)
    decoder = decoders[precision]
    plain = decoder.generate(PROMPT, DECODINGS[which])
    draft = [changes.get(place, token) for place, token in enumerate(plain.ids)]
    del draft[cut[0] : sum(cut)]
    for answers in ([draft], [draft[::-1], draft], []):
        assert whole(decoder.generate(PROMPT, DECODINGS[which], answers=answers)) == whole(plain)


def test_a_wrong_draft_is_given_up(decoders: dict[Precision, Decoder]) -> None:
    plain = decoders["fp32"].generate(PROMPT, DECODINGS[0])
    wrong = [(token + 1) % VOCABULARY for token in plain.ids]
    drafted = decoders["fp32"].generate(PROMPT, DECODINGS[0], answers=[wrong])
    assert whole(drafted) == whole(plain)
    assert drafted.passes == plain.passes


@pytest.mark.parametrize("most", [1, 2, 7])
def test_a_draft_obeys_the_limits_of_the_answer(decoders: dict[Precision, Decoder], most: int) -> None:
    decoder = decoders["fp32"]
    plain = decoder.generate(PROMPT, Decoding(max_tokens=most))
    assert whole(decoder.generate(PROMPT, Decoding(max_tokens=most), answers=[[*plain.ids, 1, 2, 3]])) == whole(plain)
    full = [1] * (CONTEXT - 5)
    plain = decoder.generate(full, Decoding(max_tokens=100))
    assert len(plain.ids) == 6
    assert whole(decoder.generate(full, Decoding(max_tokens=100), answers=[[*plain.ids, 1, 2, 3]])) == whole(plain)


def test_an_end_token_inside_a_draft_ends_the_answer(tiny: Tiny) -> None:
    prompt = tiny.chat.prompt("anything")
    plain = tiny.decoder().generate(prompt, Decoding())
    assert plain.finished
    drafted = tiny.decoder().generate(prompt, Decoding(), answers=[[*plain.ids, 5, 6, 7, 8]])
    assert whole(drafted) == whole(plain)
    assert drafted.text == plain.text


@pytest.mark.parametrize("one_path", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_whether_an_answer_is_the_greedy_one_is_told_by_any_path(
    decoders: dict[Precision, Decoder], precision: Precision, one_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if one_path:
        need_one_path(precision)
    decoder = decoders[precision]
    greedy = decoder.generate(PROMPT, DECODINGS[0]).ids
    passes, feed = [], decoder.session.feed

    def counted(cache: KVCache, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        passes.append(len(ids))
        return feed(cache, ids, rows)

    monkeypatch.setattr(decoder.session, "feed", counted)
    monkeypatch.setattr(decoder.session, "one_path", lambda: one_path)
    for length in (1, 2, LENGTH):
        assert decoder.says(PROMPT, greedy[:length])
        for place in {0, length // 2, length - 1}:
            other = [*greedy[:place], (greedy[place] + 1) % VOCABULARY, *greedy[place + 1 : length]]
            assert not decoder.says(PROMPT, other)
    assert len(passes) == 9 if one_path else len(passes) > LENGTH
    assert not decoder.says(PROMPT, ())
    assert decoder.generate(PROMPT, DECODINGS[0]).ids == greedy


@pytest.mark.parametrize("one_path", [True, False])
def test_an_end_token_ends_an_answer_however_it_is_told(tiny: Tiny, one_path: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if one_path:
        need_one_path("int8")
    prompt, decoder = tiny.chat.prompt("anything"), tiny.decoder()
    monkeypatch.setattr(decoder.session, "one_path", lambda: one_path)
    plain = decoder.generate(prompt, Decoding())
    assert plain.finished
    # Whatever the graph would say behind it.
    after = decoder.session.feed(decoder.session.new_cache(), [*prompt, *plain.ids])[0].argmax()
    assert decoder.says(prompt, plain.ids)
    assert not decoder.says(prompt, (*plain.ids, int(after)))


def test_what_an_answer_left_in_the_cache_does_not_reach_the_next(random_tiny: Tiny) -> None:
    """Each prompt on a decoder that answered others before, and on a new one."""
    used = random_tiny.decoder("int8", stop_ids=())
    rng = np.random.default_rng(3)
    prompts = [PROMPT[:20] + [int(token) for token in rng.integers(0, VOCABULARY, size)] for size in (1, 9, 2, 30, 4, 17)]
    for number, prompt in enumerate(prompts * 2):
        answers: Sequence[Sequence[int]] | None = [PROMPT] if number % 2 else None
        cold = random_tiny.decoder("int8", stop_ids=()).generate(prompt, DECODINGS[0])
        warm = used.generate(prompt, DECODINGS[0], answers=answers)
        assert whole(warm) == whole(cold)
        assert cold.reused == 0
        if number:
            assert warm.reused >= 20


def test_a_conversation_is_read_once(decoders: dict[Precision, Decoder]) -> None:
    decoder = decoders["int8"]
    first = decoder.generate(PROMPT, DECODINGS[0])
    follow = [*PROMPT, *first.ids, 7, 8, 9]
    other = decoder.generate(PROMPT[::-1], DECODINGS[0])
    second = decoder.generate(follow, DECODINGS[0])
    assert other.reused == 0
    assert second.reused == len(PROMPT) + LENGTH - 1  # the last token of an answer was drawn, not read
    assert decoder.score(follow, [[1, 2]]) == decoder.score(follow, [[1, 2]])


def test_no_more_caches_than_are_allowed(random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    made: list[int] = []
    new_cache = decoder.session.new_cache

    def counted() -> KVCache:
        made.append(1)
        return new_cache()

    monkeypatch.setattr(decoder.session, "new_cache", counted)
    prompts = [[number] * 40 for number in range(12)]
    for prompt in prompts:
        decoder.generate(prompt, Decoding(max_tokens=2))
    assert len(made) == 4
    # With a bound that one sequence exceeds, each new one takes the place of all others.
    monkeypatch.setattr(prefix, "_MOST_BYTES", 1)
    for prompt in prompts:
        assert decoder.generate(prompt, Decoding(max_tokens=2)).reused in (0, 39)
    assert len(made) > 4


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        # A new prompt counts before it is read, as does what is new in one that goes on,
        (([3] * 40, [4] * 40, [3] * 40), 2),
        (([3] * 20, [4] * 20, [4] * 45, [3] * 20), 2),
        # and an answer when the next prompt comes.
        (([3] * 20, [4] * 20, [3] * 20), 30),
    ],
)
def test_what_is_kept_of_prompts_keeps_to_its_bound(
    random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch, prompts: Sequence[list[int]], tokens: int
) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    monkeypatch.setattr(prefix, "_MOST_BYTES", 60 * decoder.session.token_bytes)
    found = [decoder.generate(prompt, Decoding(max_tokens=tokens)) for prompt in prompts]
    assert found[-1].reused == 0
    # What was used last stays.
    assert decoder.generate(prompts[-1], Decoding(max_tokens=1)).reused == len(prompts[-1]) - 1


def test_a_long_answer_takes_the_place_of_earlier_prompts_once_it_has_ended(
    random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    monkeypatch.setattr(prefix, "_MOST_BYTES", 60 * decoder.session.token_bytes)
    for number, tokens in ((3, 2), (4, 30)):
        decoder.generate([number] * 20, Decoding(max_tokens=tokens))
    assert decoder.generate([3] * 20, Decoding(max_tokens=2)).reused == 0


def test_another_thread_ends_a_long_answer(decoders: dict[Precision, Decoder]) -> None:
    decoder = decoders["fp32"]
    started = threading.Event()
    found: list[Generated] = []

    def answer() -> None:
        found.append(decoder.generate(PROMPT, Decoding(max_tokens=200), on_token=lambda *_: started.set()))

    thread = threading.Thread(target=answer)
    thread.start()
    started.wait()
    while thread.is_alive():
        decoder.cancel()
    assert not found[0].finished
    decoder.cancel()
    assert len(decoder.generate(PROMPT, DECODINGS[0]).ids) == LENGTH


def test_a_lookup_follows_a_source_takes_it_up_again_and_gives_it_up() -> None:
    lookup = Lookup([[1, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert lookup.guess(3) == [1, 2, 3]
    for token in (1, 2, 30):
        lookup.said(token)
    assert lookup.guess(2) == [4, 5]
    for token in (40, 50, 60):
        lookup.said(token)
    assert lookup.guess(4) == []
    for token in (3, 4, 5):
        lookup.said(token)
    assert lookup.guess(4) == [6, 7, 8, 9]


def test_a_lookup_finds_what_was_said_before() -> None:
    lookup = Lookup([], [1, 2, 3, 4, 5, 6])
    assert lookup.guess(3) == []
    for token in (2, 3, 4):
        lookup.said(token)
    assert lookup.guess(3) == [5, 6, 2]
    # What the answer itself said counts as well.
    lookup = Lookup()
    for token in (9, 8, 7, 6, 5, 9, 8, 7):
        lookup.said(token)
    assert lookup.guess(2) == [6, 5]


def test_the_pace_follows_what_is_right_and_what_it_costs() -> None:
    pace = Pace()
    pace.begin(0.9)
    eager = pace.count(63)
    for _ in range(10):
        pace.passed(eager, eager, 0.01)
    assert pace.count(63) > eager
    assert pace.count(4) <= 4
    for _ in range(20):
        pace.passed(7, 0, 0.01)
    assert pace.count(63) == 0
    pace.begin(1.0)
    for rows in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
        pace.passed(rows - 1, rows - 1, 0.001 * rows**2)
    # More rows that cost more than they bring are not asked for.
    assert pace.count(63) <= 1


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_whether_all_passes_are_one_path_is_tried_where_nobody_knows(
    random_tiny: Tiny, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_one_path(precision, own_kernels=False)
    monkeypatch.setattr("shammah_runtime.engine.session.has_avx512", lambda: False)
    session = GraphSession(random_tiny.graph(precision), random_tiny.shape, own_kernels=False)
    tried, feed = [], session.feed

    def noted(cache: KVCache, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        tried.append(len(ids))
        return feed(cache, ids, rows)

    monkeypatch.setattr(session, "feed", noted)
    assert session.one_path()
    assert {1, 2, 7, 16, 64} <= set(tried)


@pytest.mark.parametrize("other_from", [2, 7, 64])
def test_kernels_that_change_with_the_number_of_rows_are_no_one_path(
    random_tiny: Tiny, other_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shammah_runtime.engine.session.has_avx512", lambda: False)
    session = GraphSession(random_tiny.graph("fp32"), random_tiny.shape)
    feed = session.feed

    def changing(cache: KVCache, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        found = feed(cache, ids, rows).copy()
        if len(ids) >= other_from:
            found[-1] += np.float32(1e-5)
        return found

    monkeypatch.setattr(session, "feed", changing)
    assert not session.one_path()


def test_where_many_tokens_at_once_are_another_path_nothing_is_drafted(
    random_tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = random_tiny.decoder("fp32", stop_ids=())
    plain = decoder.generate(PROMPT, DECODINGS[0])
    session, feed = decoder.session, decoder.session.feed

    def other_path(cache: KVCache, ids: Sequence[int], rows: Sequence[int] | None = None) -> Floats:
        found = feed(cache, ids, rows)
        return found + np.float32(1e-5) if len(ids) > 1 and rows is not None else found

    monkeypatch.setattr("shammah_runtime.engine.session.has_avx512", lambda: False)
    monkeypatch.setattr(session, "feed", other_path)
    drafted = decoder.generate(PROMPT, DECODINGS[0], answers=[plain.ids])
    assert whole(drafted) == whole(plain)
    assert drafted.passes == LENGTH


def test_a_processor_is_known_by_what_it_says(tmp_path: Path) -> None:
    said = tmp_path / "cpuinfo"
    assert not has_avx512(said)
    said.write_text("flags\t\t: fpu avx2 avx512f avx512dq\n")
    assert has_avx512(said)
    said.write_text("flags\t\t: fpu avx2 fma\n")
    assert not has_avx512(said)
