"""Which sessions a version on trial answers. Pure: knows names and a share, no versions."""

import hashlib


def falls_to(candidate: str, session: str, share: float) -> bool:
    """Whether the candidate answers a session: always the same, for `share` of all sessions, other ones for each version."""
    digest = hashlib.sha256(f"{candidate}\n{session}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:7], "big") < share * 2**56
