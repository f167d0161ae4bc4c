"""What a request of either API may say of how the local model's answer is drawn, under the names of the settings. Pure."""

from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shammah_data.settings import ServeSettings

_RANGES = {item.name: item.metadata for item in fields(ServeSettings)}


def _as_set(name: str) -> Any:
    """A field that may be what the setting may be."""
    return Field(None, ge=_RANGES[name]["least"], le=_RANGES[name]["most"])


class Drawn(BaseModel):
    """What neither API has or only one of them, and clients of others send; fields that are not listed are passed over."""

    model_config = ConfigDict(strict=True, extra="allow")
    top_k: int | None = _as_set("top_k")
    min_p: float | None = _as_set("min_p")
    repetition_penalty: float | None = _as_set("repetition_penalty")
    beams: int | None = _as_set("beams")
    length_penalty: float | None = _as_set("length_penalty")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)

    def drawn(self, **further: Any) -> dict[str, Any]:
        """The fields of `Decoding` of that name, and the `further` ones; None: not given."""
        own = {name: getattr(self, name) for name in Drawn.model_fields if name != "seed"}
        return own | {"seed": None if self.seed is None else self.seed % 2**63} | further
