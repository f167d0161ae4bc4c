"""Which sessions, or which part of the time, a version on trial answers. Pure: knows names and a share, no versions."""

import hashlib

# Where memory allows one engine only, the candidate has the first part of each such period.
_PERIOD_SECONDS = 600.0


def falls_to(candidate: str, session: str, share: float) -> bool:
    """Whether the candidate answers a session: always the same, for `share` of all sessions, other ones for each version."""
    digest = hashlib.sha256(f"{candidate}\n{session}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:7], "big") < share * 2**56


def has_turn(seconds: float, share: float) -> bool:
    """Whether it is the candidate's turn, by a clock that is the same to all."""
    return seconds % _PERIOD_SECONDS < share * _PERIOD_SECONDS


def part(share: float, in_turns: bool) -> str:
    """What a candidate is tried on, in words."""
    if not in_turns:
        return f"on {share:.0%} of the sessions"
    turns = f"in the first {share * _PERIOD_SECONDS / 60:.1f} of every {_PERIOD_SECONDS / 60:.0f} minutes"
    return f"{turns}, audits ask one version alone"
