"""scripts/export: one model folder to one graph folder, by hand, and what that cost. Knows arguments and printing only.

It lives beside the trainer since it measures with the engine, which the export itself must not know.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shammah_data import command
from shammah_data.errors import ArtifactError, ExportError, ShammahError
from shammah_export.precision import BITS, NOT_ON_CPU, GraphPrecision

if TYPE_CHECKING:
    from shammah_export.export import ExportReport
    from shammah_export.runner import Device
    from shammah_runtime.engine.session import GraphSession
    from shammah_trainer.measure import Row

NAME = "shammah-export"

# What a model without a chat format is compared by; without a tokenizer, ids drawn evenly from the vocabulary.
PROMPTS = (
    "How do I reset my password? Open the settings, choose Account, then follow the link in the message we send you.",
    "What is 15 + 27? 15 + 27 = 42.",
    "The invoice for March lists two items twice. Which of them should be paid, and who has to approve the change?",
    "def total(prices):\n    return sum(price * amount for price, amount in prices)\n",
)
# typer carries its own copy of click or uses the installed one, depending on its version.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

STAND_IN_PROMPTS, STAND_IN_TOKENS = 4, 32
# Everyday exchanges that a graph is compared by where no others are given: some 1,000 tokens.
_EVERYDAY = 40

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export(
    base_or_run: Annotated[Path, typer.Argument(help="A model folder (config.json, safetensors), or a run folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to write model.onnx and weights.bin to.")],
    precision: Annotated[GraphPrecision, typer.Option(help="How the weights are stored.")],
    heldout: Annotated[
        Path | None, typer.Option(help="JSON lines with query and response to measure by (default: the run's own, if any).")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="The most lines of it that are used.")] = 200,
    context: Annotated[int | None, typer.Option(help="Longest sequence in tokens; default: the model's own.")] = None,
    parity: Annotated[bool, typer.Option("--parity/--no-parity", help="Compare the graph with torch.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the graph that is measured.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Write into a used folder; accept what is beyond the limits.")] = False,
) -> None:
    """Export a model to ONNX, quantize it, and measure what that cost: size, likelihoods, answers, speed."""
    folder = base_or_run / "merged" if (base_or_run / "merged").is_dir() else base_or_run
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; give a model folder or a run folder")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ExportError(f"{out} is not empty; choose another folder or add --force")

    # Heavy imports wait until the arguments are known to be good.
    from shammah_trainer.measure import read_rows

    if heldout is None and (base_or_run / "heldout.jsonl").is_file():
        heldout = base_or_run / "heldout.jsonl"
    lines = read_rows(heldout, rows) if heldout else []

    from shammah_export.export import export_model

    # A tokenizer that cannot be read is told of before anything is written.
    prompts, firsts = _prompts(folder, lines, context) if parity else ([], None)
    report = export_model(folder, out, precision, context=context)
    _tell("precision", report.precision)
    _tell("size", f"{report.bytes / 1e6:.1f} MB")
    _tell("nodes", str(report.nodes))
    _tell("seconds", f"{report.seconds:.1f}")
    if not parity:
        return
    from shammah_trainer.measure import open_graph

    try:
        session = open_graph(out, report.shape, threads, precision)
    except ArtifactError as error:
        if precision not in NOT_ON_CPU:
            raise
        _tell("parity", f"not measured: {precision} runs on CUDA only, and {error}")
        return
    _tell("measured on", session.device)
    reasons = _compare(folder, out, report, prompts, firsts, threads, session.device)
    _use(session, folder, lines)
    if reasons and not force:
        raise ExportError(f"{'; '.join(reasons)}; the files are in {out}, add --force to accept them")


def _tell(label: str, value: str) -> None:
    typer.echo(f"{label:<26}{value}")


def _compare(
    folder: Path,
    out: Path,
    report: "ExportReport",
    prompts: list[list[int]],
    firsts: list[int] | None,
    threads: int,
    device: "Device",
) -> list[str]:
    """Print how far the graph is from torch; the reasons why that is too far."""
    from transformers.utils import logging

    from shammah_export.parity import above_ratio_limit, measure_parity, within_limits

    logging.disable_progress_bar()
    measured = measure_parity(folder, out, prompts, report.precision, answers_from=firsts, threads=threads, device=device)
    _tell("reference", f"{measured.reference}, {measured.positions} positions")
    _tell("largest logit difference", f"{measured.max_abs_difference:.3g}")
    _tell("mean KL", f"{measured.mean_kl:.3g} nats")
    _tell("top-1 agreement", f"{measured.top1_agreement:.1%}")
    known = f"{measured.perplexity_ratio:.4f} +- {2 * measured.ratio_error:.4f}, {measured.answer_tokens} tokens"
    _tell("perplexity ratio", known if measured.answer_tokens else "not measured: no answer fits the context")
    reasons = within_limits(measured)
    if (dear := above_ratio_limit(measured)) is not None:
        cure = (
            f"; weights that were not trained through {report.precision} lose this much: train with `shammah-train --precision "
            f"{report.precision}` and export that run, or take int8"
        )
        reasons.append(dear + (cure if BITS.get(report.precision, 8) < 8 else ""))
    return reasons


def _use(session: "GraphSession", folder: Path, rows: "list[Row]") -> None:
    """Print what the serving engine makes of the graph."""
    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_trainer.base import Base
    from shammah_trainer.measure import answer_rows, milliseconds_per_token

    if rows:
        base = Base.open(folder)
        found = answer_rows(session, ChatTokenizer(folder / "tokenizer.json", base.chat), base.stop_ids, rows)
        _tell("answered right", f"{found.right} of {found.asked} ({found.right / found.asked:.1%})")
    else:
        _tell("answered right", "not measured: no --heldout FILE")
    taken = milliseconds_per_token(session)
    by = f"with {session.threads} threads" if session.device == "cpu" else "on the GPU"
    _tell("decode speed", f"{taken:.2f} ms a token, {1000 / taken:.0f} tokens a second {by}")


def _prompts(folder: Path, rows: "list[Row]", context: int | None) -> tuple[list[list[int]], list[int] | None]:
    """Token ids to compare a model by, which fit its context, and where each response begins, where there are any.

    Raises InputError for exchanges without a chat format, ArtifactError and ExportError for what else cannot be read.
    """
    from shammah_data.bases import BASE_INFO
    from shammah_export.checkpoint import read_json
    from shammah_export.export import CONFIG_NAME
    from shammah_export.shape import ModelShape
    from shammah_trainer.measure import everyday_rows

    shape = ModelShape.from_config(read_json(folder / CONFIG_NAME), context=context)
    if rows:
        return _encoded(folder, rows, shape.context, "line of the held-out file")
    if (folder / BASE_INFO).exists():
        return _encoded(folder, everyday_rows(_EVERYDAY), shape.context, "everyday exchange")
    path = folder / "tokenizer.json"
    if path.exists():
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for any unreadable file
            raise ArtifactError(f"{path}: not a tokenizer: {error}") from error
        return [tokenizer.encode(text).ids[: shape.context] for text in PROMPTS], None
    import numpy as np

    ids = np.random.default_rng(0).integers(0, shape.vocab, (STAND_IN_PROMPTS, min(STAND_IN_TOKENS, shape.context)))
    return [[int(token) for token in row] for row in ids], None


def _encoded(folder: Path, rows: "list[Row]", context: int, what: str) -> tuple[list[list[int]], list[int]]:
    """Token ids of queries and responses as the engine has them, and where each response begins; what fits the context."""
    from shammah_runtime.engine.chat import ChatTokenizer
    from shammah_trainer.base import Base

    base = Base.open(folder)
    tokenizer = ChatTokenizer(folder / "tokenizer.json", base.chat)
    pairs = [(tokenizer.prompt(row.query), tokenizer.answer(row.response, base.stop_ids)) for row in rows]
    fitting = [(prompt, answer) for prompt, answer in pairs if len(prompt) + len(answer) <= context]
    if not fitting:
        raise ExportError(f"no {what} fits a context of {context} tokens")
    return [[*prompt, *answer] for prompt, answer in fitting], [len(prompt) for prompt, _ in fitting]


def main() -> None:
    """Run the command; what goes wrong is one line on stderr and exit code 2."""
    command.fill_streams()
    try:
        code = app(standalone_mode=False)
    except USAGE_ERROR as error:
        _fail(error.format_message())
    except ShammahError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    sys.exit(code or 0)


def _fail(message: str, code: int = 2) -> None:
    print(f"{NAME}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
