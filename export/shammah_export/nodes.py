"""Collects nodes and tensors of one ONNX graph, and makes the operators whose form depends on the precision.

Knows operators, not models. Operators marked MICROSOFT are described in onnxruntime's docs/ContribOperators.md.

Legend: N outputs, K inputs of a linear layer; V vocabulary, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from shammah_export.halves import FLOAT, float_type, rounded
from shammah_export.precision import BITS, GraphPrecision
from shammah_export.quantize import BLOCK_SIZES, Blocks, block_size_for, quantize_blocks
from shammah_export.shape import Activation
from shammah_export.sink import Array, TensorSink

MICROSOFT = "com.microsoft"

Floats = npt.NDArray[np.float32]


@dataclass
class GraphParts:
    """A graph under construction; every method returns the name of the value it made.

    `accuracy_level` is MatMulNBits' own: 4 rounds activations to int8 for speed, 1 keeps them float32. `largest_block` is
    the most weights, and with level 4 activations, that share a scale.
    """

    sink: TensorSink
    precision: GraphPrecision
    accuracy_level: int = 4
    largest_block: int = BLOCK_SIZES[0]
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    @property
    def float_type(self) -> int:
        """ONNX's number for the type of activations, norms and cache."""
        return float_type(self.precision)

    def floats(self, name: str, array: Array) -> str:
        """Add a constant of floats, in the type that the graph computes in."""
        return self.tensor(name, rounded(name, array, self.precision))

    def cast(self, x: str, kind: int, output: str) -> str:
        """x as ONNX's type `kind`."""
        return self.node("Cast", [x], [output], to=kind)

    def tensor(self, name: str, array: Array) -> str:
        """Add a constant."""
        self.tensors.append(self.sink(name, array))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a constant that several nodes share, once."""
        if all(tensor.name != name for tensor in self.tensors):
            self.tensor(name, array)
        return name

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **settings: Any) -> str:
        """Add one node; an empty name leaves an optional input or output out. Returns the first output."""
        made = onnx.helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **settings)
        self.nodes.append(made)
        return outputs[0]

    def linear(self, x: str, name: str, W_NK: Floats, output: str, bias_N: Floats | None = None) -> str:
        """x @ W.T + bias. A quantized weight is left as the tensors {name}.packed and {name}.scales."""
        if self.precision in BITS:
            self.quantized_table(name, W_NK)
            return self.quantized_linear(x, name, W_NK.shape, output, bias_N)
        weight = self.floats(name, W_NK.T)
        if bias_N is None:
            return self.node("MatMul", [x, weight], [output])
        product = self.node("MatMul", [x, weight], [f"{output}.product"])
        return self.node("Add", [product, self.floats(f"{name}.bias", bias_N)], [output])

    def quantize(self, W_NK: Floats) -> Blocks:
        """The matrix in blocks, as this precision has it."""
        return quantize_blocks(W_NK, BITS[self.precision], block_size_for(W_NK.shape[1], self.largest_block))

    def quantized_table(self, name: str, W_NK: Floats) -> None:
        """Add the tensors {name}.packed and {name}.scales."""
        blocks = self.quantize(W_NK)
        self.tensor(f"{name}.packed", blocks.packed)
        self.tensor(f"{name}.scales", blocks.scales)

    def quantized_linear(self, x: str, name: str, dims: tuple[int, ...], output: str, bias_N: Floats | None = None) -> str:
        """Multiply by the [N, K] = `dims` table that `quantized_table` added under `name`."""
        N, K = dims
        inputs = [x, f"{name}.packed", f"{name}.scales"]
        if bias_N is not None:
            inputs += ["", "", self.tensor(f"{name}.bias", bias_N)]
        settings = {
            "bits": BITS[self.precision],
            "block_size": block_size_for(K, self.largest_block),
            "accuracy_level": self.accuracy_level,
        }
        return self.node("MatMulNBits", inputs, [output], MICROSOFT, N=N, K=K, **settings)

    def quantized_gather(self, name: str, dims: tuple[int, ...], ids: str, output: str) -> str:
        """Rows of the [V, H] = `dims` table that `quantized_table` added under `name`, as float32."""
        V, H = dims
        bits = BITS[self.precision]
        # MatMulNBits wants three dimensions and the gather two; at run time a Reshape is a view and copies nothing.
        sides = self.tensor(f"{name}.sides", np.array([V, H * bits // 8], np.int64))
        rows = self.node("Reshape", [f"{name}.packed", sides], [f"{name}.rows"])
        settings = {"bits": bits, "block_size": block_size_for(H, self.largest_block), "gather_axis": 0, "quantize_axis": 1}
        return self.node("GatherBlockQuantized", [rows, ids, f"{name}.scales"], [output], MICROSOFT, **settings)

    def float_head(self, x: str, table: str, output: str) -> str:
        """x @ table.T for a table that is stored once and also gathered from."""
        # ONNX Runtime fuses the pair into one FusedMatMul; it was measured as fast as a transposed copy.
        turned = self.node("Transpose", [table], [f"{output}.transposed"], perm=[1, 0])
        return self.node("MatMul", [x, turned], [output])

    def norm(self, x: str, name: str, weight_H: Floats, epsilon: float) -> str:
        """RMS normalization (Zhang and Sennrich, arXiv 1910.07467) in standard operators; ONNX Runtime fuses them.

        In float32 whatever the graph computes in: squares soon leave the range of fp16. The weight is multiplied in the
        graph's own type, or what ONNX Runtime makes of it has a mixture of types that CUDA has no kernel for.
        """
        wide = x if self.float_type == FLOAT else self.cast(x, FLOAT, f"{name}.wide")
        two = self.tensor(f"{name}.two", np.array(2, np.float32))
        small = self.tensor(f"{name}.epsilon", np.array(epsilon, np.float32))
        axis = self.tensor(f"{name}.axis", np.array([-1], np.int64))
        square = self.node("Pow", [wide, two], [f"{name}.square"])
        mean = self.node("ReduceMean", [square, axis], [f"{name}.mean"], keepdims=1)
        root = self.node("Sqrt", [self.node("Add", [mean, small], [f"{name}.sum"])], [f"{name}.root"])
        unit = self.node("Div", [wide, root], [f"{name}.unit"])
        if self.float_type != FLOAT:
            unit = self.cast(unit, self.float_type, f"{name}.narrow")
        return self.node("Mul", [unit, self.floats(name, weight_H)], [f"{name}.out"])

    def skip_norm(
        self, residual: str, x: str, name: str, weight_H: Floats, epsilon: float, *, keep_sum: bool
    ) -> tuple[str, str]:
        """RMS normalization of residual + x. Returns the names of the norm and, with `keep_sum`, of the sum."""
        outputs = [f"{name}.out", "", "", f"{name}.residual"] if keep_sum else [f"{name}.out"]
        inputs = [residual, x, self.floats(name, weight_H)]
        self.node("SkipSimplifiedLayerNormalization", inputs, outputs, MICROSOFT, epsilon=epsilon)
        return outputs[0], outputs[-1]

    def activation(self, x: str, kind: Activation, output: str) -> str:
        """SiLU, or GELU by its tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415)."""
        if kind == "silu":
            # x * sigmoid(alpha * x): with alpha 1, QuickGelu is SiLU in one kernel.
            return self.node("QuickGelu", [x], [output], MICROSOFT, alpha=1.0)
        return self.node("FastGelu", [x], [output], MICROSOFT)

    def layer_norm(self, x: str, name: str, weight_H: Floats, bias_H: Floats, epsilon: float, skip: str = "") -> str:
        """Layer normalization (Ba et al., arXiv 1607.06450) of x, or of x + `skip`."""
        constants = [self.tensor(name, weight_H), self.tensor(f"{name}.bias", bias_H)]
        if skip:
            return self.node("SkipLayerNormalization", [x, skip, *constants], [f"{name}.out"], MICROSOFT, epsilon=epsilon)
        return self.node("LayerNormalization", [x, *constants], [f"{name}.out"], axis=-1, epsilon=epsilon)
