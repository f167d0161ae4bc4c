"""The generated pages of docs/reference: what the commands say with --help, and what config.toml may hold.

Knows typer's applications and the settings type. Run by scripts/reference; a test compares the pages with what is committed.
"""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

import typer
from typer.testing import CliRunner

from shammah_data.cli import app as log_app
from shammah_data.settings import Settings
from shammah_runtime.cli import app as serve_app
from shammah_trainer.cli import app as train_app
from shammah_trainer.export_cli import app as export_app

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
APPS: dict[str, typer.Typer] = {
    "shammah-serve": serve_app,
    "shammah-train": train_app,
    "shammah-log": log_app,
    "scripts/export": export_app,
}
_COLUMNS = "80"
_KEY = re.compile(r"^(\w+): ", re.MULTILINE)


def pages() -> dict[str, str]:
    """Each page's text by the name of its file."""
    return {"commands.md": commands(), "settings.md": settings()}


def commands() -> str:
    """What every command says with --help, and what the scripts say at their beginning."""
    parts = [
        "# Commands",
        "What each command says with `--help`. Exit codes: 0 where all went well, 1 after a fault of ours or a failed check, 2 "
        "for a mistake in what was asked or set, 3 where nobody could answer, 130 after Ctrl-C.",
    ]
    for name, app in APPS.items():
        parts.append(f"## {name}")
        parts += [
            f"### {' '.join(path)}\n\n```\n{told}\n```" if len(path) > 1 else f"```\n{told}\n```"
            for path, told in helps(name, app)
        ]
    rows = [f"| `scripts/{name}` | {told.replace('|', chr(92) + '|')} |" for name, told in sorted(scripts())]
    parts.append("\n".join(["## Scripts\n", "In a clone of the repository.\n", "| script | |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def helps(name: str, app: typer.Typer) -> Iterator[tuple[tuple[str, ...], str]]:
    """The help of an application and of each of its commands, by the words that are typed."""
    yield (name,), _help(app, name)
    group = typer.main.get_command(app)
    for command in getattr(group, "commands", {}):
        yield (name, command), _help(app, name, command)


def _help(app: typer.Typer, name: str, *words: str) -> str:
    with patch.dict(os.environ, {"COLUMNS": _COLUMNS, "TERM": "dumb"}):
        done = CliRunner().invoke(app, [*words, "--help"], prog_name=name)
    if done.exit_code:
        raise RuntimeError(f"{name} {' '.join(words)} --help: {done.output}")
    return "\n".join(line.rstrip() for line in done.output.strip().splitlines())


def scripts() -> Iterator[tuple[str, str]]:
    """The scripts by what is typed, and what each says of itself in its first lines."""
    for path in sorted((ROOT / "scripts").iterdir()):
        if path.is_file() and not path.suffix:
            lines = path.read_text(encoding="utf-8").splitlines()[1:]
            comment = lines[: next(n for n, line in enumerate(lines) if not line.startswith("# "))]
            yield path.name, " ".join(line[2:] for line in comment)
        elif path.name.startswith("bench_"):
            told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            name = f"bench {path.stem.removeprefix('bench_')}"
            told = told.splitlines()[0].removeprefix(f"scripts/{name}: ").removesuffix(f" Run by `scripts/{name}`.")
            yield name, _capital(told)


def settings() -> str:
    """All that config.toml may hold."""
    keys = [item for item in fields(Settings) if not is_dataclass(item.default)]
    parts = [
        "# Settings",
        "`config.toml` in the home folder. All of it is optional, and so is the file. An unknown key, a wrong type and a value "
        "out of range are refused in one line that names the key.",
        _table(Settings, keys),
    ]
    for item in fields(Settings):
        if is_dataclass(item.default):
            parts += [f"## `[{item.name}]`", *_section(type(item.default))]
            for inner in fields(item.default):
                if kind := _of_tables(inner):
                    parts += [f"### `[[{item.name}.{inner.name}]]`", *_section(kind)]
    return "\n\n".join(parts) + "\n"


def _section(kind: type) -> list[str]:
    return [meanings(kind)[""], _table(kind, list(fields(kind)))]


def meanings(kind: type) -> dict[str, str]:
    """What the docstring of a section says of each key, and under "" of itself."""
    told = "\n".join(line.strip() for line in (kind.__doc__ or "").strip().splitlines())
    parts = _KEY.split(told)
    found = {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))
    return {key: " ".join(text.split()) for key, text in found.items()}


def _table(kind: type, keys: list[Field[Any]]) -> str:
    told = meanings(kind)
    rows = [f"| `{item.name}` | {_default(item)} | {_values(item)} | {_capital(told[item.name])} |" for item in keys]
    return "\n".join(["| key | default | values | meaning |", "| --- | --- | --- | --- |", *rows])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _default(item: Field[Any]) -> str:
    if _of_tables(item):
        return "none"
    value = item.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(_quoted(one) for one in value)}]`"
    return f"`{_quoted(value) if isinstance(value, str) else value}`"


def _values(item: Field[Any]) -> str:
    kind = item.type
    if _of_tables(item):
        return "tables"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_quoted(choice)}`" for choice in get_args(kind))
    if kind == tuple[str, ...]:
        return "list of texts"
    name = {bool: "`true`, `false`", str: "text", int: "whole number", float: "number"}[kind]  # type: ignore[index]
    if "least" in item.metadata:
        return f"{name}, {_number(item.metadata['least'])} to {_number(item.metadata['most'])}"
    return name


def _number(value: float) -> str:
    return f"2^{round(value).bit_length()} - 1" if value > 2**30 else f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def _quoted(text: str) -> str:
    return f'"{text}"'


def _of_tables(item: Field[Any]) -> type | None:
    kinds = get_args(item.type)
    return kinds[0] if get_origin(item.type) is tuple and is_dataclass(kinds[0]) else None


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"written: docs/reference/{name}")


if __name__ == "__main__":
    main()
