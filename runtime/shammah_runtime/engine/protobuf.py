"""The wire format of protocol buffers, as far as a graph needs it that is changed in memory; the runtime goes without onnx.

https://protobuf.dev/programming-guides/encoding/ describes it. A message is a list of fields; what is not understood keeps its
bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VARINT, LENGTH_DELIMITED = 0, 2
# Wire types of so many bytes.
_FIXED = {1: 8, 5: 4}


@dataclass(frozen=True)
class Field:
    """One field.

    raw: all its bytes. content: what a length-delimited one holds, or the bytes of a fixed one. value: the number of a varint.
    """

    number: int
    raw: bytes
    content: bytes = b""
    value: int = 0


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message, in order. Raises ValueError for what is none."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        content, value = b"", 0
        match key & 7:
            case kind if kind == VARINT:
                value, at = _varint(message, at)
            case kind if kind == LENGTH_DELIMITED or kind in _FIXED:
                length, at = (_FIXED[kind], at) if kind in _FIXED else _varint(message, at)
                content = message[at : at + length]
                at += length
            case kind:
                raise ValueError(f"there is no wire type {kind}")
        if at > len(message):
            raise ValueError("a field ends behind its message")
        yield Field(key >> 3, message[start:at], content, value)


def delimited(number: int, content: bytes) -> bytes:
    """A length-delimited field: bytes, a string or a message."""
    return _encoded(number << 3 | LENGTH_DELIMITED) + _encoded(len(content)) + content


def varint(number: int, value: int) -> bytes:
    """A field that holds a number of at least 0."""
    return _encoded(number << 3 | VARINT) + _encoded(value)


def strings(number: int, values: Iterable[bytes]) -> bytes:
    """A repeated field of strings."""
    return b"".join(delimited(number, value) for value in values)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number does not end")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
