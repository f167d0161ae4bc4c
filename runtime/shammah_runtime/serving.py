"""What tiers ask for the version that answers. Knows neither loading nor the store."""

from typing import Protocol

from shammah_runtime.engine.model import Model


class Serving(Protocol):
    """Says which version answers a session's next query, and why there is none."""

    @property
    def reason(self) -> str:
        """Why there is no version."""
        ...

    def current(self, session: str = "") -> Model | None:
        """The version for the next query of a session, or None."""
        ...
