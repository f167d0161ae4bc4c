"""Ratings over HTTP: whether an answer was right, and what it should have been. Pure; knows no socket."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shammah_data.errors import InputError
from shammah_runtime.desk import encodable

_ID = re.compile(r"(?:chatcmpl-|msg_)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")


class FeedbackRequest(BaseModel):
    """A word on one answer. `id`: that of the answer, or of its exchange; `weight`: 1, 3 (important) or 10 (critical)."""

    model_config = ConfigDict(strict=True)
    id: str
    rating: Literal["good", "bad"]
    correction: str | None = Field(None, max_length=1_000_000)
    # As in shammah_data.exchange.WEIGHTS.
    weight: Literal[1, 3, 10] = 1


def read(body: bytes) -> FeedbackRequest:
    """A rating with the bare id of an exchange. Raises InputError, pydantic.ValidationError."""
    request = FeedbackRequest.model_validate_json(body)
    found = _ID.fullmatch(request.id)
    if found is None:
        raise InputError("id: give that of an answer, or its field shammah.exchange")
    correction = None if request.correction is None else encodable(request.correction)
    return request.model_copy(update={"id": found[1], "correction": correction})
