"""A `shammah-serve http` in this process: real uvicorn on a loopback port, in a thread, ended cleanly. Knows no tests."""

import threading
from collections.abc import Callable
from typing import Self

from shammah_data.settings import HttpSettings
from shammah_runtime.appliance import Appliance
from shammah_runtime.http.server import bind, make

TOKEN = "a-token-of-the-tests"


class Listening:
    """A server over an appliance; `url` without a path."""

    def __init__(
        self,
        appliance: Appliance,
        settings: HttpSettings = HttpSettings(),
        *,
        public: bool = False,
        no_log: bool = False,
        warn: Callable[[str], None] = print,
    ) -> None:
        self._socket = bind(settings.host, 0, public)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = make(appliance, settings, TOKEN, public, no_log, warn)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), name="http-of-a-test")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._socket.close()

    def end(self) -> None:
        """Tell it to end, as a signal does, and wait for that."""
        self.server.should_exit = True
        self._thread.join(30.0)
        assert not self._thread.is_alive()
