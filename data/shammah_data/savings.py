"""What local answers have saved: calls counted, money estimated under stated assumptions. Knows SQL, no prices."""

from dataclasses import dataclass

from shammah_data.queries import ASKED_HERE
from shammah_data.session import Session, fetch
from shammah_data.text import counted


@dataclass(frozen=True)
class Savings:
    """Over the answers given while serving. A local answer that was rated bad saved nothing and is no `local` one.

    `mean_usd`: what an answer of the teacher cost, over the `priced` ones whose cost is known; None without any.
    `audits_usd`: what it cost to put local answers to the teacher as well.
    """

    answered: int
    local: int
    priced: int
    mean_usd: float | None
    spent_usd: float
    audits_usd: float

    @property
    def saved_usd(self) -> float | None:
        """What the local answers would have cost at the teacher's mean, less the audits; None where no cost is known."""
        return None if self.mean_usd is None else self.local * self.mean_usd - self.audits_usd


def savings(session: Session) -> Savings:
    """Count what the log holds."""
    (row,) = fetch(
        session,
        "SELECT count(*) FILTER (given) AS answered, "
        "count(*) FILTER (given AND tier <> 'teacher' AND rating IS DISTINCT FROM 'bad') AS local, "
        "count(cost_usd) FILTER (given AND tier = 'teacher') AS priced, "
        "avg(cost_usd) FILTER (given AND tier = 'teacher') AS mean_usd, "
        "coalesce(sum(cost_usd) FILTER (source <> 'audit'), 0) AS spent_usd, "
        "coalesce(sum(cost_usd) FILTER (source = 'audit'), 0) AS audits_usd FROM ("
        f"SELECT *, complete AND trim(answer) <> '' AND {ASKED_HERE} AS given FROM rated)",
    )
    return Savings(**row)


def savings_lines(found: Savings, teacher: str = "Claude") -> list[str]:
    """In words, with the assumptions."""
    share = f" ({found.local / found.answered:.0%})" if found.answered else ""
    lines = [f"saved      {found.local} of {counted(found.answered, 'answer')} needed no call to {teacher}{share}"]
    if found.saved_usd is None or found.mean_usd is None:
        lines.append(f"money      not known: no answer of {teacher} whose price is known is in the log")
    else:
        audits = f", less ${found.audits_usd:.4f} for audits" if found.audits_usd else ""
        lines.append(
            f"money      ${found.saved_usd:.4f} saved: {found.local} x ${found.mean_usd:.5f}, the mean of {found.priced} "
            f"answers of {teacher} in the log{audits}"
        )
    lines.append(f"spent      ${found.spent_usd:.4f} on {teacher}'s answers by the price table, audits apart")
    lines.append("           assumed: every local answer not rated bad saved one call of mean cost; power is not counted")
    return lines
