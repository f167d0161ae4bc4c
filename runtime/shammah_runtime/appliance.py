"""Puts the serving process together from a home and its settings. Knows every part, and does no work of its own."""

import os
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shammah_data.errors import LogError
from shammah_data.home import Home
from shammah_data.session import LogTakenError
from shammah_data.settings import Provider, Settings, WantedPrecision
from shammah_data.store import ModelStore
from shammah_data.tombstones import Announced
from shammah_runtime.cascade import Cascade
from shammah_runtime.conversation import Conversation, fill
from shammah_runtime.engine import memory
from shammah_runtime.engine.choice import Wanted
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.engine.packing import Packer
from shammah_runtime.learned import LearnedIndex, LearnedTier
from shammah_runtime.models import ModelKeeper
from shammah_runtime.neural import NeuralTier
from shammah_runtime.template import TemplateTier

if TYPE_CHECKING:
    from collections.abc import Callable

    from shammah_runtime.proposal import Proposal, Query

_RETRY_SECONDS = 1.0
# Below this an earlier answer is rarely the one that the model gives.
_DRAFT_SIMILARITY = 0.5


@dataclass(frozen=True)
class Options:
    """What the command line may override; `decoding`: fields of `Decoding` by name."""

    provider: Provider | None = None
    precision: WantedPrecision | None = None
    offline: bool = False
    no_log: bool = False
    watch: bool = True
    decoding: Mapping[str, Any] = field(default_factory=dict)


class Appliance:
    """A running Shammah: models, tiers, log."""

    def __init__(self, home: Home, settings: Settings, options: Options, warn: "Callable[[str], None]") -> None:
        from shammah_data.log import ExchangeLog
        from shammah_runtime.teacher import Teacher, TeacherSettings

        serve, section = settings.serve, settings.teacher
        self.home = home
        self.store = ModelStore(home.models)
        self.log: ExchangeLog = ExchangeLog(home, settings)
        self.wanted = Wanted(
            options.provider or serve.provider, options.precision or serve.precision, serve.threads, serve.packed
        )
        packer = Packer(self.store) if serve.packed else None
        self.models = ModelKeeper(self.store, self.wanted, start_at=random.random(), packer=packer)
        self.index = LearnedIndex()
        self._warn = warn
        self._watch = options.watch
        self._filled = threading.Event()
        self._closed = threading.Event()
        self._neural = NeuralTier(self.models, Decoding.of(serve, options.decoding), self._support, self._likely)
        offline = options.offline or section.offline
        self._teacher: Teacher | None = None
        if not offline:
            self._teacher = Teacher(
                TeacherSettings(
                    model=section.model,
                    max_tokens=section.max_tokens,
                    system=section.system or None,
                    first_token_seconds=section.first_token_seconds,
                    total_seconds=section.total_seconds,
                ),
                os.environ.get("ANTHROPIC_API_KEY"),
            )
        cascade = Cascade(
            local=(
                self._neural,
                _Filled(LearnedTier(self.index, serve.learned_threshold), self._filled),
                TemplateTier(),
            ),
            teacher=self._teacher,
            no_teacher_reason="offline" if offline else "",
        )
        log = None if options.no_log else self.log
        self.conversation = Conversation(cascade, self.index, log, serve.context_turns, warn, Announced(home.tombstones))

    @property
    def decoding(self) -> Decoding:
        """How the local model's answers are drawn; may be set between two queries."""
        return self._neural.decoding

    @decoding.setter
    def decoding(self, decoding: Decoding) -> None:
        self._neural.decoding = decoding

    def start(self) -> None:
        """Begin to load the model, the learned answers and, where there is a key, the teacher's SDK."""
        memory.keep_together()
        self.models.start(self._watch)
        threading.Thread(target=self._fill, name="learned-index", daemon=True).start()

    def close(self) -> None:
        """Stop the threads that watch."""
        self._closed.set()
        self.models.close()

    def _support(self, query: str, answer: str) -> float:
        self._filled.wait()
        return self.index.support(query, answer)

    def _likely(self, query: str) -> list[str]:
        match = self.index.nearest(query) if self._filled.is_set() else None
        return [match.known.answer] if match is not None and match.similarity >= _DRAFT_SIMILARITY else []

    def _fill(self) -> None:
        taken = False
        try:
            if self.log.exists():
                fill(self.index, self.log)
        except LogTakenError:
            taken = True
        except LogError as error:
            self._warn(f"the learned answers are not available: {error}")
        finally:
            self._filled.set()
        if self._teacher is not None and self._teacher.available:
            # After the model: importing the SDK takes more than a second of one core.
            self.models.wait()
            self._teacher.warm()
        # Whoever holds the log lets go of it some time; until then one answers without what was learned from it.
        while taken and self._watch and not self._closed.wait(_RETRY_SECONDS):
            try:
                fill(self.index, self.log)
                taken = False
            except LogTakenError:
                continue
            except LogError as error:
                self._warn(f"the learned answers are not available: {error}")
                return


class _Filled:
    """A tier that waits until its index has been read."""

    def __init__(self, tier: LearnedTier, filled: threading.Event) -> None:
        self._tier = tier
        self._filled = filled

    def propose(self, query: "Query") -> "Proposal":
        self._filled.wait()
        return self._tier.propose(query)
