"""The project's exceptions: one tree, and every message is one line that a user can act on.

Command-line entry points print the message and exit with `exit_code`; a traceback reaches nobody.
"""


class ShammahError(Exception):
    """Anything that went wrong in a way that the user can be told about."""

    exit_code = 2


class InputError(ShammahError):
    """A file, an argument or a query cannot be used as it is."""


class SettingsError(ShammahError):
    """config.toml holds an unknown key or a value out of range."""


class LogError(ShammahError):
    """The exchange log cannot be opened, read or written. `lost`: what was to be written is not in its spool either."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class ArtifactError(ShammahError):
    """A model version is missing, damaged, too new, or cannot be published."""


class ExportError(ShammahError):
    """A model has a feature that the graph builder does not know, or failed a parity limit."""


class TrainingError(ShammahError):
    """A training run cannot start or cannot go on."""


class TeacherError(ShammahError):
    """The teacher gave no complete answer; `partial` holds what had arrived, `cost_usd` what it cost where that is known.

    `of_the_question`: it answers others, and may refuse this one whenever it is asked.
    """

    exit_code = 3

    def __init__(
        self, message: str, partial: str = "", *, of_the_question: bool = False, cost_usd: float | None = None
    ) -> None:
        super().__init__(message)
        self.partial = partial
        self.of_the_question = of_the_question
        self.cost_usd = cost_usd


def reason(error: OSError) -> str:
    """What an error of the system says to a user: why, and which file."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
