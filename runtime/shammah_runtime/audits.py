"""Audits: a random share of accepted local answers is also put to the teacher, in the background, and judged.

What they find is the only unbiased measure of the answers that nobody else checks. It decides trials of versions, raises the
threshold of one that slips, and is shown in the status. Knows the log, the teacher and the model folder, no terminal.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from shammah_data import audit_queries
from shammah_data.audit_queries import SOURCE
from shammah_data.auditing import AuditRate, Judged, agreement, is_drawn, slipped
from shammah_data.durable import PRIVATE_FILE
from shammah_data.errors import LogError, ShammahError, TeacherError
from shammah_data.exchange import Audited, Exchange, Message, Rival
from shammah_data.guard import Guard, Raised
from shammah_data.log import ExchangeLog, context_of
from shammah_data.refusing import is_refusal
from shammah_data.rollout import Plan, decide, judge_trial, named, on_trial
from shammah_data.sequential import audit_probability
from shammah_data.store import ModelStore, Pointer
from shammah_runtime.budget import midnight
from shammah_runtime.engine.model import Model
from shammah_runtime.proposal import Query
from shammah_runtime.rivals import Said
from shammah_runtime.teacher import Teacher

# An answer that could not be audited within a week says nothing of today's version any more.
_OLDEST = timedelta(days=7)
# A version that is asked later than that may have learned the answer meanwhile.
_FRESH = timedelta(hours=1)
# After a failure of the teacher or the log, in seconds; after a user's query came in between.
_PAUSE = 300.0
_DISTURBED = 0.5
_CLOSING_SECONDS = 1.0

Now = Callable[[], datetime]


@dataclass(frozen=True)
class Promise:
    """What a version's answers are held to: the precision in force, and the threshold that the version has for that."""

    target_precision: float
    threshold: float


class Compared(Protocol):
    """Asks the other version of a trial."""

    def rival(self, version: str) -> Model | None:
        """The version that this one is compared with, where it is loaded."""
        ...

    def compare_with(self, version: str | None) -> None:
        """Have this one loaded beside the champion, or none any longer."""
        ...

    def ask(self, model: Model, query: Query) -> Said | None:
        """What a version would have answered; None where a user's query came in between."""
        ...


class Auditor:
    """Draws, asks and judges; one thread of its own, which costs nothing while nothing waits."""

    def __init__(
        self,
        log: ExchangeLog,
        store: ModelStore,
        guard: Guard,
        teacher: Teacher,
        rate: AuditRate,
        promise: Callable[[str], Promise | None],
        note: Callable[[str], None],
        observe: Callable[[str, str, bool, str | None, str], None] = lambda _query, _answer, _right, _version, _id: None,
        now: Now = lambda: datetime.now(UTC),
        compared: Compared | None = None,
        keeps: Callable[[str, Sequence[Message]], bool] = lambda _query, _context: False,
        lock: Path | None = None,
    ) -> None:
        """`promise(version)`: what a version is held to, None for one that is not here; `note` gets what users should know.

        `observe(query, answer, right, version, id)` learns what became of an answer. `compared`: who asks the other version of
        a trial; None where only the one that answered is judged. `keeps(query, context)`: whether it must stay here. `lock`: a
        file that is held while this one audits, so that no other process asks the same.
        """
        self._log = log
        self._store = store
        self._guard = guard
        self._teacher = teacher
        self._rate = rate
        self._promise = promise
        self._note = note
        self._observe = observe
        self._now = now
        self._compared = compared
        self._keeps = keeps
        self._lock = lock
        self._disturbed = False
        # The champion that has proved itself, and the one before it.
        self._proved: tuple[str, str] | None = None
        self._counted = threading.Event()
        self._audited: dict[str, int] = {}
        self._today = 0
        # The day, as that of the teacher's budget, of which that many were audited.
        self._day: datetime | None = None
        self._tried: set[str] = set()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    # -- drawing -------------------------------------------------------------------------------------------------------

    def probability(self, version: str) -> float:
        """With which probability the next accepted answer of a version is audited; nothing before the log has been counted."""
        if not self._counted.is_set():
            return 0.0
        if self._midnight() == self._day:
            return self._rate.share(self._audited.get(version, 0), self._today)
        # Where the audits of a day are spent nothing else wakes who counts those of the next one.
        self._wake.set()
        return self._rate.share(self._audited.get(version, 0), 0)

    def _midnight(self) -> datetime:
        return midnight(self._now().astimezone().replace(tzinfo=None))

    # -- the background ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Count what was audited and begin with what waits."""
        self._wake.set()
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """There may be something to audit."""
        self._wake.set()

    def close(self) -> None:
        """Begin no further audit; one that is under way is left, and comes again next time."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._closed.is_set():
                return
            try:
                self.count()
                self.run()
                if self._disturbed and not self._closed.wait(_DISTURBED):
                    self._wake.set()
            except (ShammahError, OSError):
                # The question that the user asks next meets the same failure and reports it; audits come again later.
                self._closed.wait(_PAUSE)
                self._wake.set()

    def count(self) -> None:
        """Read from the log how many answers were audited. Raises LogError."""
        day = self._midnight()
        if self._log.exists():
            self._audited = self._log.read(audit_queries.audited_counts)
            self._today = self._log.read(lambda session: audit_queries.audits_since(session, day))
        self._day = day
        self._counted.set()

    def run(self) -> int:
        """Audit everything that was drawn and waits; returns how many answers were judged: none where another process does.

        Raises TeacherError when the teacher cannot be asked, LogError when the log cannot be read or written, and OSError when
        a threshold cannot be.
        """
        self._disturbed = False
        if not self._log.exists():
            return 0
        if self._lock is None:
            return self._run()
        try:
            with FileLock(self._lock, mode=PRIVATE_FILE, timeout=0.0):
                # Another process may have audited since.
                self.count()
                return self._run()
        except Timeout:
            return 0

    def _run(self) -> int:
        done = 0
        since = self._now() - _OLDEST
        rivals = self._log.read(lambda session: audit_queries.rivals_since(session, since))
        trial = self._trial(self._store.pointer())
        for row in self._log.read(lambda session: audit_queries.waiting(session, since)):
            exchange_id = str(row["id"])
            if self._closed.is_set() or self._today >= self._rate.per_day:
                break
            if exchange_id in self._tried or self._keeps(row["query"], context_of(row)):
                continue
            rival = rivals.get(exchange_id)
            if rival is None and (model := self._rival(row, trial)) is not None:
                rival = self._ask(model, row)
                del model
                if rival is None:
                    self._disturbed = True
                    continue
            probability = row["teacher_probability"] if rival is None else rival.probability
            if is_drawn(exchange_id, probability) and (now := self._still_waiting(exchange_id, since)) is not None:
                done += self._audit(now, probability, rival)
        return done

    def _still_waiting(self, exchange_id: str, since: datetime) -> dict[str, Any] | None:
        """The exchange as it is by now: those before it took their time, and it or an earlier turn may be forgotten."""
        return next(iter(self._log.read(lambda session: audit_queries.waiting(session, since, exchange_id))), None)

    # -- the other version of a trial ----------------------------------------------------------------------------------

    def _rival(self, row: dict[str, Any], trial: tuple[str, str] | None) -> Model | None:
        """The version to compare a fresh answer with, where there is a trial and it is loaded."""
        if self._compared is None or trial is None or row["model_version"] not in trial:
            return None
        if row["created_at"].replace(tzinfo=UTC) < self._now() - _FRESH:
            return None
        model = self._compared.rival(row["model_version"])
        return model if model is not None and model.manifest.version in trial else None

    def _trial(self, pointer: Pointer) -> tuple[str, str] | None:
        """The version on trial and the one it is compared with; None also for a champion that has proved itself."""
        found = on_trial(pointer)
        if self._compared is None or found is None:
            return None
        version, against, role = found
        if role == "candidate":
            self._compared.compare_with(None)
            return version, against
        if self._proved != (version, against):
            decision = judge_trial(pointer, self._log.outcomes(named(pointer)), self._plan(pointer), self._now())
            if decision.action != "none":
                self._compared.compare_with(against)
                return version, against
            self._proved = version, against
        self._compared.compare_with(None)
        return None

    def _ask(self, model: Model, row: dict[str, Any]) -> Rival | None:
        """What it would have answered, durable before anything is drawn by it; None where a user's query came in between."""
        assert self._compared is not None
        said = self._compared.ask(model, Query(row["query"], context_of(row), row["session"]))
        if said is None:
            return None
        same = said.same(row["answer"])
        agree = same if said.answer is not None else None
        rival = Rival(
            str(row["id"]),
            model.manifest.version,
            audit_probability(agree, row["teacher_probability"]),
            said.answer,
            same,
            said.confidence,
            said.reason,
            self._now(),
        )
        self._log.compare(rival)
        return rival

    # -- asking and judging --------------------------------------------------------------------------------------------

    def _audit(self, row: dict[str, Any], probability: float, rival: Rival | None) -> bool:
        exchange_id = str(row["id"])
        asked = Exchange(
            query=row["query"],
            answer="",
            tier="teacher",
            session=row["session"],
            turn=row["turn"],
            context=context_of(row),
            source=SOURCE,
            teacher_model=self._teacher.settings.model,
            complete=False,
            trainable=row["trainable"],
            teacher_probability=probability,
        )
        try:
            reply = self._teacher.ask([*context_of(row), Message("user", row["query"])], lambda _: None)
        except TeacherError as error:
            if error.of_the_question or error.partial or error.cost_usd:
                # It would refuse this one again, or break off: the others are not to wait for it, nor is it to be paid twice.
                self._spent(exchange_id, replace(asked, answer=error.partial, cost_usd=error.cost_usd))
            if error.of_the_question:
                return False
            raise
        # Who only declines does not say that an answer is wrong.
        answered = reply.complete and (not is_refusal(reply.text) or is_refusal(row["answer"]))
        self._spent(
            exchange_id,
            replace(
                asked,
                answer=reply.text,
                teacher_model=reply.model,
                complete=answered,
                latency_ms=reply.latency_ms,
                prompt_tokens=reply.input_tokens,
                answer_tokens=reply.output_tokens,
                cost_usd=reply.cost_usd,
            ),
        )
        if not answered:
            return False
        version = row["model_version"] or row["tier"]
        agrees, reason = agreement(reply.text, row["answer"])
        found = [Audited(exchange_id, version, probability, agrees, reason, self._now())]
        if rival is not None and rival.answer is not None:
            # What says the same is judged alike.
            verdict = (agrees, reason) if rival.same else agreement(reply.text, rival.answer)
            found.append(Audited(exchange_id, rival.version, probability, *verdict, self._now()))
        self._log.audit(*found)
        self._audited[version] = self._audited.get(version, 0) + 1
        self._observe(row["query"], row["answer"], agrees, row["model_version"], exchange_id)
        self._conclude(version)
        return True

    def _spent(self, exchange_id: str, asked: Exchange) -> None:
        """Paid for: not asked again in this session, whatever comes of it."""
        self._today += 1
        self._tried.add(exchange_id)
        if asked.context:
            try:
                context = self._log.read(lambda session: audit_queries.context_now(session, exchange_id))
            except LogError:
                context = ()
            if context != asked.context:
                # What was said after what is forgotten by now is no answer to the question alone.
                asked = replace(asked, context=context, trainable=False)
        self._log.append(asked, audit_of=exchange_id)

    # -- concluding ----------------------------------------------------------------------------------------------------

    def _conclude(self, version: str) -> None:
        """Let the outcome decide a trial, and raise the threshold of a version that slips."""
        pointer = self._store.pointer()
        if pointer.champion is not None:
            decision = decide(self._store, self._log.outcomes(named(pointer)), self._plan(pointer), self._now())
            if decision.action in ("promote", "rollback"):
                self._note(decision.reason)
                return
        if (promised := self._promise(version)) is None:
            return
        raised = self._guard.of(version)
        threshold = promised.threshold if raised is None else max(promised.threshold, raised.threshold)
        # What was given under a lower threshold says nothing of this one.
        answers = [
            each
            for each in self._log.read(lambda session: audit_queries.judged(session, [version], "neural"))
            if (each.confidence or 0.0) >= threshold
        ]
        if slip := slipped(answers, promised.target_precision, threshold):
            self._raise(version, slip.threshold, slip.reason)

    def _plan(self, pointer: Pointer) -> Plan:
        promised = self._promise(pointer.champion) if pointer.champion is not None else None
        return Plan(promised.target_precision) if promised else Plan()

    def _raise(self, version: str, threshold: float, reason: str) -> None:
        if self._guard.raise_to(version, Raised(threshold, reason, self._now().isoformat(timespec="seconds"))):
            told = f"answers from {threshold:.2f} on are given" if threshold <= 1.0 else "it answers nothing any more"
            self._note(f"{version} slipped: {reason}; {told}; shammah-train may cure it")

    def judged(self) -> list[Judged]:
        """What audits found of the version that serves and of repeated answers, oldest first. Raises LogError."""
        champion = self._store.pointer().champion
        versions = [name for name in (champion, "learned") if name]
        return self._log.read(lambda session: audit_queries.judged(session, versions)) if self._log.exists() else []
