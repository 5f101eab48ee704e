"""Linear maps and convolutions: weights prepared for every path that can take them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.infer import infer
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.fast import blas, choice, tables
from lapilli.simulators.fast.choice import Path
from lapilli.simulators.fast.neurons import Answer, Rule
from lapilli.simulators.fast.sizes import padded
from lapilli.simulators.fast.work import Work

Array = npt.NDArray[Any]


@dataclass(slots=True, eq=False)
class Layer:
    """One Linear or Conv2d, and the neurons behind it if they share its kernel.

    Attributes:
        x, y: types of its input and of its currents.
        rule: of the neurons; None if they stand apart.
        forced: the path to take where it can be taken, whatever the density.
        chosen: the path, once a batch was seen.
    """

    op: ops.Weighted
    x: TensorType
    y: TensorType
    rule: Rule | None
    features: frozenset[str]
    forced: str | None = None
    chosen: Path | None = None
    _prepared: dict[Path, tuple[Array, Array]] = field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Independent parts of a convolution."""
        return self.op.groups if isinstance(self.op, ops.Conv2d) else 1

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width; a linear map is 1 x 1."""
        shape = self.op.weight.shape
        return (shape[2], shape[3]) if isinstance(self.op, ops.Conv2d) else (1, 1)

    def choose(self, given: Array) -> Path:
        """The path for inputs of this density; the first batch decides for all."""
        if self.chosen is None:
            self.chosen = self._choose(given)
        return self.chosen

    def _choose(self, given: Array) -> Path:
        weights = self.op.weight
        rows = weights.array.reshape(weights.shape[0], -1)
        found = choice.reach(rows, self.op.bias.array, self.x.range)
        dense = choice.dense_path(found, self.x.range, weights.range, self.features)
        if self.groups > 1 and dense is Path.BYTES:
            dense = Path.FLOAT32 if found.sums <= 1 << 24 else Path.FLOAT64
        events = self.groups == 1 and choice.takes_events(
            found, self.x, weights.range, rows.shape[1]
        )
        if not events or self.forced == "dense":
            return dense
        if self.forced == "events" or dense is not Path.BYTES:
            return Path.EVENTS
        density = float(np.abs(given, dtype=np.int16).mean()) if given.size else 0.0
        return Path.EVENTS if density < choice.DENSE_ABOVE else dense

    def run(self, given: Array, T: int, work: Work, *, keeps: bool) -> Answer:
        """Compute all steps of a batch.

        Args:
            given: (T * B, *shape of x).
            T: steps of each sample.
            work: threads, and memory for what is computed.
            keeps: whether currents and membranes are wanted, where neurons share the kernel.
        """
        path = self.choose(given)
        if path in (Path.EVENTS, Path.BYTES):
            return self._compiled(path, given, T, work, keeps=keeps)
        return Answer(currents=blas.layer(self.op, path, given, self.y))

    def _compiled(
        self, path: Path, given: Array, T: int, work: Work, *, keeps: bool
    ) -> Answer:  # fmt: skip
        from lapilli.simulators.fast.kernels import layers

        x, geometry = self._maps(given, T)
        B, sites, N = x.shape[1], int(geometry[6] * geometry[7]), self.op.weight.shape[0]
        width = padded(N)
        rule, keeps = self.rule, keeps or self.rule is None
        threshold, bias = np.ones(width, np.int32), np.zeros(width, np.int32)
        constants = np.zeros(4, np.int32)
        if rule is not None:
            constants, found = rule.constants, rule.rows(self.y.shape, self._channel, width)
            if found is None:
                raise ValueError("a rule whose rows differ is not fused")
            threshold, bias = found
        size = T * B * sites * width
        spikes = work.memory.take((size if rule else 0,), np.uint8)
        currents = work.memory.take((size if keeps else 0,), np.int32)
        membranes = work.memory.take((size if keeps and rule else 0,), np.int32)
        prepared, weight_bias = self._prepare(path)
        rest = (weight_bias, rule is not None, keeps, threshold, bias, constants,
                spikes, currents, membranes)  # fmt: skip
        if path is Path.EVENTS:
            most = self.x.range.magnitude
            binary = most <= 1 and self.x.range.lo >= 0
            work.parts(B, lambda a, b: layers.layer_of_events(
                x, most, binary, a, b, geometry, prepared, *rest))  # fmt: skip
        else:
            zero = choice.zero_point(self.x.range)
            work.parts(B, lambda a, b: layers.layer_of_products(
                x, zero, a, b, geometry, prepared, *rest))  # fmt: skip
        shaped = (self._shaped(a, T * B, width) if a.size else None
                  for a in (spikes, currents, membranes))  # fmt: skip
        return Answer(*shaped)

    @property
    def _channel(self) -> int:
        return 0 if isinstance(self.op, ops.Conv2d) else len(self.y.shape) - 1

    def _maps(self, given: Array, T: int) -> tuple[Array, Array]:
        """The input as bytes (T, B, H, W, C) in that order in memory, and the geometry."""
        given = given.astype(choice.dtype_of(self.x.range), copy=False)
        if isinstance(self.op, ops.Conv2d):
            x = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
            (_, H, W), op = self.y.shape, self.op
            geometry = (*self.kernel, *op.stride, *op.padding, H, W)
        else:
            x = np.ascontiguousarray(given).reshape(len(given), 1, -1, given.shape[-1])
            geometry = (1, 1, 1, 1, 0, 0, 1, x.shape[2])
        return x.reshape(T, -1, *x.shape[1:]), np.array(geometry, np.int64)

    def _shaped(self, rows: Array, batch: int, width: int) -> Array:
        """Rows (T, B, sites, width) as a view of the shape of the node."""
        if isinstance(self.op, ops.Conv2d):
            N, H, W = self.y.shape
            return np.asarray(rows.reshape(batch, H, W, width)[..., :N].transpose(0, 3, 1, 2))
        return np.asarray(rows.reshape(batch, *self.y.shape[:-1], width)[..., : self.y.shape[-1]])

    def _prepare(self, path: Path) -> tuple[Array, Array]:
        """Weights and bias as the kernel of a path reads them, made once."""
        if path not in self._prepared:
            self._prepared[path] = (
                tables.of_events(self.op, self.x)
                if path is Path.EVENTS
                else tables.of_products(self.op, self.x)
            )
        return self._prepared[path]


@dataclass(slots=True, eq=False)
class ShiftedLayer:
    """A Linear or Conv2d whose weights are bytes times a power of two.

    Attributes:
        layer: of the bytes alone, without bias.
        exponent: of the power of two.
        bias: of each output, as it broadcasts against currents.
        y: type of the currents.
    """

    layer: Layer
    exponent: int
    bias: Array
    y: TensorType

    @classmethod
    def of(
        cls, op: ops.Weighted, x: TensorType, y: TensorType, features: frozenset[str],
        forced: str | None,
    ) -> ShiftedLayer:  # fmt: skip
        """Take a layer apart."""
        silent = IntTensor(np.zeros_like(op.bias.array))
        inner = replace(op, weight=op.weight.mantissa, bias=silent)
        middle = infer(inner, (x,), 1)
        bias = op.bias.array.astype(choice.dtype_of(y.range | op.bias.range))
        bias = bias[:, None, None] if isinstance(op, ops.Conv2d) else bias
        layer = Layer(inner, x, middle, None, features, forced)
        return cls(layer, op.weight.exponent, bias, y)

    def choose(self, given: Array) -> Path:
        """The path of the bytes."""
        return self.layer.choose(given)

    def run(self, given: Array, T: int, work: Work, *, keeps: bool) -> Answer:
        """Compute all steps of a batch: see `Layer.run`."""
        currents = self.layer.run(given, T, work, keeps=keeps).currents
        if currents is None:
            raise TypeError("a layer of its own shows its currents")
        dtype = choice.dtype_of(self.y.range)
        wide = currents.astype(np.int64) << self.exponent
        return Answer(currents=(wide + self.bias).astype(dtype))


def is_shifted(op: ops.Weighted) -> bool:
    """Whether weights that leave a byte are bytes times a power of two."""
    return not choice.inside(op.weight.range, choice.SIGNED_BYTE) and choice.inside(
        op.weight.mantissa.range, choice.SIGNED_BYTE
    )


def shares_kernel(op: ops.Weighted, y: TensorType, rule: Rule) -> bool:
    """Whether neurons can stand in the kernel of a layer: thresholds per channel at most."""
    channel = 0 if isinstance(op, ops.Conv2d) else len(y.shape) - 1
    return rule.rows(y.shape, channel, padded(y.shape[channel])) is not None
