"""The Anthropic shape, through the real SDK."""

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from fakes.claude import FakeClaude
from fakes.listening import TOKEN, Listening
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog

Serving = Callable[..., Listening]
Client = Callable[[Listening], anthropic.Anthropic]
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def client() -> Iterator[Client]:
    made: list[anthropic.Anthropic] = []

    def make(server: Listening) -> anthropic.Anthropic:
        made.append(anthropic.Anthropic(base_url=server.url, api_key=TOKEN, max_retries=0))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def local(tiny: Tiny, home: Home, serving: Serving, client: Client) -> anthropic.Anthropic:
    """A client of a server that answers everything itself."""
    tiny.publish(home)
    return client(serving(offline=True))


@pytest.fixture
def through(home: Home, claude: FakeClaude, serving: Serving, client: Client) -> anthropic.Anthropic:
    """A client of a server without a model, before a Claude."""
    return client(serving())


def row(home: Home) -> dict[str, Any]:
    return ExchangeLog(home).recent(1)[0]


def test_a_local_answer_tells_where_it_came_from(local: anthropic.Anthropic, home: Home) -> None:
    raw = local.messages.with_raw_response.create(model="claude-sonnet-5-5", max_tokens=100, messages=ASKED)
    answer = raw.parse()
    kept = row(home)
    assert [block.text for block in answer.content if block.type == "text"] == [ANSWER]
    assert (answer.id, answer.model, answer.role) == (f"msg_{kept['id']}", "v0001", "assistant")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (kept["prompt_tokens"], kept["answer_tokens"])
    assert raw.headers["x-shammah-tier"] == "neural"
    assert raw.headers["x-shammah-version"] == "v0001"


def test_a_stream_adds_up_to_the_answer(through: anthropic.Anthropic, home: Home) -> None:
    asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": TAUGHT}]}]
    with through.messages.stream(model="claude-sonnet-5-5", max_tokens=100, messages=asked) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    kept = row(home)
    assert "".join(pieces) == TAUGHT_ANSWER
    assert len(pieces) > 1
    assert message.id == f"msg_{kept['id']}"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == kept["answer_tokens"]


def test_the_events_come_in_the_documented_order(local: anthropic.Anthropic) -> None:
    events = list(local.messages.create(model="x", max_tokens=100, messages=ASKED, stream=True))
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2].model_extra is not None
    assert events[-2].model_extra["shammah"]["tier"] == "neural"


@pytest.mark.parametrize("streamed", [False, True])
def test_which_stop_sequence_ended_the_answer_is_told(local: anthropic.Anthropic, streamed: bool) -> None:
    options: dict[str, Any] = {"model": "x", "max_tokens": 100, "messages": ASKED, "stop_sequences": ["noon", " nine"]}
    if streamed:
        with local.messages.stream(**options) as stream:
            message: Any = stream.get_final_message()
    else:
        message = local.messages.create(**options)
    assert message.content[0].text == "It opens at"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " nine")


def test_the_system_prompt_reaches_the_teacher(through: anthropic.Anthropic, claude: FakeClaude, home: Home) -> None:
    parts: list[Any] = [{"type": "text", "text": "Answer in "}, {"type": "text", "text": "French."}]
    through.messages.create(model="x", max_tokens=100, messages=ASKED, system=parts)
    assert claude.requests[0].body["system"] == "Answer in French."
    assert not row(home)["trainable"]


@pytest.mark.parametrize(("fault", "reason"), [("max_tokens", "max_tokens"), ("refusal", "refusal")])
def test_an_answer_that_was_cut_short_says_so(
    through: anthropic.Anthropic, claude: FakeClaude, fault: Any, reason: str
) -> None:
    claude.fault = fault
    assert through.messages.create(model="x", max_tokens=100, messages=ASKED).stop_reason == reason


def test_errors_have_their_shape(tiny: Tiny, home: Home, serving: Serving, client: Client) -> None:
    tiny.publish(home, ACCEPT_NOTHING)
    asking = client(serving(offline=True))
    with pytest.raises(anthropic.UnprocessableEntityError) as caught:
        asking.messages.create(model="x", max_tokens=100, messages=ASKED)
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": caught.value.api_message},
        "request_id": None,
    }
    wrong: dict[str, Any] = {"model": "x", "max_tokens": 0, "messages": ASKED}
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Input should be greater than or equal to 1"):
        asking.messages.create(**wrong)
    for extra in ({"tools": [{"name": "x"}]}, {"tool_choice": {"type": "any"}}, {"mcp_servers": [{"name": "x"}]}):
        with pytest.raises(anthropic.BadRequestError, match=f"{next(iter(extra))}: not supported"):
            asking.messages.create(model="x", max_tokens=9, messages=ASKED, extra_body=extra)
    shape: Any = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format: not supported"):
        asking.messages.create(model="x", max_tokens=9, messages=ASKED, output_config=shape)
    image: Any = {"type": "image", "source": {"type": "url", "url": "http://x"}}
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0\.type: Input should be 'text'"):
        asking.messages.create(model="x", max_tokens=9, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.AuthenticationError):
        asking.with_options(api_key="wrong").messages.create(model="x", max_tokens=9, messages=ASKED)


def test_a_stream_that_breaks_off_ends_with_an_error(through: anthropic.Anthropic, claude: FakeClaude) -> None:
    claude.fault = "error_event"
    asked: list[Any] = [{"role": "user", "content": TAUGHT}]
    with (
        pytest.raises(anthropic.APIStatusError, match="Claude is overloaded"),
        through.messages.stream(model="x", max_tokens=100, messages=asked) as stream,
    ):
        stream.until_done()


def test_the_models_are_listed_for_them_too(local: anthropic.Anthropic) -> None:
    assert [model.id for model in local.models.list()] == ["shammah", "shammah-local", "shammah-teacher"]
