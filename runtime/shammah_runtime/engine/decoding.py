"""How an answer is drawn: the settings that the command line, the session and the engine share."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from shammah_data.errors import InputError


@dataclass(frozen=True)
class Decoding:
    """`temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 cut nothing off; `repetition_penalty` 1 changes nothing.

    An answer ends at the first of the `stop` strings that it holds, which is not shown, or at `max_tokens`. With more than one
    of the `beams` the likeliest `answers` are searched for, where an answer's log-probability is divided by its length to the
    power of `length_penalty`. `logprobs` likeliest tokens are told beside each token of the answer. Raises InputError for a
    value out of range and for settings that contradict each other.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    answers: int = 1
    logprobs: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("temperature", 0.0, 5.0),
            ("top_k", 0, 10**6),
            ("top_p", 0.0, 1.0),
            ("seed", 0, 2**63 - 1),
            ("max_tokens", 1, 10**6),
            ("min_p", 0.0, 1.0),
            ("repetition_penalty", 0.1, 10.0),
            ("beams", 1, 32),
            ("length_penalty", -10.0, 10.0),
            ("answers", 1, 32),
            ("logprobs", 0, 100),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} {value} is out of range: {least} to {most}")
        if not all(self.stop):
            raise InputError("a stop string must not be empty")
        if self.answers > self.beams:
            raise InputError(f"answers {self.answers} is more than beams {self.beams}, among which they are found")
        if self.beams > 1 and self.temperature > 0.0:
            raise InputError(
                f"beams {self.beams} and temperature {self.temperature}: a beam search draws nothing, set one of them"
            )
        if self.beams > 1 and self.logprobs:
            raise InputError(f"beams {self.beams} and logprobs {self.logprobs}: a beam search tells of its own tokens only")

    @classmethod
    def of(cls, settings: object, changes: Mapping[str, Any]) -> Self:
        """The fields that `settings` has, the changes instead of them, and the defaults for the rest."""
        known = {item.name: getattr(settings, item.name) for item in fields(cls) if hasattr(settings, item.name)}
        return cls(**{**known, **changes})

    def changed(self, name: str, text: str, known: Mapping[str, Any]) -> Self:
        """With one of the `known` settings as a user wrote it: a number, for `stop` a text or a JSON list of texts.

        Raises InputError for an unknown name, and for a value that is none or contradicts the others.
        """
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"unknown setting {name}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
            )
        value: Any
        if name == "stop":
            value = _texts(text)
        else:
            kind = type(getattr(self, name))
            try:
                value = kind(text)
            except ValueError:
                raise InputError(f"{name} {text!r} is not {'a whole number' if kind is int else 'a number'}") from None
        return replace(self, **{name: value})


def _texts(text: str) -> tuple[str, ...]:
    if not text.startswith("["):
        return (text,) if text else ()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f'stop {text} is not a list of texts: ["###", "\\n\\n"]')
    return tuple(found)
