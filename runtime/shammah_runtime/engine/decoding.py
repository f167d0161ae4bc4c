"""How an answer is drawn: the settings that the command line, the session and the engine share."""

from dataclasses import dataclass

from shammah_data.errors import InputError


@dataclass(frozen=True)
class Decoding:
    """`temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 cut nothing off; `repetition_penalty` 1 changes nothing.

    An answer ends at the first of the `stop` strings that it holds, which is not shown, or at `max_tokens`. Raises InputError
    for a value out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in (
            ("temperature", 0.0, 5.0),
            ("top_k", 0, 10**6),
            ("top_p", 0.0, 1.0),
            ("seed", 0, 2**63 - 1),
            ("max_tokens", 1, 10**6),
            ("min_p", 0.0, 1.0),
            ("repetition_penalty", 0.1, 10.0),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} {value} is out of range: {least} to {most}")
        if not all(self.stop):
            raise InputError("a stop string must not be empty")
