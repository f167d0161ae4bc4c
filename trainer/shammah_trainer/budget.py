"""What a training takes of memory and disk, and what to do where there is less. Knows sizes, touches nothing.

An estimate, on the safe side: for batches of 8 x 128 tokens of SmolLM2-135M it says 4.6 GB, where 3.9 were measured, and for a
whole run in float32 with examples of up to 512 tokens 9.1 GB, where the process took 6.6 at its peak.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from shammah_data.errors import TrainingError
from shammah_trainer.attention import LONGEST

# Libraries, the tokenizer, the dataset.
_FIXED = 500 * 2**20
# Least tokens that are worth computing at once.
_FEWEST_TOKENS = 256
_LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Sizes:
    """What the estimates need to know of a model. `matrices`: the weights that are rounded for a quantized graph."""

    parameters: int
    matrices: int
    trained: int
    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab: int

    @classmethod
    def of(cls, folder: Path, lora_rank: int | None) -> "Sizes":
        """Read config.json and the headers of the weights of a model folder. Raises TrainingError."""
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            shapes: dict[str, list[int]] = {}
            for path in folder.glob("*.safetensors"):
                shapes |= _shapes(path)
            parameters = sum(map(prod, shapes.values()))
            adapters = [sum(shape) for name, shape in shapes.items() if name.split(".")[-2:-1] and name.split(".")[-2] in _LORA]
            return cls(
                parameters,
                sum(prod(shape) for shape in shapes.values() if len(shape) == 2),
                parameters if lora_rank is None else lora_rank * sum(adapters),
                config["num_hidden_layers"],
                config["num_attention_heads"],
                config["hidden_size"],
                config["intermediate_size"],
                config["vocab_size"],
            )
        except (OSError, ValueError, KeyError, struct.error) as error:
            raise TrainingError(f"{folder}: not a model folder that can be trained: {error}") from error


@dataclass(frozen=True)
class Work:
    """How the model is to be trained, as far as it takes room.

    `longest`: tokens of the longest example. `remembered`: the best weights are kept in memory, not on disk.
    """

    longest: int
    tokens_at_once: int
    mixed: bool
    rounded: bool
    remembered: bool = False


@dataclass(frozen=True)
class Plan:
    """How it fits: bytes that the training takes at its peak, and what was changed to that end."""

    needed: int
    tokens_at_once: int
    save_memory: bool


def plan_memory(sizes: Sizes, work: Work, available: int | None) -> Plan:
    """The fastest way that fits into `available` bytes (None: unknown, everything fits).

    First activations are computed twice instead of kept, which changes no result; then fewer tokens are computed at once,
    which changes the last bits. Raises TrainingError where even that is too much.
    """
    smallest = max(work.longest, _FEWEST_TOKENS)
    tokens = [max(work.tokens_at_once, work.longest)]
    while tokens[-1] // 2 >= smallest:
        tokens.append(tokens[-1] // 2)
    ways = [Plan(memory_needed(sizes, work, at_once, saving), at_once, saving) for at_once, saving in _ways(tokens)]
    if available is None:
        return ways[0]
    for way in ways:
        if way.needed <= available:
            return way
    raise TrainingError(
        f"training needs about {_mb(ways[-1].needed)} of memory and {_mb(available)} are free: close other programs, or set "
        'method = "lora" or a smaller max_length below [train] in config.toml'
    )


def _ways(tokens: list[int]) -> list[tuple[int, bool]]:
    return [(tokens[0], False), *((at_once, True) for at_once in tokens)]


def memory_needed(sizes: Sizes, work: Work, tokens: int, save_memory: bool) -> int:
    """Bytes at the peak: weights, gradients and two moments in float32, what autocast and rounding add, and activations."""
    state = 4 * sizes.parameters + 12 * sizes.trained
    if work.mixed:
        # Autocast keeps a bfloat16 copy of every weight until the step ends.
        state += 2 * sizes.parameters
    if work.rounded:
        state += 4 * sizes.matrices
    if work.remembered:
        state += 4 * sizes.trained
    # The scores of short attention are kept, in float32 and as the products take them.
    layer = 26 * sizes.hidden + 12 * sizes.intermediate + 8 * sizes.heads * min(work.longest, LONGEST)
    if sizes.trained < sizes.parameters:
        # An adapter reads the input of its layer once more.
        layer += layer // 4
    kept = sizes.layers * 4 * sizes.hidden + layer if save_memory else sizes.layers * layer
    # Logits, their softmax and its gradient; about half of the tokens belong to responses.
    head = 3 * 4 * sizes.vocab // 2
    return _FIXED + state + tokens * (kept + head)


def checkpoint_bytes(sizes: Sizes) -> int:
    """Size of one state: the trained weights and both moments."""
    return 12 * sizes.trained


def plan_disk(sizes: Sizes, free: int) -> bool:
    """Whether `free` bytes hold checkpoints beside what a run must write.

    A checkpoint is written beside the last one, and beside the best weights. Raises TrainingError where not even the merged
    weights and the graph fit.
    """
    # Merged weights, those that were learned, and a graph in float32 at the worst.
    least = (4 + 4 + 4) * sizes.parameters
    if free < least:
        raise TrainingError(
            f"a run writes about {_mb(least)} and {_mb(free)} of the disk are free: free some, or delete old runs"
        )
    return free >= least + 2 * checkpoint_bytes(sizes) + 2 * 4 * sizes.trained


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _shapes(path: Path) -> Mapping[str, list[int]]:
    """The shapes in a safetensors file: eight bytes of length, then a JSON header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
