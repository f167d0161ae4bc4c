"""Conversations to token ids and back, in the chat format of the manifest. Knows no model.

Training and serving both encode here, so that a model meets at run time exactly the ids it was trained on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from shammah_data.errors import ArtifactError
from shammah_data.exchange import Message
from shammah_data.manifest import ChatFormat


class ChatTokenizer:
    """A tokenizer.json and a chat format.

    What users and models write is encoded as plain text: a special token spelled out in it stays text. Only the format's
    own prefixes and suffixes become special tokens.
    """

    def __init__(self, tokenizer_json: Path, chat: ChatFormat) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
        except Exception as error:  # tokenizers raises bare Exception for any unreadable file
            raise ArtifactError(f"{tokenizer_json}: not a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._start: list[int] = self._special(chat.start)
        self._turns = {
            "user": (self._special(chat.user_prefix), self._special(chat.user_suffix)),
            "assistant": (self._special(chat.assistant_prefix), self._special(chat.assistant_suffix)),
        }
        self._tokenizer.encode_special_tokens = True

    def _special(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    @property
    def vocab(self) -> int:
        """Token ids are below this."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Plain text to ids; no special token comes out of it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def before_question(self) -> list[int]:
        """Ids of a conversation up to where its first question begins."""
        return [*self._start, *self._turns["user"][0]]

    def prompt(self, query: str, context: Sequence[Message] = ()) -> list[int]:
        """Ids of a conversation up to where the answer to `query` begins."""
        ids = list(self._start)
        for message in (*context, Message("user", query)):
            prefix, suffix = self._turns[message.role]
            ids += [*prefix, *self.encode(message.content), *suffix]
        return ids + self._turns["assistant"][0]

    def answer(self, text: str, stop_ids: Sequence[int]) -> list[int]:
        """Ids of an answer as the model should produce it: the text and the first stop id of its closing mark."""
        suffix = self._turns["assistant"][1]
        stop = next((token for token in suffix if token in stop_ids), stop_ids[0])
        return [*self.encode(text), stop]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def stream(self) -> "TextStream":
        """A decoder for one answer."""
        return TextStream(self.decode)

    @property
    def raw(self) -> Tokenizer:
        """The tokenizer itself."""
        return self._tokenizer


class TextStream:
    """Ids to text as they come; a character is never split, and the pieces add up to the decoded whole.

    But where bytes that form no character follow one in a tokenizer with byte fallback, whose decoder then gives up that
    character too: what has been shown stays, and the bytes behind it are read alone.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        # The tokens of the last piece, which decide how the next ones are read, and those after them.
        self._before: list[int] = []
        self._shown = ""
        self._open: list[int] = []

    def push(self, token: int) -> str:
        """Text that this token completes; empty while a character is still open."""
        self._open.append(token)
        piece = self._piece()
        if not _closed(piece):
            return ""
        self._before, self._open = self._open, []
        self._shown = self._decode(self._before)
        return piece

    def peek(self, token: int) -> str:
        """What `push` would give for this token."""
        self._open.append(token)
        piece = self._piece()
        self._open.pop()
        return piece if _closed(piece) else ""

    def close(self) -> str:
        """What is left: the replacement marks of characters that never became whole."""
        return self._piece()

    def _piece(self) -> str:
        text = self._decode([*self._before, *self._open])
        return text[len(self._shown) :] if text.startswith(self._shown) else self._decode(self._open)


def _closed(piece: str) -> bool:
    return bool(piece) and not piece.endswith("\N{REPLACEMENT CHARACTER}")
