"""The tensors that a graph is built from, each checked when it is taken. Knows names and sizes, no architecture.

Legend: N outputs, K inputs of a linear layer.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from shammah_data.errors import ExportError

Floats = npt.NDArray[np.float32]

# Where a model that could also see keeps its language model (transformers 5 and 4), and where one that cannot does.
PREFIXES = {"model.language_model.": "model.", "language_model.model.": "model.", "language_model.lm_head.": "lm_head."}


class Weights:
    """The given tensors, under the names of a model of text alone; remembers which were never taken."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._weights = weights
        self._stored = {_plain_name(name): name for name in weights}
        self._taken: set[str] = set()

    def take(self, name: str, *dims: int) -> Floats:
        """One tensor as float32. Raises ExportError when it is missing, of another size or not finite."""
        if name not in self._stored:
            raise ExportError(f"tensor {name} is missing from the model's weights")
        self._taken.add(name)
        array = np.asarray(self._weights[self._stored[name]], dtype=np.float32)
        if array.shape != dims:
            raise ExportError(f"tensor {name} is {list(array.shape)}; config.json asks for {list(dims)}")
        if not np.isfinite(array).all():
            raise ExportError(f"tensor {name} holds values that are not finite; train again or repair the file")
        return array

    def stack(self, prefix: str, rows: Mapping[str, int], K: int) -> Floats:
        """The weights of several linear layers with the same K inputs, one below the other."""
        return np.concatenate([self.take(f"{prefix}{name}.weight", N, K) for name, N in rows.items()])

    def stack_bias(self, prefix: str, rows: Mapping[str, int], wanted: bool = True) -> Floats | None:
        """The biases of the same layers, or None where none are wanted."""
        if not wanted:
            return None
        return np.concatenate([self.take(f"{prefix}{name}.bias", N) for name, N in rows.items()])

    def refuse_leftovers(self, ignored: Callable[[str], bool]) -> None:
        """Raise ExportError for a tensor that was never taken and is not `ignored`."""
        if left := sorted(name for name in self._stored if name not in self._taken and not ignored(name)):
            raise ExportError(f"tensor {left[0]} has no place in the graph; this architecture is not supported")


def _plain_name(name: str) -> str:
    for prefix, plain in PREFIXES.items():
        if name.startswith(prefix):
            return plain + name.removeprefix(prefix)
    return name
