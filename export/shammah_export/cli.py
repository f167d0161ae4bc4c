"""scripts/export: one model folder to one graph folder, by hand. Knows arguments and printing, nothing else."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shammah_data.errors import ExportError, ShammahError
from shammah_export.precision import NOT_ON_CPU, GraphPrecision

NAME = "shammah-export"

# Prompts of the kind that the model will meet; without a tokenizer, ids drawn evenly from the vocabulary.
PROMPTS = (
    "How do I reset my password? Open the settings, choose Account, then follow the link in the message we send you.",
    "What is 15 + 27? 15 + 27 = 42.",
    "The invoice for March lists two items twice. Which of them should be paid, and who has to approve the change?",
    "def total(prices):\n    return sum(price * amount for price, amount in prices)\n",
)
# typer carries its own copy of click or uses the installed one, depending on its version.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

STAND_IN_PROMPTS, STAND_IN_TOKENS = 4, 32

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export(
    base_or_run: Annotated[Path, typer.Argument(help="A model folder (config.json, safetensors), or a run folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to write model.onnx and weights.bin to.")],
    precision: Annotated[GraphPrecision, typer.Option(help="How the weights are stored.")],
    context: Annotated[int | None, typer.Option(help="Longest sequence in tokens; default: the model's own.")] = None,
    parity: Annotated[bool, typer.Option("--parity/--no-parity", help="Compare the graph with torch.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Write into a used folder; accept a bad parity.")] = False,
) -> None:
    """Export a model to ONNX, quantize it, and compare it with the original."""
    folder = base_or_run / "merged" if (base_or_run / "merged").is_dir() else base_or_run
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; give a model folder or a run folder")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ExportError(f"{out} is not empty; choose another folder or add --force")

    # Heavy imports wait until the arguments are known to be good.
    from shammah_export.export import export_model

    report = export_model(folder, out, precision, context=context)
    rows = [
        ("precision", report.precision),
        ("size", f"{report.bytes / 1e6:.1f} MB"),
        ("nodes", str(report.nodes)),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    reasons: list[str] = []
    if parity and precision in NOT_ON_CPU:
        rows.append(("parity", f"not measured: ONNX Runtime has no CPU kernels for {precision}"))
    elif parity:
        from transformers.utils import logging

        from shammah_export.parity import measure_parity, within_limits

        logging.disable_progress_bar()
        prompts = _prompts(folder, report.shape.vocab, report.shape.context)
        measured = measure_parity(folder, out, prompts, precision)
        reasons = within_limits(measured)
        rows += [
            ("reference", f"{measured.reference}, {measured.positions} positions"),
            ("largest logit difference", f"{measured.max_abs_difference:.3g}"),
            ("mean KL", f"{measured.mean_kl:.3g} nats"),
            ("top-1 agreement", f"{measured.top1_agreement:.1%}"),
        ]
    for label, value in rows:
        typer.echo(f"{label:<26}{value}")
    if reasons and not force:
        raise ExportError(f"{'; '.join(reasons)}; the files are in {out}, add --force to accept them")


def _prompts(folder: Path, vocab: int, context: int) -> list[list[int]]:
    """Token ids for the parity check, cut to `context` tokens."""
    path = folder / "tokenizer.json"
    if path.exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        return [tokenizer.encode(text).ids[:context] for text in PROMPTS]
    import numpy as np

    ids = np.random.default_rng(0).integers(0, vocab, (STAND_IN_PROMPTS, min(STAND_IN_TOKENS, context)))
    return [[int(token) for token in row] for row in ids]


def main() -> None:
    """Run the command; what goes wrong is one line on stderr and exit code 2."""
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
