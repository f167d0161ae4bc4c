"""Chat format and tokenizer: what users write stays text, and streamed pieces are whole characters that add up."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from fakes.versions import CHAT, CLOSE, END, Tiny
from shammah_data.errors import ArtifactError
from shammah_data.exchange import Message
from shammah_runtime.engine.chat import ChatTokenizer

SPECIALS = [END, "<|im_start|>", CLOSE]
TEXT = st.text(st.sampled_from("aé 你🙂\u200d👩\n<|im_end|>"), max_size=20) | st.text(max_size=20) | st.sampled_from(SPECIALS)


def special_ids(chat: ChatTokenizer) -> list[int]:
    return [int(chat.raw.get_vocab()[token]) for token in SPECIALS]


def test_a_prompt_is_the_chat_format_around_the_texts(tiny: Tiny) -> None:
    ids = tiny.chat.prompt("How?", [Message("user", "Who?"), Message("assistant", "Me.")])
    assert tiny.chat.raw.decode(ids, skip_special_tokens=False) == (
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"
        "<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n"
    )


@given(query=TEXT, said=TEXT)
def test_specials_spelled_by_users_or_models_stay_text(tiny: Tiny, query: str, said: str) -> None:
    specials = special_ids(tiny.chat)
    assert not set(specials) & set(tiny.chat.encode(query))
    assert tiny.chat.decode(tiny.chat.encode(query)) == query
    # The format's own and no others, as many as for harmless texts.
    ids = tiny.chat.prompt(query, [Message("user", said), Message("assistant", query)])
    assert [ids.count(token) for token in specials] == [0, 4, 3]


@given(text=TEXT)
def test_an_answer_to_train_on_is_its_text_and_one_stop(tiny: Tiny, text: str) -> None:
    ids = tiny.chat.answer(text, tiny.stop_ids)
    assert ids[-1] == tiny.chat.raw.token_to_id(CLOSE)
    assert tiny.chat.decode(ids) == text


def test_an_answer_closes_with_the_first_stop_id_where_the_format_has_none(tiny: Tiny) -> None:
    assert tiny.chat.answer("x", (7, 8))[-1] == 7


def test_a_prompt_of_training_is_the_beginning_of_the_next_turns(tiny: Tiny) -> None:
    first = [*tiny.chat.prompt("Who?"), *tiny.chat.answer("Me.", tiny.stop_ids)]
    second = tiny.chat.prompt("How?", [Message("user", "Who?"), Message("assistant", "Me.")])
    assert second[: len(first)] == first


@given(data=st.data(), text=st.text(st.characters(codec="utf-8"), max_size=12))
def test_streamed_pieces_are_whole_characters_and_add_up(tiny: Tiny, data: st.DataObject, text: str) -> None:
    # Bytes as tokens, some of them torn out or put in: every way to be invalid.
    ids = [token for character in text + "你🙂" for token in tiny.chat.encode(character)]
    noise = st.integers(0, tiny.chat.vocab - 1)
    for at, token in data.draw(st.lists(st.tuples(st.integers(0, len(ids)), noise), max_size=5)):
        ids.insert(at, token)
    for at in sorted(data.draw(st.sets(st.integers(0, len(ids) - 1), max_size=3)), reverse=True):
        del ids[at]
    stream = tiny.chat.stream()
    pieces = [stream.push(token) for token in ids]
    assert not any(piece.endswith("\N{REPLACEMENT CHARACTER}") for piece in pieces)
    assert "".join([*pieces, stream.close()]) == tiny.chat.decode(ids)


@given(text=st.text(st.characters(codec="utf-8"), max_size=20))
def test_valid_text_is_streamed_without_a_rest(tiny: Tiny, text: str) -> None:
    stream = tiny.chat.stream()
    pieces = [stream.push(token) for token in tiny.chat.encode(text + ".")]
    assert stream.close() == ""
    assert "".join(pieces) == text + "."


def test_the_rest_of_an_unfinished_character_comes_at_the_end(tiny: Tiny) -> None:
    *whole, _ = tiny.chat.encode("a" + "\N{OLD ITALIC LETTER A}")
    stream = tiny.chat.stream()
    assert "".join(stream.push(token) for token in whole) == "a"
    assert set(stream.close()) == {"\N{REPLACEMENT CHARACTER}"}


@pytest.fixture(scope="module", params=[False, True], ids=["as Gemma", "as Llama 2"])
def fallback(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """A tokenizer with a token for every byte; as that of Llama 2 it takes the first blank away."""
    bytes_and_words = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "a", "你", "é", ".", "\ufffd"]
    vocab = {token: number for number, token in enumerate(["<unk>", *SPECIALS, *bytes_and_words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    blanks, strip = normalizers.Replace(" ", "▁"), [decoders.Strip(" ", 1, 0)] if request.param else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks]) if request.param else blanks
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    tokenizer.add_special_tokens(SPECIALS)
    path = tmp_path_factory.mktemp("fallback") / "tokenizer.json"
    tokenizer.save(str(path))
    return ChatTokenizer(path, CHAT)


@given(
    ids=st.lists(st.integers(0, 266) | st.sampled_from([0x61 + 4, 0xE4 + 4, 0xBD + 4, 0xA0 + 4, 260, 262, 263]), max_size=12),
    text=st.text(st.sampled_from("a 你🙂é\n."), max_size=8),
)
@example(ids=[0xE4 + 4, 0xBD + 4, 0xA0 + 4, 0xFF + 4, 262], text="")
def test_bytes_that_form_no_character_leave_what_was_shown(fallback: ChatTokenizer, ids: list[int], text: str) -> None:
    ids = [*fallback.encode(text), *ids]
    stream = fallback.stream()
    pieces = [stream.push(token) for token in ids]
    assert not any(piece.endswith("\N{REPLACEMENT CHARACTER}") for piece in pieces)
    shown, whole = "".join([*pieces, stream.close()]), fallback.decode(ids)
    # A run of bytes is all marks in the whole, where it is not valid from its beginning to its end.
    assert shown == whole or "\N{REPLACEMENT CHARACTER}" in whole


def test_a_character_stays_before_bytes_that_form_none(fallback: ChatTokenizer) -> None:
    stream = fallback.stream()
    assert [stream.push(token) for token in (0xE4 + 4, 0xBD + 4, 0xA0 + 4, 0xFF + 4, 262)] == ["", "", "你", "", "\ufffda"]
    assert stream.close() == ""


@given(text=st.text(st.sampled_from("a 你🙂é."), min_size=1, max_size=8), ids=st.lists(st.integers(0, 266), max_size=4))
def test_a_look_ahead_tells_what_a_token_would_add(fallback: ChatTokenizer, text: str, ids: list[int]) -> None:
    stream, other = fallback.stream(), fallback.stream()
    for token in [*fallback.encode(text), *ids]:
        stream.peek(7)
        assert stream.peek(token) == stream.push(token) == other.push(token)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\x00"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: not a tokenizer: \S"):
        ChatTokenizer(path, CHAT)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a tokenizer"):
        ChatTokenizer(tmp_path / "tokenizer.json", CHAT)
