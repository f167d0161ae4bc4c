"""Puts the serving process together from a home and its settings. Knows every part, and does no work of its own."""

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shammah_data import sessions
from shammah_data.announced import Announced
from shammah_data.auditing import AuditRate
from shammah_data.errors import ArtifactError, InputError, LogError
from shammah_data.guard import Guard
from shammah_data.home import Home
from shammah_data.manifest import Manifest
from shammah_data.session import LogTakenError
from shammah_data.settings import AuditSection, Provider, Settings, WantedPrecision
from shammah_data.store import ModelStore
from shammah_data.targets import held_to
from shammah_data.text import one_line
from shammah_runtime.audits import Auditor, Promise
from shammah_runtime.cascade import Cascade
from shammah_runtime.conversation import Conversation, fill, remember
from shammah_runtime.courtesy import Courteous, Courtesy
from shammah_runtime.engine import memory
from shammah_runtime.engine.backing import Backing, backing
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.filling import LookedUp, WhenFilled
from shammah_runtime.heeding import Heeding
from shammah_runtime.hiring import make_teacher
from shammah_runtime.learned import LearnedIndex, LearnedTier
from shammah_runtime.loading import LOADING, WhenLoaded
from shammah_runtime.models import ModelKeeper
from shammah_runtime.neural import NeuralTier
from shammah_runtime.proposal import declined
from shammah_runtime.retrieval import Retrieval
from shammah_runtime.rivals import Rivals
from shammah_runtime.routing import Routing
from shammah_runtime.teacher import Teacher
from shammah_runtime.template import TemplateTier
from shammah_runtime.turns import OneAtATime
from shammah_runtime.verified import VerifiedTier
from shammah_runtime.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from shammah_runtime.desk import Keeper
    from shammah_runtime.engine.model import Memory, Model
    from shammah_runtime.proposal import LocalTier, Query
    from shammah_runtime.rivals import Said

_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
_CLOSING_SECONDS = 10.0
_CLOSING_LOOK_SECONDS = 0.2
# Below this an earlier answer is rarely the one that the model gives.
_DRAFT_SIMILARITY = 0.5
_NOT_AVAILABLE = "the learned answers are not available"


@dataclass(frozen=True)
class Options:
    """What the command line may override; `decoding`: fields of `Decoding` by name.

    `engine_wait`: seconds that one of many threads waits for the engine before the next tier is asked; None for one thread.
    """

    provider: Provider | None = None
    precision: WantedPrecision | None = None
    offline: bool = False
    no_log: bool = False
    watch: bool = True
    engine_wait: float | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)


class Appliance:
    """A running Shammah: models, tiers, log."""

    def __init__(
        self, home: Home, settings: Settings, options: Options, warn: "Callable[[str], None]", store: ModelStore | None = None
    ) -> None:
        """`store`: that of the home, where it was opened before."""
        from shammah_data.log import ExchangeLog

        serve, section = settings.serve, settings.teacher
        self.home = home
        self.store = store or ModelStore(home.models)
        self.log: ExchangeLog = ExchangeLog(home, settings)
        self.wanted = Wanted(options.provider or serve.provider, options.precision or serve.precision, serve.threads)
        session = str(uuid.uuid4())
        self.models = ModelKeeper(self.store, self.wanted, session=session)
        self.index = LearnedIndex()
        self.context_turns = serve.context_turns
        self.retrieval = Retrieval(self.index)
        self._warn = warn
        self._watch = options.watch
        self._filled = threading.Event()
        self._closed = threading.Event()
        self._followed: str | None = None
        self._filler = threading.Thread(target=self._fill, name="learned-index", daemon=True)
        self.why_no_audits = ""
        self.guard = Guard(home.models)
        offline = options.offline or section.offline
        self._teacher: Teacher | None = None
        if not offline:
            self._teacher = make_teacher(section, serve.context_turns, self.log)
        self.target = settings.routing.target_precision
        self._routing = Routing.of(settings.routing)
        self._verified = VerifiedTier(self.models, self.index, self.retrieval, lambda: self.decoding.max_tokens, self.target)
        self._courtesy = Courtesy()
        self._rivals = Rivals(
            self.index, self.guard, lambda: self.decoding, settings.routing.local_seconds, self._courtesy, self.target
        )
        self._neural = NeuralTier(
            self.models,
            Decoding.of(serve, options.decoding),
            self._backing,
            self._likely,
            self._verified.against,
            self.guard,
            settings.routing.local_seconds,
            self.target,
            serve.commit_early,
            self._verified.most,
        )
        neural: LocalTier = Courteous(LookedUp(self._neural, self._verified, self._filled), self._courtesy)
        verified: LocalTier = Courteous(WhenFilled(self._verified, self._filled), self._courtesy)
        self._turns: OneAtATime | None = None
        if options.engine_wait is not None:
            neural = self._turns = OneAtATime(neural, self.models.wait, options.engine_wait)
            verified = self._turns.beside("learned", verified)
        else:
            forward = options.watch and serve.first_query == "forward" and self._may_ask()

            def patient(query: "Query") -> bool:
                return not forward or cascade.not_asked(query) is not None

            neural = WhenLoaded(neural, self.models.wait, patient, declined("neural", LOADING))
            verified = WhenLoaded(verified, self.models.wait, patient, None)
        cascade = Cascade(
            local=(
                neural,
                verified,
                WhenFilled(LearnedTier(self.index, serve.learned_threshold, self._verifies), self._filled),
                TemplateTier(),
            ),
            teacher=self._teacher,
            no_teacher_reason="offline" if offline else "",
            routing=self._routing,
            usual=self._usual,
            tokens=self._tokens,
        )
        self._usual_tokens = serve.max_tokens
        self._keeps = not options.no_log
        log: Keeper | None = self.log if self._keeps else None
        self._writer: Writer | None = None
        if log is not None and options.engine_wait is not None:
            log = self._writer = Writer(self.log)
        self.auditor = self._make_auditor(settings.audit) if log is not None else None
        forgotten = Announced(home.tombstones)
        turns = serve.context_turns
        self.conversation = Conversation(cascade, self.index, log, turns, warn, forgotten, session, self.auditor)
        self.heeding = Heeding(self.log, self.index, self.conversation.desk.forget)

    @property
    def decoding(self) -> Decoding:
        """How the local model's answers are drawn; may be set between two queries."""
        return self._neural.decoding

    @decoding.setter
    def decoding(self, decoding: Decoding) -> None:
        self._neural.decoding = decoding

    @property
    def keeps(self) -> bool:
        """Whether what is said is logged."""
        return self._keeps

    def resume(self, session: str | None) -> str:
        """Go on with a logged session, by the beginning of its id or None for the last one; says so in a line.

        Raises InputError where there is none, LogError.
        """
        if not self.log.exists():
            raise InputError("there is no session to continue: the log is empty")
        named = (lambda log: sessions.latest(log)) if session is None else (lambda log: sessions.named(log, session))
        found = self.log.read(named)
        rows = self.log.read(lambda log: sessions.exchanges(log, found))
        whole = sessions.whole(rows)
        count = 1 + max((int(row["turn"]) for row in rows), default=-1)
        self.conversation.begin(sessions.turns(whole), found, count, [str(row["id"]) for row in whole])
        return f"continued: session {found[:8]}, {len(rows)} so far; last: {one_line(rows[-1]['query'], 60)}"

    def start(self) -> None:
        """Begin to load the model, the learned answers and, where there is a key, the teacher's SDK."""
        memory.keep_together()
        self.models.start(self._watch)
        self._filler.start()

    def _usual(self, query: "Query") -> "Query":
        """With how answers are drawn in this session, where a query does not bring that along."""
        if query.decoding is not None:
            return query
        most = self.decoding.max_tokens
        # The settings bound what the model makes, and not what is known; who wants less than they say wants short answers.
        return replace(query, decoding=self.decoding, most_tokens=most if most < self._usual_tokens else None)

    def _tokens(self, answer: str) -> int | None:
        model = self.models.serving() if self.models.wait(0.0) else None
        return None if model is None else len(model.decoder.tokenizer.answer(answer, model.decoder.stop_ids))

    def _verifies(self, query: "Query") -> bool:
        return self.models.wait(0.0) and self._verified.verifies(query)

    def _may_ask(self) -> bool:
        return self._teacher is not None and self._teacher.available

    def _make_auditor(self, section: AuditSection) -> Auditor | None:
        """None where nothing may be asked: then precision is not measured, and no figure for it is made up."""
        if self._teacher is None:
            self.why_no_audits = "offline"
        elif self._teacher.unavailable_reason is not None:
            self.why_no_audits = self._teacher.unavailable_reason
        elif not (section.share or section.new_share):
            self.why_no_audits = "audit.share and audit.new_share are 0 in config.toml"
        if self._teacher is None or self.why_no_audits:
            return None
        rate = AuditRate(max(section.new_share, section.share), section.share, section.per_day)
        return Auditor(
            self.log,
            self.store,
            self.guard,
            self._teacher,
            rate,
            self._promise,
            self.models.note,
            self.index.observe,
            compared=_Compared(self.models, self._rivals, self._filled),
            keeps=self._routing.keeps,
            lock=self.home.root / "audits.lock",
        )

    def _promise(self, version: str) -> Promise | None:
        model = self.models.serving()
        if model is not None and model.manifest.version == version:
            calibration = model.graph.calibration
        elif version in self.store.versions():
            from shammah_runtime.engine.model import graph_here

            calibration = graph_here(Manifest.load(self.store.folder(version)), self.wanted).calibration
        else:
            return None
        held = held_to(calibration, self.target)
        return Promise(held.target_precision, held.threshold)

    def close(self, patient: bool = True) -> None:
        """Stop the threads that watch; `patient`: wait for one that is inside a library, which a process that goes on must."""
        self._closed.set()
        if self.auditor is not None:
            self.auditor.close()
        if self._turns is not None:
            self._turns.close()
        if self._writer is not None:
            self._writer.close()
        self.models.close()
        if patient and self._filler.is_alive():
            self._filler.join(_CLOSING_SECONDS)

    def _backing(self, query: str, answer: str) -> Backing:
        self._filled.wait()
        return backing(query, answer, self._verified.neighbours(query), self.index.support(query, answer))

    def _likely(self, query: str) -> list[str]:
        if found := self._verified.found(query):
            return found
        match = self.index.nearest(query) if self._filled.is_set() else None
        return [match.known.answer] if match is not None and match.similarity >= _DRAFT_SIMILARITY else []

    def _follow(self) -> None:
        """With a new version comes what other processes had logged before it was made. Raises LogError."""
        model = self.models.serving()
        if model is None or model.manifest.version == self._followed:
            return
        version, memory = model.manifest.version, model.memory
        # Nobody holds on to a version while its index is read.
        del model
        if self.log.exists():
            remember(self.index, self.log)
        if memory is not None:
            self._read_index(memory)
        self._followed = version

    def _read_index(self, memory: "Memory") -> None:
        try:
            self.retrieval.attach(memory)
            self.retrieval.catch_up(memory)
        except ArtifactError as error:
            self._warn(f"earlier answers are found by their words only: {error}")

    def _read_log(self) -> None:
        """What was learned, where there is a log. Raises LogError."""
        if self.log.exists():
            self.heeding.begin()
            fill(self.index, self.log)

    def _fill(self) -> None:
        unread, told = True, False
        try:
            self._read_log()
            unread = False
            if self.auditor is not None:
                self.auditor.count()
        except LogTakenError:
            pass
        except LogError as error:
            self._warn(f"{_NOT_AVAILABLE}: {error}")
            told = True
        finally:
            self._filled.set()
        # After the model, which it needs, and which has the cores until then.
        if self._watch and (model := self.models.serving()) is not None:
            self._followed, memory = model.manifest.version, model.memory
            # The version itself must not be held on to while its index is read.
            del model
            if memory is not None:
                self._read_index(memory)
        if self._teacher is not None and self._teacher.available:
            # After the model: importing the SDK takes more than a second of one core.
            while not self.models.wait(_CLOSING_LOOK_SECONDS) and not self._closed.is_set():
                pass
            if not self._closed.is_set():
                self._teacher.warm()
                if self.auditor is not None and self._watch:
                    self.auditor.start()
        if self._watch:
            self._keep_up(unread, told)

    def _keep_up(self, unread: bool, told: bool) -> None:
        """Take in what other processes say, until closed; `unread`: after what was learned, `told`: that it cannot be read."""
        pause = _RETRY_SECONDS
        while not self._closed.wait(pause):
            try:
                # Whoever holds the log lets go of it some time; until then one answers without what was learned from it.
                if unread:
                    self._read_log()
                    unread = False
                self.heeding.look()
                self._follow()
                pause, told = _RETRY_SECONDS, False
            except LogTakenError:
                pause = _RETRY_SECONDS
            except (LogError, OSError) as error:
                # It may be repaired, and the disk have room again.
                pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
                if not told:
                    self._warn(f"{_NOT_AVAILABLE}: {error}")
                told = True


class _Compared:
    """Asks the other one of two versions that the keeper has loaded."""

    def __init__(self, models: ModelKeeper, rivals: Rivals, filled: threading.Event) -> None:
        self.rival = models.rival
        self.compare_with = models.compare_with
        self._rivals = rivals
        self._filled = filled

    def ask(self, model: "Model", query: "Query") -> "Said | None":
        self._filled.wait()
        return self._rivals.ask(model, query)
