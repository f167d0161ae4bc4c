"""Showing an answer before it has ended: whether one commits to it, and what has been shown of it. Knows no tiers, no model.

Until it is decided the text is held back. When that is, and how sure one must be then, was measured at night
(`shammah_data.manifest.Early`). Whoever asked cuts an answer that goes wrong afterwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue

from shammah_data.manifest import Calibration
from shammah_data.targets import shown_early
from shammah_runtime.engine.backing import Backing, followed
from shammah_runtime.engine.confidence import confidence, features
from shammah_runtime.proposal import STOPPED, OnText, Proposal


class Commitment:
    """One answer as it is decoded. Tokens and text come on the decoder's thread, `pass_on` shows on that of whoever waits."""

    def __init__(self, show: OnText | None) -> None:
        """`show` None: nobody wants it early."""
        self._show = show
        self._decide: Callable[[list[int], list[float]], float | None] | None = None
        self._after = 0
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._held = ""
        self._opened = False
        self._ready: SimpleQueue[str] = SimpleQueue()
        self._at: int | None = None
        self._sure = 0.0
        self.shown = ""

    def begin(
        self,
        held: Calibration,
        drafts: Sequence[tuple[str, Sequence[int]]],
        backing: Callable[[str], Backing],
        against: Callable[[str], str | None],
    ) -> None:
        """Look for what `held` was measured for. `drafts`: earlier answers and their ids, the likeliest first.

        `backing(answer)`, `against(answer)`: what earlier exchanges say for an answer, and what speaks against giving it.
        """
        early, step = held.early, shown_early(held)
        if self._show is None or early is None or step is None:
            return

        def decide(ids: list[int], logprobs: list[float]) -> float | None:
            draft = followed(ids, drafts)
            sure = confidence(early, features(logprobs, Backing() if draft is None else backing(draft)))
            return sure if sure >= step.threshold and (draft is None or against(draft) is None) else None

        self._decide, self._after = decide, early.tokens

    @property
    def begun(self) -> bool:
        """Whether anything may come of it."""
        return self._decide is not None

    def token(self, token: int, logprob: float) -> None:
        """The next token of the answer; with the last one that is waited for, it is decided."""
        if self._decide is None or len(self._ids) == self._after:
            return
        self._ids.append(token)
        self._logprobs.append(logprob)
        if len(self._ids) == self._after and (sure := self._decide(self._ids, self._logprobs)) is not None:
            self._at, self._sure = self._after, sure
            self._release()

    def text(self, piece: str) -> None:
        """The text of the tokens so far, which comes after them."""
        self._held += piece
        if self._at is not None:
            self._release()

    def _release(self) -> None:
        # An answer neither begins nor ends with blanks, and may end at any moment.
        if not self._opened:
            self._held = self._held.lstrip()
        if ready := self._held.rstrip():
            self._opened = True
            self._held = self._held[len(ready) :]
            self._ready.put(ready)

    def pass_on(self) -> None:
        """Show what may be shown by now."""
        while self._show is not None:
            try:
                piece = self._ready.get_nowait()
            except Empty:
                return
            self.shown += piece
            self._show(piece)

    def told(self, proposal: Proposal) -> Proposal:
        """The proposal, with what was shown of it by then."""
        attempt = proposal.attempt
        if not self.shown:
            return proposal
        how = f"shown from token {self._at} on, {self._sure:.2f} sure then"
        if proposal.accepted:
            return replace(proposal, attempt=replace(attempt, reason=f"{attempt.reason}; {how}"), committed=self._at)
        if attempt.reason == STOPPED:
            attempt = replace(attempt, outcome="failed", reason=f"{STOPPED}; {how}")
            return replace(proposal, attempt=attempt, text=self.shown, complete=False, committed=self._at)
        return replace(proposal, attempt=replace(attempt, reason=f"{attempt.reason}; {how}, and cut"), committed=self._at)
