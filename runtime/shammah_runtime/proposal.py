"""What tiers take and give: a query with its earlier turns in, a proposal out. Values, but for the wish to stop."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from shammah_data.exchange import Attempt, Message, Tier
from shammah_runtime.engine.decoding import Decoding
from shammah_runtime.stopping import NEVER, Stop

if TYPE_CHECKING:
    from shammah_runtime.engine.model import Model
    from shammah_runtime.serving import Serving

Asked = Literal["all", "local", "teacher"]
OnText = Callable[[str], None]
# Why a tier that was told to stop has no answer.
STOPPED = "stopped by the user"
# Why a tier has none whose version left while the tiers before it were asked.
REPLACED = "another version took over while this was asked"


class Chosen:
    """The version that answers one query: the one that served when a tier first needed it.

    Between two tiers nothing holds on to it, since one that is to leave may have to make room for the next.
    """

    def __init__(self) -> None:
        self._model: Callable[[], Model | None] | None = None

    def of(self, models: "Serving", session: str) -> "Model | None":
        """The version; None where there is none yet, or it has left."""
        if self._model is not None:
            return self._model()
        model = models.current(session)
        if model is not None:
            self._model = weakref.ref(model)
        return model

    @property
    def left(self) -> bool:
        """Whether there was one, which is gone."""
        return self._model is not None and self._model() is None


@dataclass(frozen=True)
class Query:
    """What the user asks, and the turns before it; `session` decides which of two versions on trial answers.

    `system`: what an answer is to mind beside the question; no local tier has learned to, so that the teacher is asked.
    `asked`: which tiers may answer. `decoding`: how the local model's answer to this query is drawn, where that is not the
    tier's own; its `stop` strings cut what is shown of any answer. `most_tokens`: what an answer may have, whoever gives it,
    where that is less than the settings say.

    `earlier` gives the turns before it as they are by now, of which some may have been forgotten elsewhere since.

    `chosen` is the cascade's, too: the version, the same for all tiers. Without it each takes the one that serves.

    `cut(notice)` tells that what was shown of an answer ends there; without it nothing is shown before its end. `show` is the
    cascade's: where a tier puts what it shows of an answer that has not ended.
    """

    text: str
    context: tuple[Message, ...] = ()
    session: str = ""
    system: str = ""
    asked: Asked = "all"
    decoding: Decoding | None = None
    most_tokens: int | None = None
    stop: Stop = field(default=NEVER, compare=False)
    cut: OnText | None = field(default=None, compare=False)
    show: OnText | None = field(default=None, compare=False)
    chosen: Chosen | None = field(default=None, compare=False)
    earlier: Callable[[], tuple[Message, ...]] | None = field(default=None, compare=False)

    @property
    def current(self) -> "Query":
        """The same after what was not forgotten meanwhile."""
        return self if self.earlier is None else replace(self, context=self.earlier())

    def version(self, models: "Serving") -> "Model | None":
        """The version that answers this query, or None."""
        return models.current(self.session) if self.chosen is None else self.chosen.of(models, self.session)

    @property
    def replaced(self) -> bool:
        """Whether its version left while it was answered."""
        return self.chosen is not None and self.chosen.left


@dataclass(frozen=True)
class Token:
    """A token of the model's answer: its log-probability under the model in nats, and the likeliest in its place.

    `text` is what it adds to the text before it: none before the last token of a character, nor where it is the mark of the
    `end`.
    """

    id: int
    text: str
    logprob: float
    top: tuple["Token", ...] = ()
    end: bool = False


@dataclass(frozen=True)
class Proposal:
    """What one tier made of a query: the attempt as it is recorded, and the answer where it was accepted."""

    attempt: Attempt
    text: str = ""
    complete: bool = True
    model_version: str | None = None
    teacher_model: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cost_usd: float | None = None
    # Of the model's answer only: its tokens, and the next best answers of a beam search.
    tokens: tuple[Token, ...] = ()
    others: tuple[str, ...] = ()
    # Earlier exchanges, the oldest, for which the model's context had no room.
    left_out: int = 0
    # After so many tokens it was shown while it was made; None: only once it was accepted, if it was.
    committed: int | None = None
    # The earlier exchange whose answer this repeats, and whether it was asked in the same words.
    repeats: str | None = None
    same_query: bool = False

    @property
    def accepted(self) -> bool:
        """Whether this is the answer."""
        return self.attempt.outcome == "accepted"


def declined(tier: Tier, reason: str, confidence: float | None = None, threshold: float | None = None) -> Proposal:
    """A tier's reason for not answering."""
    return Proposal(Attempt(tier, "declined", reason, confidence, threshold))


class LocalTier(Protocol):
    """A way of answering that never leaves the machine."""

    def propose(self, query: Query) -> Proposal | None:
        """Answer or decline with a reason, or None where there is nothing to try; raises nothing that a user could cause."""
        ...
