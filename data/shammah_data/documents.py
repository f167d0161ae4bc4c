"""Lists of JSON objects, read one at a time, from a file or out of a zip. Knows JSON and zip files, not what is in them."""

import codecs
import contextlib
import json
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from shammah_data.errors import InputError

_MIB = 1 << 20
# The longest line or object that is read. No program sends more to a model at once (Anthropic takes 32 MB), and parsed it can
# take 24 times its length, when it is made of nothing but empty lists.
LONGEST = 32 * _MIB
# What a zip may unpack to, in all and for each packed byte; text packs to a tenth, bombs to a thousandth.
LARGEST_UNPACKED = 4096 * _MIB
LARGEST_RATIO = 200
_CHUNK = _MIB
_SPACE = re.compile(r"[ \t\r\n]*")
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)


def objects(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one at a time. Raises ValueError that says what is wrong, after those before it."""
    text = _Text(file)
    if text.next() != "[":
        raise ValueError("not a list")
    text.skip()
    mark = text.next()
    if mark == "]":
        text.skip()
    while mark != "]":
        if text.next() != "{":
            raise ValueError("not a list of objects" if text.next() else "it breaks off")
        yield text.value()
        mark = text.next()
        text.skip()
        if mark not in (",", "]"):
            raise ValueError("no comma between two objects" if mark else "it breaks off")
    if text.next():
        raise ValueError("something follows the end of the list")


class _Text:
    """A file as text, of which only what is looked at is held."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = json.JSONDecoder().raw_decode
        self._held = ""
        self._at = 0
        self._ended = False

    def next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self._held, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._held) or self._ended:
                return self._held[self._at : self._at + 1]
            self._read(_CHUNK)

    def skip(self) -> None:
        self._at += 1

    def value(self) -> Any:
        while True:
            try:
                value, self._at = self._decode(self._held, self._at)
            except json.JSONDecodeError as error:
                held = len(self._held) - self._at
                unterminated = error.msg.startswith("Unterminated string")
                # An error well before the end of what is held is none of its being cut short there.
                if not self._ended and not unterminated and error.pos < len(self._held) - 16:
                    raise ValueError(error.msg) from error
                if self._ended:
                    raise ValueError("it breaks off" if unterminated or error.pos >= len(self._held) else error.msg) from error
                if held > LONGEST:
                    raise ValueError(f"longer than {LONGEST // _MIB} MB") from error
                # Twice as much each time, so that a long object is not parsed over and over.
                self._read(max(held, _CHUNK))
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
            else:
                return value

    def _read(self, size: int) -> None:
        content = self._file.read(size)
        self._ended = not content
        self._held = self._held[self._at :] + self._decoder.decode(content, final=self._ended)
        self._at = 0


@contextlib.contextmanager
def reading_zip(path: Path) -> Iterator[None]:
    """What zipfile raises of a broken archive, as an InputError."""
    try:
        yield
    except _BROKEN_ZIP as error:
        raise InputError(f"{path}: a broken zip: {str(error) or type(error).__name__}") from error


def packed(path: Path, name: re.Pattern[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files in a zip whose names match, read where they are: the names in an archive lead nowhere. Raises InputError."""
    with reading_zip(path), zipfile.ZipFile(path) as archive:
        entries = sorted(
            (entry for entry in archive.infolist() if name.fullmatch(entry.filename.rsplit("/")[-1])),
            key=lambda entry: entry.filename,
        )
        names = [entry.filename.rsplit("/")[-1] for entry in entries]
        if not entries:
            raise InputError(
                f"{path}: holds no conversations.json: give an export of claude.ai, or unpack it and import its files"
            )
        if twice := [told for told, n in Counter(names).items() if n > 1]:
            raise InputError(f"{path}: holds several files {twice[0]}: unpack it and import each")
        for entry in entries:
            size, told = entry.file_size, entry.filename.rsplit("/")[-1]
            if entry.flag_bits & 1:
                raise InputError(f"{path}: is encrypted: unpack it and import its {told}")
            if size > LARGEST_UNPACKED or size > LARGEST_RATIO * max(entry.compress_size, 1024):
                raise InputError(f"{path}: its {told} unpacks to {size} bytes, which is no export: not read")
        for entry, told in zip(entries, names, strict=True):
            # zipfile reads no more than the size in the directory, and checks the sum at its end.
            with archive.open(entry) as file:
                yield told, file
