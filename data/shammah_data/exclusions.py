"""Why exchanges are not learned from: counts by reason, for the card of a training run. Knows SQL, no files."""

from datetime import datetime

from shammah_data.session import Session, fetch, literal

# The first reason that holds is the one that counts. What none holds of is learnable (see the view of that name).
_REASON = r"""
    CASE WHEN NOT trainable THEN 'not trainable'
         WHEN correction IS NOT NULL AND NOT withdrawn THEN NULL
         WHEN NOT regexp_matches(answer, '\S') THEN 'unanswered or failed'
         WHEN NOT complete THEN 'partial'
         WHEN rating = 'bad' THEN 'rated bad, no correction'
         WHEN tier NOT IN ('teacher', 'import') AND rating IS DISTINCT FROM 'good' THEN 'own answer, not approved'
    END
"""


def left_out_of(session: Session, until: datetime) -> dict[str, int]:
    """How many of the exchanges logged up to `until` (UTC) are not in a snapshot of that time, by reason; and the forgotten."""
    moment = f"{literal(until.isoformat())}::TIMESTAMP"
    found = fetch(
        session,
        f"SELECT reason, count(*) AS n FROM (SELECT {_REASON} AS reason FROM rated WHERE logged_at <= {moment}) "
        "WHERE reason IS NOT NULL GROUP BY reason ORDER BY n DESC, reason",
    )
    (gone,) = fetch(session, f"SELECT count(*) AS n FROM tombstones WHERE logged_at <= {moment}")
    counts = {row["reason"]: int(row["n"]) for row in found}
    return counts | ({"forgotten": int(gone["n"])} if gone["n"] else {})
