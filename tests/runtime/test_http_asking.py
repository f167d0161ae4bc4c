"""From a history of messages to a query; pure."""

import dataclasses
import json
from typing import Any

import pytest
from pydantic import ValidationError

from shammah_data.errors import InputError
from shammah_data.exchange import WEIGHTS, Message
from shammah_data.settings import ServeSettings
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.http import anthropic_api, feedback_api, openai_api
from shammah_runtime.http.asking import Limits, Turn, query

LIMITS = Limits(Decoding(max_tokens=50, beams=4, answers=2), context_turns=2)


def asked(*turns: tuple[Any, str], systems: tuple[str, ...] = (), limits: Limits = LIMITS, **drawn: Any) -> Any:
    most = drawn.pop("most_tokens", None)
    return query(limits, "shammah", systems, [Turn(role, text) for role, text in turns], most, drawn)


def test_the_last_turn_is_the_question_and_those_before_it_its_context() -> None:
    found = asked(("user", "a"), ("assistant", "b"), ("user", " c "))
    assert (found.text, found.context) == ("c", (Message("user", "a"), Message("assistant", "b")))


def test_turns_of_one_role_are_one_and_empty_ones_none() -> None:
    found = asked(
        ("assistant", "hello"),
        ("user", "a"),
        ("user", "b"),
        ("assistant", ""),
        ("assistant", "c"),
        ("user", "d"),
        ("user", "e"),
    )
    assert found.context == (Message("user", "a\n\nb"), Message("assistant", "c"))
    assert found.text == "d\n\ne"


@pytest.mark.parametrize(("turns", "kept"), [(0, []), (1, ["c", "d"]), (9, ["a", "b", "c", "d"])])
def test_only_the_last_exchanges_are_kept(turns: int, kept: list[str]) -> None:
    history: Any = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    found = asked(*history, limits=dataclasses.replace(LIMITS, context_turns=turns))
    assert [turn.content for turn in found.context] == kept


@pytest.mark.parametrize(
    ("systems", "minded"),
    [
        ((), ""),
        (("You are a helpful assistant.",), ""),
        ((" You are a helpful assistant.\n", " Be brief. "), "Be brief."),
        (("Be brief.", "Be kind."), "Be brief.\n\nBe kind."),
    ],
)
def test_plain_system_messages_count_for_nothing(systems: tuple[str, ...], minded: str) -> None:
    assert asked(("user", "a"), systems=systems).system == minded


def test_half_a_letter_is_no_letter() -> None:
    found = asked(("user", "\ud83d"), ("assistant", "b\ude00"), ("user", "caf\ud83d"), systems=("\ud83d!",))
    assert (found.text, found.context[1].content, found.system) == ("caf?", "b?", "?!")


@pytest.mark.parametrize("drawn", [{"temperature": 0.5}, {"logprobs": 3}])
def test_what_no_beam_search_can_do_turns_it_off(drawn: dict[str, Any]) -> None:
    decoding = asked(("user", "a"), **drawn).decoding
    assert (decoding.beams, decoding.answers) == (1, 1)
    assert {name: getattr(decoding, name) for name in drawn} == drawn
    assert asked(("user", "a"), temperature=None).decoding == LIMITS.decoding


def test_what_is_asked_for_comes_before_what_is_set() -> None:
    assert asked(("user", "a"), beams=1).decoding == dataclasses.replace(LIMITS.decoding, beams=1, answers=1)
    hot = dataclasses.replace(LIMITS, decoding=Decoding(temperature=0.7))
    assert asked(("user", "a"), limits=hot, beams=3).decoding == Decoding(beams=3)
    for contrary in ({"temperature": 0.5}, {"logprobs": 3}):
        with pytest.raises(InputError, match="beams 3 and "):
            asked(("user", "a"), beams=3, **contrary)


GIVEN: dict[str, Any] = {"top_k": 7, "min_p": 0.25, "repetition_penalty": 1.5, "beams": 3, "length_penalty": -2.0, "seed": 11}


@pytest.mark.parametrize("api", [openai_api, anthropic_api])
def test_both_apis_take_what_the_settings_have(api: Any) -> None:
    def read(**further: Any) -> Any:
        body = {"model": "x", "max_tokens": 40, "messages": [{"role": "user", "content": "a"}], **further}
        return api.read(json.dumps(body).encode(), Limits(Decoding()))[1].query.decoding

    assert read(**GIVEN) == Decoding(max_tokens=40, **GIVEN)
    assert read(seed=-1) == Decoding(max_tokens=40, seed=2**63 - 1)
    ranges = {item.name: item.metadata for item in dataclasses.fields(ServeSettings)}
    for name in set(GIVEN) - {"seed"}:
        least, most = ranges[name]["least"], ranges[name]["most"]
        assert getattr(read(**{name: least}), name) == least
        assert getattr(read(**{name: most}), name) == most
        for beyond in (least - 1, most + 1, float("nan")):
            with pytest.raises((ValidationError, InputError)) as caught:
                read(**{name: beyond})
            assert name in str(caught.value)


@pytest.mark.parametrize(("given", "most"), [(None, 50), (10, 10), (1000, 50)])
def test_a_client_may_ask_for_fewer_tokens_and_not_for_more(given: int | None, most: int) -> None:
    found = asked(("user", "a"), most_tokens=given)
    assert (found.decoding.max_tokens, found.most_tokens) == (most, given)


@pytest.mark.parametrize("turns", [[], [("assistant", "a")], [("user", "a"), ("assistant", "b")], [("user", "")]])
def test_without_a_question_there_is_no_query(turns: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match="messages"):
        asked(*turns)


def test_the_weights_are_those_of_the_log() -> None:
    schema = feedback_api.FeedbackRequest.model_json_schema()
    assert tuple(schema["properties"]["weight"]["enum"]) == WEIGHTS
