"""Something that takes a while to make, made beside other work. Knows threads, not what is made."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Starting(Generic[T]):
    """Makes one thing once: on a thread of its own from `begin` on, or when it is first wanted. `failed` hears of an error."""

    def __init__(self, make: Callable[[], T], failed: Callable[[], None] = lambda: None) -> None:
        self._make = make
        self.failed = failed
        self._lock = threading.Lock()
        self._made: T | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Make it on a thread of its own."""
        threading.Thread(target=self._try, name="starting", daemon=True).start()

    @property
    def made(self) -> T | None:
        """What was made; None before."""
        return self._made

    def get(self) -> T:
        """What is made, once it is. Raises what making it raised."""
        self._try()
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made

    def check(self) -> None:
        """Raise what making it has raised."""
        if self._error is not None:
            raise self._error

    def _try(self) -> None:
        with self._lock:
            if self._made is not None or self._error is not None:
                return
            try:
                self._made = self._make()
            except BaseException as error:  # noqa: BLE001 - raised again to whoever wants what was to be made
                self._error = error
        if self._error is not None:
            self.failed()
