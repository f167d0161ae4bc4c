"""What serves and what the log holds, in lines for people. Every figure is counted, none is estimated."""

from collections.abc import Sequence
from datetime import datetime

from shammah_data.audit_queries import judged
from shammah_data.auditing import Judged, measured
from shammah_data.session import LogTakenError
from shammah_data.targets import beyond, held_to, told
from shammah_data.text import counted
from shammah_data.verdicts import verdicts
from shammah_runtime.appliance import Appliance
from shammah_runtime.engine.choice import listed


def status_lines(appliance: Appliance) -> list[str]:
    """Version, provider, exchanges per tier, and exchanges that wait for training."""
    model = appliance.models.serving()
    lines = []
    since: datetime | None = None
    if model is None:
        lines.append(f"model      none: {appliance.models.reason}")
    else:
        calibration, evidence = model.graph.calibration, model.graph.evidence
        since = datetime.fromisoformat(model.manifest.snapshot_until)
        rows = counted(model.manifest.snapshot_rows, "exchange")
        lines.append(f"model      {model.description}, base {model.manifest.base}, trained on {rows}")
        held = f"; the version holds {listed(model.manifest)}" if len(model.manifest.graphs) > 1 else ""
        lines.append(f"graph      {model.graph.precision} on {model.graph.provider}: {model.why}{held}")
        if (reason := beyond(calibration, appliance.target)) is not None:
            lines.append(f"threshold  no answers: {reason}")
        else:
            lines.append(f"threshold  {told(held_to(calibration, appliance.target))}")
            if evidence is not None:
                lines.append(f"           earlier ones again: {told(held_to(evidence, appliance.target))}")
        if raised := appliance.guard.of(model.manifest.version):
            given = f"answers from {raised.threshold:.2f} on" if raised.threshold <= 1.0 else "no answers"
            lines.append(f"raised     {given} since {raised.since}: {raised.reason}")
    if (trial := appliance.models.trial()) is not None:
        lines.append(f"candidate  {trial}")
    if (beside := appliance.models.compared()) is not None:
        lines.append(f"beside     {beside}")
    lines += [f"trial      {line}" for line in _verdicts(appliance)]
    if appliance.conversation.private:
        lines.append("private    nothing is kept until /private ends it")
    try:
        stats = appliance.log.stats(since, wait=0.25)
    except LogTakenError as error:
        lines.append(
            f"exchanges  not counted: {error}; {counted(appliance.log.spooled(), 'record waits', 'records wait')} in the spool"
        )
        return lines
    wait = "waits" if stats.waiting == 1 else "wait"
    spooled = f", {stats.spooled} more in the spool" if stats.spooled else ""
    lines.append(f"exchanges  {stats.exchanges}, of which {stats.waiting} {wait} for training{spooled}")
    for tier, (count, latency, usd) in stats.per_tier.items():
        median = "" if latency is None else f", median {latency:.0f} ms"
        lines.append(f"  {tier:<10} {count:>6} ({count / stats.exchanges:.0%}){median}" + (f", ${usd:.4f}" if usd else ""))
    versions = [model.manifest.version] if model else []
    if stats.audits:
        lines.append(
            f"  audits     {stats.audits:>6}, asked in the background"
            + (f", ${stats.audits_usd:.4f}" if stats.audits_usd else "")
        )
    lines.append(f"precision  {precision_line(appliance.log.read(lambda session: judged(session, [*versions, 'learned'])))}")
    return lines


def _verdicts(appliance: Appliance) -> list[str]:
    """How the newest trial ended, as long as that is how it is."""
    found = sorted(verdicts(appliance.store.root).items(), key=lambda pair: pair[1].at)
    if not found:
        return []
    version, verdict = found[-1]
    pointer = appliance.store.pointer()
    holds = (version == pointer.champion) == (verdict.action == "promote") and version != pointer.candidate
    return [f"{version} {verdict.told}"] if holds and version in appliance.store.versions() else []


def precision_line(answers: Sequence[Judged]) -> str:
    """What audits say of the accepted local answers, in words."""
    found = measured(answers)
    if found.precision is None:
        return "not measured: no local answer has been put to Claude yet"
    interval = f"95% interval {found.low:.0%} to {found.high:.0%}"
    audited = counted(found.audited, "audited one")
    return f"{found.precision:.0%} of the local answers ({interval}): {found.agreeing} of {audited} agreed"
