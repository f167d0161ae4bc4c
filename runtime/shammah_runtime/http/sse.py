"""Server-sent events as bytes (WHATWG HTML, 9.2). Knows the framing, not what is told."""

import json
from typing import Any


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One event; JSON never holds a bare line end, which would break the frame."""
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {told}\n\n".encode() if name else f"data: {told}\n\n".encode()
