"""The OpenAI shape, through the real SDK."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes.claude import GENERIC_ANSWER, FakeClaude
from fakes.listening import TOKEN, Listening
from fakes.versions import ACCEPT_NOTHING, ANSWER, QUESTION, TAUGHT, TAUGHT_ANSWER, Tiny, make_tiny
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import Proposal, Query

Serving = Callable[..., Listening]
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
FRENCH: list[Any] = [{"role": "system", "content": "Answer in French."}, *ASKED]


@pytest.fixture
def client() -> Iterator[Callable[[Listening], openai.OpenAI]]:
    made: list[openai.OpenAI] = []

    def make(server: Listening) -> openai.OpenAI:
        made.append(openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0))
        return made[-1]

    yield make
    for one in made:
        one.close()


Client = Callable[[Listening], openai.OpenAI]


@pytest.fixture
def local(tiny: Tiny, home: Home, serving: Serving, client: Client) -> openai.OpenAI:
    """A client of a server that answers everything itself."""
    tiny.publish(home, context_examples=1000)
    return client(serving(offline=True))


@pytest.fixture
def through(home: Home, claude: FakeClaude, serving: Serving, client: Client) -> openai.OpenAI:
    """A client of a server without a model, before a Claude."""
    return client(serving())


def rows(home: Home) -> list[dict[str, Any]]:
    return list(reversed(ExchangeLog(home).recent()))


# -- whole answers ----------------------------------------------------------------------------------------------------


def test_a_local_answer_tells_where_it_came_from(local: openai.OpenAI, home: Home) -> None:
    raw = local.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASKED)
    answer = raw.parse()
    (row,) = rows(home)
    assert answer.choices[0].message.content == row["answer"] == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None
    assert (answer.model, answer.object, answer.id) == ("v0001", "chat.completion", f"chatcmpl-{row['id']}")
    assert answer.created == int(answer.created)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (row["prompt_tokens"], row["answer_tokens"])
    assert answer.usage.total_tokens == row["prompt_tokens"] + row["answer_tokens"]
    assert (row["tier"], row["source"], row["turn"]) == ("neural", "http", 0)
    assert raw.headers["x-shammah-tier"] == "neural"
    assert raw.headers["x-shammah-confidence"] == f"{row['confidence']:.4f}"
    assert raw.headers["x-shammah-version"] == "v0001"
    assert raw.headers["x-shammah-exchange"] == str(row["id"])
    told = answer.model_extra["shammah"] if answer.model_extra else {}
    assert (told["tier"], told["confidence"], told["version"]) == ("neural", row["confidence"], "v0001")
    assert [attempt["tier"] for attempt in told["attempts"]] == ["neural"]


def test_the_teachers_answer_tells_its_model_and_tokens(through: openai.OpenAI, claude: FakeClaude, home: Home) -> None:
    raw = through.chat.completions.with_raw_response.create(model="shammah", messages=[{"role": "user", "content": TAUGHT}])
    answer = raw.parse()
    assert answer.choices[0].message.content == TAUGHT_ANSWER
    assert raw.headers["x-shammah-tier"] == "teacher"
    assert "x-shammah-confidence" not in raw.headers
    assert raw.headers["x-shammah-version"] == answer.model == rows(home)[0]["teacher_model"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(TAUGHT_ANSWER.split())
    # It is known at once: the second time nobody is asked.
    again = through.chat.completions.with_raw_response.create(model="shammah", messages=[{"role": "user", "content": TAUGHT}])
    assert again.headers["x-shammah-tier"] == "learned"
    assert claude.calls == 1


def test_log_probabilities_of_the_models_own_tokens(local: openai.OpenAI) -> None:
    answer = local.chat.completions.create(model="shammah", messages=ASKED, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(token.token for token in told.content) == ANSWER
    assert b"".join(bytes(token.bytes or []) for token in told.content).decode() == ANSWER
    for token in told.content:
        assert token.logprob <= 0.0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob
    bare = local.chat.completions.create(model="shammah", messages=ASKED, logprobs=True).choices[0].logprobs
    assert bare is not None
    assert [token.top_logprobs for token in bare.content or []] == [[]] * len(told.content)


def test_log_probabilities_cover_characters_of_several_tokens(
    home: Home, serving: Serving, client: Client, tmp_path: Path
) -> None:
    said = " Ж☃ at nine"
    make_tiny(tmp_path / "letters", said, ["int8"]).publish(home)
    asking = client(serving(offline=True))
    for stop, given in ((None, said), (" at", " Ж☃"), ("☃", " Ж"), (" nine", " Ж☃ at"), ("Ж", "")):
        told = asking.chat.completions.create(model="shammah", messages=ASKED, logprobs=True, top_logprobs=2, stop=stop)
        choice = told.choices[0]
        # An answer begins with no blank, though its first token may.
        assert choice.message.content == given.strip()
        content = choice.logprobs.content or [] if choice.logprobs else []
        assert "".join(token.token for token in content) == given
        assert b"".join(bytes(token.bytes or []) for token in content).decode() == given
        assert all(token.top_logprobs[0].token == token.token for token in content)
        # What has no text of its own has a probability all the same.
        assert stop is not None or len(content) == 1 + 2 + 3 + 2


def test_an_answer_is_cut_before_a_stop_string(local: openai.OpenAI, home: Home) -> None:
    cut = local.chat.completions.create(model="shammah", messages=ASKED, stop=["nothing", " at"], logprobs=True)
    assert cut.choices[0].message.content == "It opens"
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].logprobs is not None
    assert [token.token for token in cut.choices[0].logprobs.content or []] == ["It", " opens"]
    # What the client does not want to see is a part of the answer all the same.
    assert rows(home)[0]["answer"] == ANSWER


def test_how_an_answer_is_drawn_is_the_clients_to_say(local: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Decoding | None] = []
    propose = NeuralTier.propose

    def watched(tier: NeuralTier, query: Query) -> Proposal:
        seen.append(query.decoding)
        return propose(tier, query)

    monkeypatch.setattr(NeuralTier, "propose", watched)
    answer = local.chat.completions.create(
        model="shammah", messages=ASKED, temperature=0.7, top_p=0.95, seed=-4, max_tokens=20, n=1
    )
    assert answer.choices[0].message.content == ANSWER
    assert seen == [Decoding(temperature=0.7, top_p=0.95, seed=2**63 - 4, max_tokens=20)]


def test_few_tokens_leave_the_question_to_the_teacher_and_bind_it_too(
    tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving, client: Client
) -> None:
    tiny.publish(home)
    asking = client(serving())
    raw = asking.chat.completions.with_raw_response.create(model="shammah", messages=ASKED, max_completion_tokens=2)
    assert raw.headers["x-shammah-tier"] == "teacher"
    assert claude.requests[0].body["max_tokens"] == 2
    claude.fault = "max_tokens"
    short = asking.chat.completions.create(model="shammah-teacher", messages=ASKED, max_tokens=3)
    assert short.choices[0].finish_reason == "length"
    claude.fault = "refusal"
    refused = asking.chat.completions.create(model="shammah-teacher", messages=ASKED)
    assert refused.choices[0].finish_reason == "content_filter"


def test_earlier_messages_are_the_context(through: openai.OpenAI, claude: FakeClaude, home: Home) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "Shammah."},
        {"role": "user", "content": [{"type": "text", "text": "And what "}, {"type": "text", "text": "is that?"}]},
    ]
    through.chat.completions.create(model="shammah", messages=messages)
    assert claude.requests[0].body["messages"] == [*messages[:2], {"role": "user", "content": "And what is that?"}]
    (row,) = rows(home)
    assert (row["query"], row["turn"], json.loads(row["context"])) == ("And what is that?", 1, messages[:2])


def test_a_system_message_is_for_the_teacher_and_never_trained_on(
    tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving, client: Client
) -> None:
    tiny.publish(home)
    asking = client(serving())
    asking.chat.completions.create(model="shammah", messages=FRENCH)
    assert claude.requests[0].body["system"] == "Answer in French."
    assert ExchangeLog(home).learnable_count() == 0
    # What says nothing that every answer does not mind leaves the question to the model.
    plain: list[Any] = [{"role": "system", "content": "You are a helpful assistant."}, *ASKED]
    raw = asking.chat.completions.with_raw_response.create(model="shammah", messages=plain)
    assert raw.headers["x-shammah-tier"] == "neural"
    assert claude.calls == 1


def test_any_system_message_can_be_declared_plain(tiny: Tiny, home: Home, serving: Serving, client: Client) -> None:
    tiny.publish(home)
    answer = client(serving(offline=True, http={"plain_systems": ("*",)})).chat.completions.create(model="x", messages=FRENCH)
    assert answer.choices[0].message.content == ANSWER


def test_the_model_name_chooses_who_may_answer(
    tiny: Tiny, home: Home, claude: FakeClaude, serving: Serving, client: Client
) -> None:
    tiny.publish(home)
    asking = client(serving())
    assert asking.chat.completions.create(model="shammah-teacher", messages=ASKED).choices[0].message.content == GENERIC_ANSWER
    assert asking.chat.completions.create(model="shammah-local", messages=ASKED).choices[0].message.content == ANSWER
    with pytest.raises(openai.UnprocessableEntityError, match="only a local answer was asked for"):
        asking.chat.completions.create(model="shammah-local", messages=FRENCH)
    assert claude.calls == 1
    assert {model.id for model in asking.models.list()} == {"shammah", "shammah-local", "shammah-teacher"}
    assert asking.models.retrieve("shammah").owned_by == "shammah"
    with pytest.raises(openai.NotFoundError):
        asking.models.retrieve("gpt-4o")


def test_what_is_not_to_be_stored_is_not(local: openai.OpenAI, home: Home) -> None:
    local.chat.completions.create(model="shammah", messages=ASKED, store=False)
    assert rows(home) == []


def test_what_could_drive_a_terminal_does_not_come_through(through: openai.OpenAI, claude: FakeClaude) -> None:
    claude.answers = {QUESTION: "Nine\x1b]0;title\x07 o'\x9b31mclock\u202e."}
    answer = through.chat.completions.create(model="shammah", messages=ASKED)
    assert answer.choices[0].message.content == "Nine o'clock."
    streamed = through.chat.completions.create(model="shammah-teacher", messages=ASKED, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "Nine o'clock."


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_local_answer_is_streamed_with_its_tokens(local: openai.OpenAI, home: Home) -> None:
    chunks = list(
        local.chat.completions.create(
            model="shammah", messages=ASKED, stream=True, logprobs=True, stream_options={"include_usage": True}
        )
    )
    (row,) = rows(home)
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{row['id']}"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ANSWER
    assert chunks[0].choices[0].logprobs is not None
    assert "".join(token.token for token in chunks[0].choices[0].logprobs.content or []) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].model_extra is not None
    assert chunks[-2].model_extra["shammah"]["tier"] == "neural"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == row["answer_tokens"]
    assert chunks[-1].choices == []


def test_the_teacher_streams_as_it_speaks(through: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": TAUGHT}]
    chunks = list(through.chat.completions.create(model="shammah", messages=asked, stream=True))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == TAUGHT_ANSWER
    assert len(pieces) > 1
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_is_cut_before_a_stop_string_that_comes_in_pieces(through: openai.OpenAI, claude: FakeClaude) -> None:
    claude.answers = {QUESTION: "one two three four five six seven"}
    chunks = list(through.chat.completions.create(model="shammah", messages=ASKED, stream=True, stop="ree fou"))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two th"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_that_breaks_off_ends_with_an_error(through: openai.OpenAI, claude: FakeClaude, home: Home) -> None:
    claude.fault = "cut"
    asked: list[Any] = [{"role": "user", "content": TAUGHT}]
    stream = through.chat.completions.create(model="shammah", messages=asked, stream=True)
    pieces = []
    with pytest.raises(openai.APIError, match="broke in mid-answer"):
        pieces += [chunk.choices[0].delta.content for chunk in stream]
    (row,) = rows(home)
    assert not row["complete"]
    assert TAUGHT_ANSWER.startswith(row["answer"])


# -- no answer --------------------------------------------------------------------------------------------------------


def test_nobody_sure_and_nobody_to_ask(tiny: Tiny, home: Home, serving: Serving, client: Client) -> None:
    tiny.publish(home, ACCEPT_NOTHING)
    asking = client(serving(offline=True))
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        asking.chat.completions.create(model="shammah", messages=ASKED)
    assert caught.value.code == "not_answered"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "offline" in caught.value.message
    # Nothing has been sent yet, so that a stream can say so with its status too.
    with pytest.raises(openai.UnprocessableEntityError):
        asking.chat.completions.create(model="shammah", messages=ASKED, stream=True)


def test_a_teacher_that_fails_is_said_to_have_failed(through: openai.OpenAI, claude: FakeClaude) -> None:
    claude.fault = "unauthorized"
    with pytest.raises(openai.InternalServerError, match="Claude refused the API key") as caught:
        through.chat.completions.create(model="shammah", messages=ASKED)
    assert (caught.value.status_code, caught.value.code) == (502, "teacher_failed")


def test_a_teacher_that_is_left_alone_for_a_while_is_worth_another_try(
    home: Home, claude: FakeClaude, serving: Serving
) -> None:
    server = serving()
    claude.fault = "unauthorized"
    assert [server.complete("Anything?").status for _ in range(3)] == [502] * 3
    answer = server.complete("Anything?")
    assert (answer.status, answer.json["error"]["code"]) == (503, "teacher_failed")
    assert 50 <= int(answer.headers["retry-after"]) <= 60
    # With nobody to ask there is nothing to wait for.
    assert server.complete("Anything?", model="shammah-local").status == 422


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "the last message must be the user's, and not empty"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "Nine"}]}, "the last message must be the user's"),
        ({"messages": [{"role": "system", "content": "x"}]}, "the last message must be the user's"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type: Input should be 'text'",
        ),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "100001 characters"),
        ({"n": 2}, "n: Input should be less than or equal to 1"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"top_logprobs": 2}, "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools: not supported"),
        ({"response_format": {"type": "json_object"}}, "only text is supported"),
        ({"presence_penalty": 0.5}, "presence_penalty: not supported"),
        ({"seed": 2**64}, "seed"),
        ({"beams": 33}, "beams: Input should be less than or equal to 32"),
        ({"beams": 4, "temperature": 1.0}, "beams 4 and temperature 1.0"),
        ({"best_of": 4}, "best_of: Input should be less than or equal to 1"),
        ({"use_beam_search": True}, "use_beam_search: not supported"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options: not supported"),
        ({"modalities": ["text", "audio"]}, "modalities: only text is supported"),
        ({"stop_token_ids": [5]}, "stop_token_ids: not supported"),
    ],
)
def test_a_request_that_cannot_be_used_says_why(local: openai.OpenAI, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        local.post("/chat/completions", cast_to=object, body={"model": "shammah", "messages": ASKED, **changed})
    assert said in caught.value.message
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "invalid_request_error"
