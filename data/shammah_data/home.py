"""SHAMMAH_HOME: the one folder in which serving and training meet. Knows paths, not contents."""

import os
from dataclasses import dataclass
from pathlib import Path

from shammah_data.durable import private_folder
from shammah_data.errors import InputError


@dataclass(frozen=True)
class Home:
    """Where everything lives."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        """$SHAMMAH_HOME, else the platform's user data folder. Creates nothing. Raises InputError for what can be no home."""
        chosen = os.environ.get("SHAMMAH_HOME")
        if chosen:
            try:
                root = Path(chosen).expanduser().absolute()
                # DuckDB opens no other.
                str(root).encode()
            except (RuntimeError, UnicodeEncodeError) as error:
                wrong = "there is no such user" if isinstance(error, RuntimeError) else "is no text in UTF-8"
                raise InputError(f"{chosen}: {wrong}: set SHAMMAH_HOME to a folder you own") from error
            return cls(root)
        import platformdirs  # its import is only worth paying where the default is needed

        return cls(Path(platformdirs.user_data_dir("shammah", appauthor=False)))

    def create(self) -> "Home":
        """Make the root folder, private to its owner.

        Raises InputError where that cannot be done.
        """
        try:
            private_folder(self.root)
        except OSError as error:
            raise InputError(f"cannot create {self.root} ({error.strerror}): set SHAMMAH_HOME to a folder you own") from error
        return self

    @property
    def settings(self) -> Path:
        """config.toml."""
        return self.root / "config.toml"

    @property
    def log(self) -> Path:
        """The DuckDB database of exchanges."""
        return self.root / "exchanges.duckdb"

    @property
    def spool(self) -> Path:
        """JSON lines that wait for the database to be free."""
        return self.root / "spool.jsonl"

    @property
    def tombstones(self) -> Path:
        """The ids of what was forgotten, for a running session to notice."""
        return self.root / "tombstones.jsonl"

    @property
    def ratings(self) -> Path:
        """The ids of ratings, for a running session to notice."""
        return self.root / "ratings.jsonl"

    @property
    def forgetting(self) -> Path:
        """What is being forgotten, until the last copy of it is gone."""
        return self.root / "forgetting.json"

    @property
    def damaged(self) -> Path:
        """Databases that were set aside because they could not be opened."""
        return self.root / "damaged"

    @property
    def log_token(self) -> Path:
        """The token of the log server."""
        return self.root / "log-token"

    @property
    def http_token(self) -> Path:
        """The token of the HTTP server."""
        return self.root / "http-token"

    @property
    def spent(self) -> Path:
        """What the teacher cost today, where the day has a budget."""
        return self.root / "spent.json"

    @property
    def history(self) -> Path:
        """What was typed in sessions."""
        return self.root / "history.jsonl"

    @property
    def models(self) -> Path:
        """The model store."""
        return self.root / "models"

    @property
    def bases(self) -> Path:
        """Base folders, one per base model."""
        return self.root / "bases"

    @property
    def embedder(self) -> Path:
        """The sentence embedder: embedder.onnx, tokenizer.json, embedder.json."""
        return self.root / "embedder"

    @property
    def cache(self) -> Path:
        """What can be made again from the log."""
        return self.root / "cache"

    @property
    def runs(self) -> Path:
        """One folder per training run."""
        return self.root / "runs"

    @property
    def report(self) -> Path:
        """Where `shammah-train report` writes its page unless it is told otherwise."""
        return self.root / "report.html"
