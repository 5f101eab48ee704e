"""A graph from lava-dl's `.net` file: the meaning that netx and Lava's fixed-point LIF give it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from lapilli.export import limits
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.export.net.delays import delayed, per_synapse
from lapilli.export.net.reader import NetFile, NetLayer, read_net
from lapilli.export.net.registers import weight_fault
from lapilli.export.net.saturation import saturating
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.loihi import TIE
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.targets.loihi1 import BIAS, THRESHOLD
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_MOST_STEPS = 1 << 16
_MOST_ANSWERS = 1 << 16
_MOST_VTH = THRESHOLD.largest // TIE
_BIAS = IntRange(-BIAS.largest - 1, BIAS.largest)


def network_from_net(
    path: Path,
    T: int | None = None,
    memory_limit: int | None = None,
    reading: Progress | None = None,
) -> Network:
    """Read a chain of CUBA layers, exactly as netx runs it.

    The input of a file whose first layer is an input with neurons is their bias, `weight x + bias`
    of a pixel x in [0, 1]; else it is spikes: of an input without neurons, or one for each
    column of the weights where the first layer is dense. The answer is the sum over time of the
    last spikes, or of the last layer's input where that layer neither leaks nor ever fires.
    Membranes that inhibition takes to the end of their register stay there, as Lava's do.

    Args:
        path: of the file.
        T: steps of a sample; by default what the file says.
        memory_limit: as `read_net`.
        reading: as `read_net`.

    Raises:
        FormatError: as `read_net`; or something that netx does not read, or that its registers
            would change, or that the graph has no op for: names the layer.
    """
    file = read_net(path, memory_limit, reading)
    try:
        return _network(file, T)
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    except GraphError as error:
        raise FormatError(path, str(error)) from error


def _network(file: NetFile, T: int | None) -> Network:
    steps = T if T is not None else file.T
    if steps is None:
        raise MalformedError("does not say how many steps a sample has; state T (--T)")
    if not 1 <= steps <= _MOST_STEPS:
        raise MalformedError(f"a sample of {steps} steps; 1 to {_MOST_STEPS} can be")
    reader = _ChainReader(steps)
    first = file.layers[0]
    fed = first.kind == "dense"  # with spikes, and no layer says so
    quantizer = reader.spikes(first) if fed else reader.input(first)
    for index, layer in list(enumerate(file.layers))[0 if fed else 1 :]:
        reader.layer(f"layer.{index}", layer, last=index == len(file.layers) - 1)
    return reader.network(quantizer)


class _ChainReader:
    """The nodes so far, and the shape that the next layer meets."""

    def __init__(self, T: int) -> None:
        self.T = T
        self.nodes: list[Node] = []
        self.shape: tuple[int, ...] = ()

    def network(self, quantizer: InputQuantizer) -> Network:
        last = self.nodes[-1]
        if isinstance(last.op, ops.Neuron):
            if len(self.shape) > 1:
                flat = ops.Reshape(shape=(math.prod(self.shape),))
                self.nodes.append(Node("counts.flat", flat, (last.name,)))
            self.nodes.append(Node("counts", ops.Readout(), (self.nodes[-1].name,)))
        elif not isinstance(last.op, ops.Readout):
            raise MalformedError(f"{last.name}: is last, and has no neurons")
        graph = saturating(Graph(tuple(self.nodes), (self.nodes[-1].name,), self.T))
        if (answers := math.prod(self.shape)) > _MOST_ANSWERS:
            raise MalformedError(
                f"{last.name}: {answers} answers; at most {_MOST_ANSWERS} are read"
            )
        classes = tuple(str(i) for i in range(answers))
        return Network(graph=graph, input=quantizer, logit_scale=Fraction(1), classes=classes)

    def input(self, layer: NetLayer) -> InputQuantizer:
        """The input node, with its neurons, and how images become it."""
        shape = _shape(layer, "layer.0")
        if layer.kind != "input":
            raise MalformedError(
                f"layer.0: {layer.kind[:20]!r} is first, which must be 'input' or 'dense'"
            )
        _only("layer.0", layer, {"shape", "weight", "bias"})
        self.shape = shape
        channels = shape[0] if len(shape) == 3 else 1
        image = shape if len(shape) == 3 else (1, 1, math.prod(shape))
        scale = Fraction(_one("layer.0", layer, "weight", 64))
        shift = Fraction(_one("layer.0", layer, "bias", 0))
        if layer.neuron is None:
            scale, shift, known = Fraction(1), Fraction(0), TensorType.spikes(*image)
        else:
            known = TensorType(image, _BIAS, Kind.GRADED)
        if scale <= 0:
            raise MalformedError(f"layer.0: weight {scale}; must be positive")
        self.nodes.append(Node("input", ops.Input(type=known)))
        if image != shape:
            self.nodes.append(Node("input.flat", ops.Reshape(shape=shape), ("input",)))
        if layer.neuron is not None:
            # A bias drives the membrane, whatever the current would do: no memory in u.
            self._neurons("layer.0", layer, current_decay=ops.DECAY_ONE)
        return InputQuantizer(
            mean=(-shift / scale,) * channels,
            std=(1 / scale,) * channels,
            exponent=0,
            lo=known.range.lo,
            hi=known.range.hi,
        )

    def spikes(self, layer: NetLayer) -> InputQuantizer:
        """The input node of a file that begins with a dense layer: a spike or none, per column."""
        weight = layer.fields.get("weight")
        columns = 0 if weight is None else weight.size // math.prod(_shape(layer, "layer.0"))
        if not columns:
            raise MalformedError("layer.0: no weight for each of its neurons")
        self.shape = (columns,)
        self.nodes.append(Node("input", ops.Input(type=TensorType.spikes(1, 1, columns))))
        self.nodes.append(Node("input.flat", ops.Reshape(shape=self.shape), ("input",)))
        return InputQuantizer(mean=(Fraction(0),), std=(Fraction(1),), exponent=0, lo=0, hi=1)

    def layer(self, name: str, layer: NetLayer, *, last: bool) -> None:
        """One group of the file behind those before."""
        if layer.kind == "flatten":
            if layer.neuron is not None:
                raise MalformedError(f"{name}: neurons in a flatten")
            self.shape = (math.prod(self.shape),)
            self.nodes.append(Node(name, ops.Reshape(shape=self.shape), (self.nodes[-1].name,)))
            return
        if layer.kind not in ("dense", "conv"):
            raise MalformedError(
                f"{name}: {layer.kind[:20]!r}; netx runs input, conv, flatten, dense"
            )
        if "weight" not in layer.fields:
            raise MalformedError(f"{name}: no weight")
        before = self.nodes[-1].name
        op = self._conv(name, layer) if layer.kind == "conv" else self._dense(name, layer)
        if fault := weight_fault(op.weight.array):
            raise MalformedError(f"{name}: {fault}")
        bias = self._bias(name, layer, op.weight.shape[0])
        proven = self._sums(op, bias)
        if layer.neuron is None and (np.any(bias) or not last or proven.magnitude > _MOST_VTH):
            raise MalformedError(
                f"{name}: without neurons netx adds up in u; it must be last, without a bias, and "
                f"its sums, here in [{proven.lo}, {proven.hi}], within {_MOST_VTH}"
            )
        sums = layer.neuron is None or (last and _adds_up(layer.neuron, proven))
        if sums and isinstance(op, ops.Linear):
            self._synapse(name, layer, replace(op, bias=IntTensor.of(bias)), before)
            self.nodes.append(Node(name, ops.Readout(), (f"{name}.synapse",)))
        else:
            self._synapse(name, layer, op, before)
            self._neurons(name, layer, bias=bias)

    def _synapse(
        self, name: str, layer: NetLayer, op: ops.Linear | ops.Conv2d, before: str
    ) -> None:
        delay = layer.fields.get("delay", np.zeros(1, np.int64))
        if not delay.any():
            self.nodes.append(Node(f"{name}.synapse", op, (before,)))
            return
        if isinstance(op, ops.Conv2d):
            raise MalformedError(f"{name}: delays of a convolution, which netx runs without them")
        try:
            late = per_synapse(delay, op.weight.shape)
            self.nodes += delayed(f"{name}.synapse", op, late, before, self.T)
        except MalformedError as error:
            raise MalformedError(f"{name}: {error}") from error

    def _dense(self, name: str, layer: NetLayer) -> ops.Linear:
        _only(name, layer, {"shape", "weight", "bias", "delay", "inFeatures", "outFeatures"})
        size = math.prod(_shape(layer, name))
        weight = layer.fields["weight"]
        if weight.ndim == 1 and weight.size % size == 0:
            weight = weight.reshape(size, -1)
        if len(self.shape) != 1 or weight.shape != (size, *self.shape):
            raise MalformedError(
                f"{name}: weight {list(weight.shape)} for {size} neurons behind "
                f"{list(self.shape)}; an image must be flattened first"
            )
        self.shape = (size,)
        return ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of(np.zeros(size, np.int64)))

    def _conv(self, name: str, layer: NetLayer) -> ops.Conv2d:
        fields = layer.fields
        _only(name, layer, _LAYER_OF_CONV)
        weight = fields["weight"]
        if weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4 or len(self.shape) != 3:
            raise MalformedError(f"{name}: weight {list(weight.shape)} behind {list(self.shape)}")
        if _pair(name, fields, "dilation", 1) != (1, 1):
            raise MalformedError(f"{name}: dilated; the graph has no such convolution")
        op = ops.Conv2d(
            weight=IntTensor.of(weight),
            bias=IntTensor.of(np.zeros(len(weight), np.int64)),
            stride=_pair(name, fields, "stride", 1),
            padding=_pair(name, fields, "padding", 0),
            groups=_one(name, layer, "groups", 1),
        )
        sides = [
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(
                self.shape[1:], op.padding, weight.shape[2:], op.stride, strict=True
            )
        ]
        self.shape = (len(weight), *sides)
        if _shape(layer, name) != self.shape:
            raise MalformedError(f"{name}: shape {list(_shape(layer, name))} is not what it makes")
        return op

    def _bias(self, name: str, layer: NetLayer, outputs: int) -> IntArray:
        bias = layer.fields.get("bias", np.zeros(outputs, np.int64)).reshape(-1)
        if bias.size != outputs or int(bias.min()) < _BIAS.lo or int(bias.max()) > _BIAS.hi:
            raise MalformedError(f"{name}: {bias.size} biases for {outputs}, or beyond 13 bits")
        return bias

    def _sums(self, op: ops.Linear | ops.Conv2d, bias: IntArray) -> IntRange:
        """Where a sum over time of a layer's input can be."""
        rest = tuple(range(1, op.weight.array.ndim))
        most = int((np.maximum(op.weight.array, 0).sum(axis=rest) + bias).max())
        least = int((np.minimum(op.weight.array, 0).sum(axis=rest) + bias).min())
        return IntRange(min(0, least * self.T), max(0, most * self.T))

    def _neurons(
        self,
        name: str,
        layer: NetLayer,
        bias: IntArray | None = None,
        current_decay: int | None = None,
    ) -> None:
        if layer.neuron is None:
            raise MalformedError(f"{name}: has no neurons")
        i, v, vth = (layer.neuron[k] for k in ("iDecay", "vDecay", "vThMant"))
        if not (1 <= i <= ops.DECAY_ONE and 0 <= v < ops.DECAY_ONE and 0 <= vth <= _MOST_VTH):
            raise MalformedError(f"{name}: iDecay {i}, vDecay {v}, vThMant {vth}; a register ends")
        own = np.zeros(1, np.int64) if bias is None else bias * TIE
        column = own.reshape(-1, *(1 for _ in self.shape[1:])) if own.size > 1 else own
        op = ops.Neuron(
            threshold=IntTensor.of([vth * TIE + 1]),
            dv=v,
            du=i if current_decay is None else current_decay,
            bias=IntTensor.of(column),
        )
        self.nodes.append(Node(name, op, (self.nodes[-1].name,)))


_LAYER_OF_CONV = {
    "shape", "weight", "bias", "delay", "stride", "padding", "dilation", "groups", "kernelSize",
    "inChannels", "outChannels",
}  # fmt: skip


def _adds_up(neuron: Mapping[str, int], sums: IntRange) -> bool:
    """Whether neurons are a sum over time: no leak, no memory in u, and never a spike."""
    silent = sums.hi <= neuron["vThMant"] and sums.magnitude <= _MOST_VTH
    return silent and neuron["vDecay"] == 0 and neuron["iDecay"] == ops.DECAY_ONE


def _only(name: str, layer: NetLayer, known: set[str]) -> None:
    if odd := sorted(set(layer.fields) - known):
        raise MalformedError(f"{name}: {odd[0]} in a layer of type {layer.kind[:20]!r}")


def _one(name: str, layer: NetLayer, key: str, default: int) -> int:
    found = layer.fields.get(key)
    if found is not None and found.size != 1:
        raise MalformedError(f"{name}: {found.size} numbers as {key}, expected one")
    return default if found is None else int(found.reshape(-1)[0])


def _shape(layer: NetLayer, name: str) -> tuple[int, ...]:
    found = layer.fields.get("shape")
    if found is None or found.ndim != 1 or found.size not in (1, 3) or int(found.min()) < 1:
        raise MalformedError(f"{name}: shape {found}; expected (neurons) or (C, H, W)")
    if math.prod(found.tolist()) > limits.MOST_WEIGHTS:
        raise MalformedError(f"{name}: {math.prod(found.tolist())} neurons")
    return tuple(found.tolist())


def _pair(name: str, fields: Mapping[str, IntArray], key: str, least: int) -> tuple[int, int]:
    found = fields.get(key)
    if found is None or found.size not in (1, 2) or not least <= int(found.min()) <= 1 << 15:
        raise MalformedError(f"{name}: {key} {found}; expected one or two numbers")
    a, *rest = found.reshape(-1).tolist()
    return (int(a), int(rest[0] if rest else a))
