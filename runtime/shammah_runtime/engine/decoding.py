"""How an answer is drawn: the settings that the command line, the session and the engine share."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from shammah_data.errors import InputError
from shammah_data.settings import ServeSettings

# What config.toml may hold, an option may be.
_SETTINGS = {item.name: item.metadata for item in fields(ServeSettings)}


@dataclass(frozen=True)
class Decoding:
    """`temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 cut nothing off; `repetition_penalty` 1 changes nothing.

    An answer has at most `max_tokens`. What is given of it ends before the first of the `stop` strings, of which no model is
    told. With more than one of the `beams` the likeliest `answers` are searched for, where an answer's log-probability is
    divided by its length to the power of `length_penalty`. `logprobs` likeliest tokens are told beside each token of the
    answer. Raises InputError for a value out of range and for settings that contradict each other.
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
    answers: int = field(default=1, metadata={"least": 1, "most": 32})
    logprobs: int = field(default=0, metadata={"least": 0, "most": 100})

    def __post_init__(self) -> None:
        for item in fields(self):
            value, limits = getattr(self, item.name), item.metadata or _SETTINGS.get(item.name)
            if limits and not limits["least"] <= value <= limits["most"]:
                raise InputError(f"{item.name} {value} is out of range: {limits['least']} to {limits['most']}")
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
    if not text:
        raise InputError('stop needs a text, or a list of texts: ["###", "\\n\\n"], [] for none')
    if not text.startswith("["):
        return (text,)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f'stop {text} is not a list of texts: ["###", "\\n\\n"]')
    return tuple(found)
