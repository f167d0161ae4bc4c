"""The learned tier of a version that brings its index along, with a tiny model and a tiny embedder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.claude import FakeClaude
from fakes.memories import Told, evidence, make_embedder
from fakes.versions import ACCEPT_ALL, ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.exchange import Attempt, Exchange, Message
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.learned import Learned
from shammah_data.log import ExchangeLog
from shammah_data.manifest import Evidence
from shammah_data.queries import Selection
from shammah_data.store import ModelStore
from shammah_runtime.appliance import Appliance, Options
from shammah_runtime.cascade import Reply
from shammah_runtime.engine.evidence import MOST_TOKENS
from shammah_runtime.engine.memory import needed
from shammah_runtime.proposal import REPLACED, Proposal, Query
from shammah_runtime.stopping import Stop

Make = Callable[..., Appliance]
GRAPH = "int8/model.onnx"
# Texts that a tiny embedder with random weights finds near what they are near to.
ASKED = "what do i reset my password"
OTHER = "where do we store the old files"
ROWS = (
    ("00000000-0000-0000-0000-00000000000a", "how do i reset my password", ANSWER),
    ("00000000-0000-0000-0000-00000000000b", OTHER, "In the cellar of the north house."),
)


@pytest.fixture(scope="session")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedder; not to be changed."""
    return make_embedder(tmp_path_factory.mktemp("told"))


@pytest.fixture
def publish(tiny: Tiny, home: Home, embedder_folder: Path) -> Callable[..., str]:
    """Publish a version that brings ROWS along; `curve` is its evidence."""

    def published(curve: Evidence, threshold: float = ACCEPT_NOTHING, promote: bool = True, **told: Any) -> str:
        memory = Told(embedder_folder, told.pop("rows", ROWS), **told)
        return tiny.publish(
            home,
            threshold=threshold,
            graphs=({"evidence": curve},),
            prepare=memory.put(GRAPH),
            retrieval=memory.retrieval,
            promote=promote,
        )

    return published


SURE = evidence(0.5, intercept=5.0)
# Accepts what the model itself would say, which is ANSWER after every question.
LIKELY = evidence(0.5, intercept=2.0, mean=1.0)


def ask(appliance: Appliance, text: str) -> Reply:
    return appliance.conversation.ask(text, lambda _: None)


def attempt(reply: Reply) -> Attempt:
    """The first one of the learned tiers: that which weighs earlier answers."""
    return next(one for one in reply.attempts if one.tier == "learned")


def test_an_answer_that_the_model_finds_likely_is_repeated(make_appliance: Make, publish: Callable[..., str]) -> None:
    version = publish(LIKELY)
    reply = ask(make_appliance(), ASKED)
    assert reply.text == ANSWER
    assert (attempt(reply).tier, attempt(reply).outcome) == ("learned", "accepted")
    assert (reply.proposal.model_version, reply.proposal.repeats) == (version, ROWS[0][0])
    assert "confidence 0.8" in attempt(reply).reason
    assert "'how do i reset my password'" in attempt(reply).reason
    assert not reply.proposal.same_query


def test_an_answer_that_it_finds_unlikely_is_not(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(LIKELY, rows=ROWS[1:])
    appliance = make_appliance(Options(offline=True, watch=False))
    reply = ask(appliance, "where do we store old files")
    assert not reply.answered
    assert [(one.tier, one.outcome) for one in reply.attempts][:3] == [
        ("neural", "declined"),
        ("learned", "declined"),
        ("learned", "declined"),
    ]
    # The same words again are the one thing that needs no model.
    assert ask(appliance, OTHER).text == "In the cellar of the north house."


def test_it_scores_what_the_engine_scores(make_appliance: Make, publish: Callable[..., str], tiny: Tiny) -> None:
    publish(evidence(0.0, mean=1.0))
    reply = ask(make_appliance(), ASKED)
    ids = tiny.chat.answer(ANSWER, tiny.stop_ids)[:MOST_TOKENS]
    (scores,) = tiny.decoder("int8").score(tiny.chat.prompt(ASKED), [ids])
    assert f"likelihood {sum(scores) / len(scores):.2f}" in attempt(reply).reason


def test_what_the_guards_refuse_is_never_repeated(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(SURE, rows=ROWS[:1])
    appliance = make_appliance(Options(offline=True, watch=False))
    for text in ("how do i reset my username", "how do i not reset my password", "how do i reset my 2 password"):
        reply = ask(appliance, text)
        assert not reply.answered
        assert "but" in attempt(reply).reason


def test_the_model_answers_first(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(evidence(0.9), threshold=ACCEPT_ALL)
    reply = ask(make_appliance(), QUESTION)
    assert [(one.tier, one.outcome) for one in reply.attempts] == [("neural", "accepted")]
    assert reply.text == ANSWER


def test_the_model_does_not_say_in_its_own_words_what_the_guards_refuse(
    make_appliance: Make, publish: Callable[..., str]
) -> None:
    publish(SURE, threshold=ACCEPT_ALL, rows=ROWS[:1])
    appliance = make_appliance(Options(offline=True, watch=False))
    reply = ask(appliance, "how do i not reset my password")
    assert not reply.answered
    assert reply.attempts[0].tier == "neural"
    assert reply.attempts[0].reason.endswith(
        "but it is the answer to 'how do i reset my password', but one of the two is negated"
    )
    assert reply.attempts[0].confidence is not None


def test_a_version_without_evidence_or_threshold_repeats_nothing(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(dataclasses.replace(SURE, threshold=2.0))
    reply = ask(make_appliance(Options(offline=True, watch=False)), ASKED)
    assert not reply.answered
    assert "no threshold reached the target precision" in attempt(reply).reason


def test_a_confidence_or_threshold_that_is_no_number_lets_nothing_pass(
    make_appliance: Make, publish: Callable[..., str]
) -> None:
    # Finite numbers, of which the log-odds become inf - inf.
    publish(dataclasses.replace(evidence(0.0, intercept=1.7e308, similarity=1.7e308), bend=-1.0), threshold=ACCEPT_ALL)
    appliance = make_appliance(Options(offline=True, watch=False))
    model = appliance.models.current()
    assert model is not None
    calibration = dataclasses.replace(model.graph.calibration, threshold=float("nan"))
    model.graph = dataclasses.replace(model.graph, calibration=calibration)
    reply = ask(appliance, ASKED)
    assert not reply.answered
    assert reply.attempts[0].reason.endswith("below nan")
    assert attempt(reply).reason.startswith("confidence nan in the answer to")


@pytest.mark.parametrize("held", [False, True])
def test_a_query_is_answered_by_one_version(
    make_appliance: Make, publish: Callable[..., str], home: Home, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    first = publish(SURE)
    appliance = make_appliance(Options(offline=True, watch=False))
    # By others, as the answer of another query.
    kept = [appliance.models.current()] if held else []
    second = publish(SURE, promote=False)
    propose = appliance._neural.propose

    def swapped(query: Query) -> Proposal:
        proposal = propose(query)
        appliance.store.promote(second)
        appliance.models.look()
        return proposal

    monkeypatch.setattr(appliance._neural, "propose", swapped)
    reply = ask(appliance, ASKED)
    assert reply.attempts[0].tier == "neural"
    if held:
        assert (attempt(reply).outcome, reply.proposal.model_version) == ("accepted", first)
    else:
        assert (attempt(reply).outcome, attempt(reply).reason) == ("declined", REPLACED)
        # Nor is it for want of a version that words alone are enough.
        assert not reply.answered
    assert len(kept) == held
    assert ask(appliance, ASKED).proposal.model_version == second


def reached(message: str) -> None:
    raise AssertionError(message)


def test_a_query_that_nobody_wants_any_more_ends_at_the_next_step(
    make_appliance: Make, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(SURE, threshold=ACCEPT_ALL)
    appliance = make_appliance(Options(offline=True, watch=False))
    model = appliance.models.current()
    assert model is not None
    assert model.memory is not None
    steps = [
        (model.memory.embedder, "embed"),
        (appliance._verified, "_candidates"),
        (appliance._neural, "_most"),
        (appliance._neural, "_propose"),
    ]
    for place, (owner, name) in enumerate(steps):
        stop, work = Stop(), getattr(owner, name)

        def stopped(*given: Any, stop: Stop = stop, work: Callable[..., Any] = work) -> Any:
            found = work(*given)
            stop.ask()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, stopped)
            if place < 2:
                patched.setattr(appliance._neural, "_most", lambda _: reached("most"))
            if place < 3:
                patched.setattr("shammah_runtime.neural.read_prompt", lambda *_: reached("prompt"))
            if place == 0:
                patched.setattr("shammah_runtime.verified.candidates", lambda *_: reached("candidates"))
            with pytest.raises(InterruptedError):
                appliance.conversation.ask(ASKED, lambda _: None, "all", stop)


def test_what_another_version_found_backs_no_answer(
    make_appliance: Make, publish: Callable[..., str], tiny: Tiny, home: Home
) -> None:
    publish(SURE)
    appliance = make_appliance(Options(offline=True, watch=False))
    ask(appliance, ASKED)
    assert appliance._verified.neighbours(ASKED)
    tiny.publish(home)
    appliance.models.look()
    assert ask(appliance, ASKED).proposal.model_version == "v0002"
    assert appliance._verified.neighbours(ASKED) == []
    assert appliance._verified.found(ASKED) == []


def test_what_is_forgotten_while_the_model_answers_is_not_repeated(
    make_appliance: Make, publish: Callable[..., str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(SURE)
    log = ExchangeLog(home)
    log.append(Exchange(ROWS[0][1], ROWS[0][2], "import", id=ROWS[0][0]))
    appliance = make_appliance(Options(offline=True))
    appliance.models.wait()
    propose = appliance._neural.propose

    def forgets(query: Query) -> Proposal:
        proposal = propose(query)
        forget(log, home, Selection(ids=(ROWS[0][0],)))
        appliance.heeding.look()
        return proposal

    monkeypatch.setattr(appliance._neural, "propose", forgets)
    reply = ask(appliance, ASKED)
    assert reply.attempts[0].tier == "neural"
    assert reply.text != ANSWER


def test_a_follow_up_is_declined(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(SURE)
    appliance = make_appliance(Options(offline=True, watch=False))
    assert ask(appliance, ASKED).answered
    reply = ask(appliance, "and the other one")
    assert attempt(reply).reason == "the question depends on earlier turns"


def test_a_teachers_answer_is_found_by_meaning_at_once(
    make_appliance: Make, publish: Callable[..., str], claude: FakeClaude
) -> None:
    publish(evidence(0.5, similarity=40.0, intercept=-38.8))
    appliance = make_appliance()
    taught = ask(appliance, TAUGHT)
    assert (taught.error, taught.text) == (None, TAUGHT_ANSWER)
    reply = ask(appliance, "What do I bring to the banks?")
    assert (attempt(reply).tier, reply.text) == ("learned", TAUGHT_ANSWER)
    assert claude.calls == 1


def test_an_answer_that_was_rated_bad_is_withdrawn_and_stays_so(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(evidence(0.95, intercept=4.0), rows=ROWS[:1])
    appliance = make_appliance(Options(offline=True, watch=False))
    assert ask(appliance, ASKED).answered
    appliance.conversation.rate("bad")
    assert not ask(appliance, ASKED).answered
    again = make_appliance(Options(offline=True, watch=False))
    reply = ask(again, ASKED)
    assert not reply.answered
    assert "was wrong when this was asked before" in attempt(reply).reason
    # After another question the answer is trusted less, too.
    reply = ask(again, "how do i reset that password of mine")
    assert not reply.answered
    assert "right 0 and wrong 1 times before, below 0.95" in attempt(reply).reason


def learned(store: ModelStore, version: str) -> Learned:
    found = store.verify(version).retrieval
    assert found is not None
    return Learned.load(store.folder(version) / found.folder, found)


def test_what_was_forgotten_after_publication_is_not_repeated(
    make_appliance: Make, publish: Callable[..., str], home: Home
) -> None:
    log = ExchangeLog(home)
    for identity, query, answer in ROWS:
        log.append(Exchange(query=query, answer=answer, tier="teacher", id=identity))
    publish(SURE)
    appliance = make_appliance(Options(offline=True, watch=False))
    assert ask(appliance, ASKED).text == ANSWER
    forget(log, home, Selection(ids=(ROWS[0][0],)))
    for again in (appliance, make_appliance(Options(offline=True, watch=False))):
        assert ask(again, ASKED).text != ANSWER


def test_what_is_forgotten_leaves_the_index_of_every_version_at_once(
    make_appliance: Make, publish: Callable[..., str], home: Home
) -> None:
    log = ExchangeLog(home)
    for identity, query, answer in ROWS:
        log.append(Exchange(query=query, answer=answer, tier="teacher", id=identity))
    # The one that goes is the first of the answers, whose vectors follow it.
    versions = publish(SURE, rows=ROWS[::-1]), publish(SURE, rows=ROWS[::-1])
    store = ModelStore(home.models)
    before = learned(store, versions[0]).answer_vectors
    assert before is not None
    told = forget(log, home, Selection(ids=(ROWS[1][0],)))
    for version in versions:
        after = learned(store, version).answer_vectors
        assert after is not None
        assert np.array_equal(after, before[1:])
        assert f"1 exchange in the learned index of {version}" in told.removed
        retrieval = store.verify(version).retrieval
        assert retrieval is not None
        assert retrieval.rows == 1
        held = [path for path in store.folder(version).rglob("*") if path.is_file() and b"cellar" in path.read_bytes()]
        assert held == []
        assert [path.name for path in store.folder(version).glob("retrieval*")] == [retrieval.folder]
    assert ask(make_appliance(Options(offline=True, watch=False)), ASKED).text == ANSWER
    forget(log, home, Selection(ids=(ROWS[0][0],)))
    for version in versions:
        assert store.verify(version).retrieval is None
    assert not ask(make_appliance(Options(offline=True, watch=False)), ASKED).answered


def test_what_a_version_brings_along_needs_no_log(make_appliance: Make, publish: Callable[..., str], home: Home) -> None:
    publish(SURE)
    assert not home.log.exists()
    assert ask(make_appliance(Options(offline=True, no_log=True, watch=False)), ASKED).text == ANSWER


def test_a_log_of_other_exchanges_hides_nothing(make_appliance: Make, publish: Callable[..., str], home: Home) -> None:
    ExchangeLog(home).append(Exchange(query="what is it", answer="It.", tier="teacher"))
    publish(SURE)
    assert ask(make_appliance(Options(offline=True, watch=False)), ASKED).text == ANSWER


def test_a_row_that_the_log_no_longer_teaches_is_not_repeated(
    make_appliance: Make, publish: Callable[..., str], home: Home
) -> None:
    # The log that the version was made from, where one of the two answers has been rated bad since.
    identity, query, answer = ROWS[1]
    ExchangeLog(home).append(Exchange(query=query, answer=answer, tier="teacher", id=identity))
    publish(SURE)
    assert ask(make_appliance(Options(offline=True, watch=False)), ASKED).text != ANSWER


def test_turns_before_are_read_as_the_neural_tier_reads_them(make_appliance: Make, publish: Callable[..., str]) -> None:
    publish(SURE)
    appliance = make_appliance()
    ask(appliance, ASKED)
    reply = ask(appliance, "where do we store old files")
    assert reply.answered
    assert appliance.conversation.last is not None
    assert appliance.conversation.last[0].context[-2] == Message("user", ASKED)


def test_a_version_whose_embedder_was_swapped_is_refused(
    make_appliance: Make, tiny: Tiny, home: Home, embedder_folder: Path
) -> None:
    memory = Told(embedder_folder, ROWS)
    wrong = dataclasses.replace(memory.retrieval, embedder="0" * 64)
    tiny.publish(home, graphs=({"evidence": SURE},), prepare=memory.put(GRAPH), retrieval=wrong)
    appliance = make_appliance(Options(offline=True, watch=False))
    assert not ask(appliance, ASKED).answered
    assert "is not the one that its learned index was made with" in appliance.models.reason


def test_the_store_checks_the_index_too(publish: Callable[..., str], home: Home) -> None:
    version = publish(SURE)
    store = ModelStore(home.models)
    manifest = store.verify(version)
    assert manifest.retrieval is not None
    without = dataclasses.replace(manifest, retrieval=None)
    assert needed(manifest, manifest.graphs[0]) > needed(without, manifest.graphs[0])
    (store.folder(version) / "retrieval" / "learned.json").write_text("{}")
    with pytest.raises(Exception, match=r"learned\.json: not the bytes that were published"):
        store.verify(version)


def test_an_answer_is_repeated_in_the_words_that_the_version_was_taught(
    make_appliance: Make, publish: Callable[..., str], home: Home
) -> None:
    taught = "Old files are kept in the cellar of the north house, on shelf 4."
    logged = "On shelf 4: old files are kept in the cellar of the north house."
    ExchangeLog(home).append(Exchange(OTHER, logged, "teacher", id=ROWS[1][0]))
    publish(SURE, rows=((ROWS[1][0], OTHER, taught),))
    reply = ask(make_appliance(), "where do we store old files")
    assert (reply.text, reply.proposal.repeats) == (taught, ROWS[1][0])
