"""Many nights in a moment: run records, held-out answers and versions with plausible figures, and nothing trained.

Knows the log, the store and the files of a run as the trainer leaves them; the figures come from a seeded formula.
"""

import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from shammah_data.durable import private_folder
from shammah_data.exchange import RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.manifest import CacheShape, Calibration, ChatFormat, FileEntry, Golden, GraphEntry, Manifest
from shammah_data.store import ModelStore
from shammah_runtime.engine.confidence import confidence

HOSTILE = "<script>alert('x')</script> \"' & \u202egnp.exe\u202c \x1b[31mred\x1b[0m \x9b2J </table><img src=x onerror=alert(1)>"
# Figures that no arithmetic holds, or only just.
TOO_LARGE: tuple[Any, ...] = (
    10**400,
    1e308,
    [10**400, 1e308],
    {"phrasing": {"asked": 1e308, "right": 1, "accepted": 1e308, "accepted_right": 10**400}},
    [{"name": "a", "asked": 1e308, "right": 10**400, "accepted": 1e308}, {"name": "b", "asked": 10**400}],
    [{"step": n, "loss": 1e308, "heldout_loss": -1e308, "learning_rate": 10**400} for n in (1, 2, 10**400)],
)
FIRST = datetime(2026, 10, 1, 3, 20)
CALIBRATION = Calibration(
    {"mean": 6.0, "least": 0.5, "opening": 0.5, "support": 3.0}, 1.2, 0.73, 0.95, 129, 41, 40, certified=False
)
TOPICS = (
    "scanner reset", "holiday form", "garage door", "coffee order", "payroll date", "laptop repair", "lost badge",
    "dishwasher", "guest wifi", "bicycle rack", "parcel shelf", "lift alarm", "expense report", "printer toner",
    "meeting room", "fire drill", "checklist for new starters", "database backup",
)  # fmt: skip
PHRASINGS = ("How does the {} work?", "Tell me about the {}", "What is the rule for the {}?", "I need help with the {}")


def night(
    home: Home,
    number: int,
    *,
    known: int,
    status: Literal["published", "refused", "failed"] = "published",
    reason: str = "",
    skill: float | None = None,
    old: bool = False,
    hostile: str = "",
) -> str:
    """Leave what a run after `known` exchanges leaves; returns its id. `old`: with the figures that the first runs had."""
    rng = random.Random(number)
    started = FIRST + timedelta(days=number, minutes=rng.randrange(9))
    identity = started.strftime("%Y%m%dT%H%M%S") + "123Z"
    skill = 0.86 * (1 - math.exp(-known / 210)) if skill is None else skill
    lines = [_answer(rng, kind, n, skill, hostile if n == 0 else "") for kind, n in _asked(known)]
    figures = _figures(rng, known, skill, lines, old)
    folder = private_folder(home.runs / identity)
    (folder / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    version = None
    if status == "published":
        version = _publish(home, identity, known, started, figures)
        found, losses = figures["heldout"]["phrasing"], (figures["loss_before"], figures["loss_after"])
        losses_told = f"held-out loss {losses[0]:.3f} -> {losses[1]:.3f}"
        reason = f"{version}: {losses_told}; other phrasings right {found['right']}/{found['asked']}"
    log = ExchangeLog(home)
    moment = started.replace(tzinfo=UTC)
    ended = moment + timedelta(seconds=90 + known)
    log.record_run(RunRecord(identity, moment, ended, status, reason, version, figures))
    return identity


def a_month(home: Home, hostile: str = "") -> list[str]:
    """Twelve nights, two of them refused and one failed; returns the ids of the runs, oldest first."""
    tone = (
        "held-out answers outscore other groups' answers in only 58% of comparisons over 24 queries (p = 0.0410; 75% and "
        "p <= 0.001 are needed, style alone gives 50%): the answers do not follow from the questions"
    )
    forgot = "the group 'payroll date' fell from 5 of 5 to 3 of 5"
    made = [night(home, 0, known=37, status="refused", reason=tone, skill=0.1, old=True)]
    made += [night(home, 2 + n, known=known, old=n < 2) for n, known in enumerate((62, 104, 147, 190, 238))]
    made.append(night(home, 9, known=281, status="failed", reason="no space left on the device: free 400 MB and run again"))
    made += [night(home, 11 + n, known=known) for n, known in enumerate((297, 352, 410))]
    made.append(night(home, 16, known=455, hostile=hostile))
    made.append(
        night(home, 18, known=512, status="refused", reason=f"held-out loss did not fall: 0.871 before, 0.880 after; {forgot}")
    )
    return made


def _asked(known: int) -> list[tuple[str, int]]:
    phrasings, groups = max(8, known * 15 // 100), max(3, known // 14)
    return [
        *(("phrasing", n) for n in range(phrasings)),
        *(("group", n) for n in range(groups)),
        *(("outside", n) for n in range(48)),
    ]


def _answer(rng: random.Random, kind: str, n: int, skill: float, hostile: str) -> dict[str, Any]:
    topic = TOPICS[n % len(TOPICS)]
    query = hostile or PHRASINGS[n // len(TOPICS) % len(PHRASINGS)].format(topic)
    able = min(1.0, max(0.0, skill + 0.28 * math.sin(n % len(TOPICS))))
    right = kind == "phrasing" and not hostile and rng.random() < able
    sure = rng.betavariate(5, 1.1) if right else rng.betavariate(1.1, 4)
    if hostile:
        sure = 0.9
    features = {"mean": -1.1 + sure, "least": -2.0 + 1.8 * sure, "opening": -1.0 + sure, "support": 0.2 + 0.6 * sure}
    level = confidence(CALIBRATION, features)
    return {
        "kind": kind,
        "query": query,
        "reference": hostile or (f"For the {topic}, ask room {10 + n % 18} before 9." if kind != "outside" else ""),
        "answer": hostile
        or (f"For the {topic}, ask room {10 + n % 18} before 9." if right else "Ask at the desk by the door, room 3."),
        "features": features,
        "right": right,
        "accepted": level >= CALIBRATION.threshold,
        "reason": "right" if right else "lacks the number 14",
        "confidence": level,
    }


def _figures(rng: random.Random, known: int, skill: float, lines: list[dict[str, Any]], old: bool) -> dict[str, Any]:
    heldout = {}
    for kind in ("phrasing", "group", "outside"):
        ones = [line for line in lines if line["kind"] == kind]
        heldout[kind] = {
            "asked": len(ones),
            "right": sum(one["right"] for one in ones),
            "accepted": sum(one["accepted"] for one in ones),
            "accepted_right": sum(one["accepted"] and one["right"] for one in ones),
        }
    last = 2.4 - 1.9 * skill
    figures: dict[str, Any] = {
        "snapshot_rows": known,
        "snapshot_sha256": f"{known:064x}",
        "dataset": {
            "train": known * 75 // 100,
            "train_with_context": known // 9,
            "heldout_phrasings": heldout["phrasing"]["asked"],
            "heldout_groups": heldout["group"]["asked"],
            "groups": 8 + known // 12,
            "excluded": {"asked again later": known // 11, "empty": 2, "rated bad": known // 40},
            "replay": 60,
        },
        "mixed_precision": "bf16",
        "loss_before": 3.1 + rng.random() / 5,
        "loss_after": last,
        "train_seconds": 40 + known / 3,
        "epoch_losses": [round(last + (3.2 - last) * math.exp(-1.1 * n) * 0.7, 4) for n in range(4)],
        "export": {"precision": "int8", "bytes": 139_400_000, "nodes": 512},
        "parity": {"max_abs_difference": 0.21, "mean_kl": 0.0011, "top1_agreement": 0.993},
        "matching": {"queries": 24, "wins": min(0.99, 0.6 + skill / 2), "p_value": 0.0001},
        "heldout": heldout,
        "milliseconds_median": 640.5,
    }
    if old:
        return figures
    steps = max(40, known // 2)
    curve = [
        {
            "step": step,
            "loss": last * 0.7 + (3.0 - last * 0.7) * math.exp(-step / steps * 4) + rng.gauss(0, 0.07),
            "heldout_loss": None
            if step % max(1, steps // 8)
            else last + (3.1 - last) * math.exp(-step / steps * 5) + 0.06 * (step / steps) ** 2,
            "learning_rate": 2e-4 * (1 - step / steps),
        }
        for step in range(steps + 1)
    ]
    asked: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "phrasing":
            asked.setdefault(line["reference"], []).append(line)
    figures["groups"] = [
        {
            "name": ones[0]["query"],
            "asked": len(ones),
            "right": sum(one["right"] for one in ones),
            "accepted": sum(one["accepted"] for one in ones),
            "older": n % 3 == 0,
        }
        for n, ones in enumerate(asked.values())
    ]
    figures["dataset"]["sources"] = {"teacher": known * 7 // 10, "import": known * 2 // 10, "correction": known // 10}
    figures["calibration"] = {"threshold": 0.73, "target_precision": 0.95, "certified": False}
    return figures | {"loss_curve": curve}


def _publish(home: Home, run: str, known: int, made: datetime, figures: dict[str, Any]) -> str:
    store = ModelStore(home.models)
    staging = store.staging()
    for name in ("tokenizer.json", "int8/model.onnx", "int8/weights.bin"):
        path = staging / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(b"not a model")
    chat = ChatFormat("", "<user>", "</user>", "<assistant>", "</assistant>")

    def describe(version: str, files: tuple[FileEntry, ...]) -> Manifest:
        return Manifest(
            version=version,
            created=made.isoformat(timespec="seconds"),
            run=run,
            base="smollm2-135m-instruct",
            base_sha256="0" * 64,
            snapshot_sha256="0" * 64,
            snapshot_rows=known,
            snapshot_until=made.isoformat(),
            shape=CacheShape(2, 2, 16, 512, 256),
            chat=chat,
            stop_ids=(1,),
            graphs=(GraphEntry("int8/model.onnx", "cpu", "int8", (Golden((1,), (2,)),), CALIBRATION),),
            files=files,
            evaluation=figures,
            oldest_runtime="0.1.0",
        )

    version = store.publish(staging, describe)
    store.promote(version)
    store.collect(3)
    return version
