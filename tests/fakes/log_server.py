"""A real log server, as its own process, for the tests of what several homes share."""

import os
import signal
import socket
import subprocess
import sys

from shammah_data.home import Home


class Server:
    """`shammah-log serve` as its own process."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.home = home
        self.arguments = arguments
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        self.address = f"quack:localhost:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shammah_data.cli", "serve", "--port", str(self.port), *self.arguments],
            env={**os.environ, "SHAMMAH_HOME": str(self.home.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline()]
        assert self.said[0].startswith("serving the log"), self.process.communicate()
        self.said.append(self.process.stdout.readline())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        if number == signal.SIGTERM:
            self.process.send_signal(signal.SIGCONT)
        self.process.communicate()
        return self.process.returncode
