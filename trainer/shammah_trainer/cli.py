"""shammah-train: one run, the base model, which version serves, and what past runs did."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from shammah_data import command
from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.settings import Precision, Settings
from shammah_data.store import ModelStore, Pointer
from shammah_data.text import printable
from shammah_trainer import showing

app = typer.Typer(
    help="Train on the exchange log and publish the result; without a command: one run, as cron would start it.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def train(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Run below min_examples and without news.")] = False,
    epochs: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="Passes over the data (default: config.toml).")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0.0, help="Stop training after so long, at the best state so far.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Weights of the graph (default: config.toml).")] = None,
    version: command.ShowVersion = False,
) -> None:
    """Read the log, fine-tune, export, evaluate, and publish if it improved."""
    if context.invoked_subcommand is not None:
        if force or epochs or precision or max_minutes is not None:
            raise InputError(f"options of a run do not go with the command {context.invoked_subcommand}")
        return
    from shammah_trainer.priority import step_back
    from shammah_trainer.processes import Processes
    from shammah_trainer.progress import Reporter
    from shammah_trainer.run import train_once

    home = Home.find().create()
    settings = Settings.load(home.settings)
    _need_training_packages()
    train = settings.train
    chosen = replace(
        train,
        precision=precision or train.precision,
        max_minutes=train.max_minutes if max_minutes is None else max_minutes,
    )
    if epochs:
        chosen = replace(chosen, epochs=epochs, least_steps=0)
    step_back(chosen.nice)
    reporter, processes = Reporter(), Processes()
    if not processes.leads:
        from shammah_trainer.following import follow

        follow(processes)
        return
    processes.heed()
    try:
        result = train_once(home, replace(settings, train=chosen), reporter, force, processes=processes)
    finally:
        reporter.end()
        processes.dismiss()
        processes.leave()
    print(printable(f"{result.status}: {result.reason}"))


@app.command()
def base(
    source: Annotated[
        str | None, typer.Argument(help="A GGUF file, a model folder or a hub name (default: SmolLM2-135M-Instruct).")
    ] = None,
) -> None:
    """Make a base folder that training can start from."""
    _need_training_packages()
    from shammah_trainer.base import make_base
    from shammah_trainer.run import in_progress

    home = Home.find().create()
    made = make_base(source, home.bases, print, lambda: in_progress(home))
    print(printable(f'ready: {made.folder} (base = "{source or made.name}" below [train] in config.toml)'))


@app.command()
def embedder(
    source: Annotated[
        str | None, typer.Argument(help="A folder with a BERT model (default: the package of all-MiniLM-L6-v2).")
    ] = None,
) -> None:
    """Make the sentence embedder that `shammah-serve similar` needs."""
    _need_training_packages()
    from shammah_trainer.embedder import make_embedder

    made = make_embedder(source, Home.find().create(), print)
    print(f"ready: {made.name} (shammah-serve similar TEXT)")


Version = Annotated[str, typer.Argument(help="A version such as v0003.")]


@app.command()
def promote(version: Version) -> None:
    """Make a version the one that serves, after checking every byte of it."""
    _print_roles(ModelStore(Home.find().models).promote(version))


@app.command()
def rollback() -> None:
    """Return to the version that served before."""
    _print_roles(ModelStore(Home.find().models).rollback())


@app.command("try")
def try_(
    version: Version,
    share: Annotated[float, typer.Option("--share", min=0.001, max=1.0, help="The share of sessions that it answers.")] = 0.2,
) -> None:
    """Try a version on a share of the sessions until audits have decided; `promote` and `drop` end it by hand."""
    _print_roles(ModelStore(Home.find().models).set_candidate(version, share))


@app.command()
def drop() -> None:
    """End a trial: the candidate answers nobody any longer."""
    _print_change(ModelStore.clear_candidate, "no version was being tried")


@app.command()
def pin(version: Version) -> None:
    """Make a version the one that serves, whatever runs and audits say, until `unpin`."""
    _print_roles(ModelStore(Home.find().models).pin(version))


@app.command()
def unpin() -> None:
    """Let the version that serves be replaced again."""
    _print_change(ModelStore.unpin, "no version was pinned")


@app.command()
def versions() -> None:
    """List the versions, their roles, and where a trial is."""
    from shammah_data.log import ExchangeLog
    from shammah_trainer.roles import role_lines

    home = Home.find()
    settings = Settings.load(home.settings)
    lines = role_lines(ModelStore(home.models), ExchangeLog(home, settings), settings)
    print("\n".join(lines) if lines else "no version yet: run shammah-train")


def _print_change(change: Callable[[ModelStore], Pointer], unchanged: str) -> None:
    store = ModelStore(Home.find().models)
    before, after = store.pointer(), change(store)
    if after == before:
        print(unchanged)
    _print_roles(after)


def _print_roles(pointer: Pointer) -> None:
    pinned = ", pinned" if pointer.pinned else ""
    tried = f", candidate: {pointer.candidate} for {pointer.candidate_share:.0%} of the sessions" if pointer.candidate else ""
    print(f"champion: {pointer.champion or 'none'}{pinned}, previous: {pointer.previous or 'none'}{tried}")


showing.register(app)


def _need_training_packages() -> None:
    """Raise InputError with the cure where only the lean runtime is installed."""
    for name in ("torch", "transformers", "onnx", "accelerate", "peft", "safetensors"):
        try:
            found = importlib.util.find_spec(name) is not None
        except ImportError:
            found = False
        if not found:
            raise InputError(f"training needs {name}, which is not installed: pip install 'shammah[cpu,train]'")


def main() -> None:
    """Entry point of `shammah-train`."""
    command.fill_streams()
    if not sys.stderr.isatty():
        # Bars of other libraries would fill a log with half-drawn lines.
        os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command.leave_threads_behind(app, "shammah-train")


if __name__ == "__main__":
    main()
