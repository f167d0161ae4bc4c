"""A user at a terminal: types lines into a real `shammah-serve` and reads up to the next prompt."""

from collections.abc import Mapping

import pexpect

from fakes.tiny import script


class Session:
    """An open `shammah-serve` on a pseudo-terminal."""

    PROMPT = "\r?\n> "

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.child: pexpect.spawn[str] = pexpect.spawn(
            script("shammah-serve"),
            env={**environment, "TERM": "dumb", "PYTHONUNBUFFERED": "1"},
            encoding="utf-8",
            timeout=120,
            echo=False,
            dimensions=(50, 200),
        )
        self.child.expect("> $")

    def ask(self, query: str) -> str:
        """Type a line and return everything up to the next prompt."""
        self.child.sendline(query)
        self.child.expect(self.PROMPT)
        return str(self.child.before)

    def wait_for(self, version: str) -> None:
        """Ask for the status until a version serves; it is looked for twice a second."""
        for _ in range(300):
            if version in self.ask("/status"):
                return
        raise AssertionError(f"{version} never served")

    def close(self) -> None:
        """Leave with /quit and wait for the end."""
        self.child.sendline("/quit")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0
