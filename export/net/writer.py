"""The `.net` file of lava-dl: a graph that is a chain of layers, or a list of what is not.

netx, which reads the file, knows `input`, `conv`, `flatten` and `dense`, one behind the other,
each with its neurons. A layer here is all that lies between two populations of neurons: one
`Conv2d` stays one, and every other linear map (a sum over tokens, an average pool, a
permutation, a shortcut that skips no neuron) is the matrix of its answers to unit inputs.
Source: lava-dl 0.6.0, `netx/hdf5.py`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from typing_extensions import assert_never

from lapilli.export import limits
from lapilli.export.atomic import write_atomic
from lapilli.export.net.registers import (
    bias_mantissa,
    held,
    neuron_faults,
    readout_faults,
    weight_fault,
)
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.loihi import TIE, with_fraction_bits
from lapilli.ir.network import Network
from lapilli.ir.semantics import evaluate
from lapilli.ir.targets.loihi1 import THRESHOLD
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import Kind

_PROBES = 256  # unit inputs at a time, for the memory between
_UNIFORM = ((), (1,), (1, 1))  # over the positions of an image


@dataclass(frozen=True, slots=True)
class NetFacts:
    """What a user of the file must tell netx, and what it holds.

    Attributes:
        layers: names of the graph's neurons and read-out, in the order of netx's layers.
        reset_interval: T; netx starts each layer's sample a step after the one before.
        reset_offset: 1 where the first layer has a synapse in front of it: netx starts that
            layer as if it had none.
        input_message_bits: 0 where the input is spikes.
        reads: "spikes" of the last layer, or "membrane": 64 times the logits.
    """

    layers: tuple[str, ...]
    reset_interval: int
    reset_offset: int
    input_message_bits: int
    reads: str


def save_net(network: Network, path: Path) -> NetFacts:
    """Write `network` to `path`, whole or not at all; equal networks give equal bytes.

    Raises:
        UnsupportedError: lists every node that no layer of netx can be, or not exactly.
    """
    graph = network.graph
    stages = _stages(graph)
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        _write(out, graph, stages, _transform(network))
    write_atomic(path, file.getvalue())
    first = graph.types[graph.inputs[0]]
    encoded = _is_encoder(graph, graph[stages[0]])
    graded = not encoded and not first.is_binary
    return NetFacts(
        layers=stages,
        reset_interval=graph.T,
        reset_offset=0 if encoded else 1,
        input_message_bits=first.range.bits if graded else 0,
        reads="membrane" if isinstance(graph[stages[-1]].op, ops.Readout) else "spikes",
    )


def _stages(graph: Graph) -> tuple[str, ...]:
    """Neurons and read-out in the order of the chain, or every reason why there is none."""
    reasons = [
        Unsupported(node.name, reason)
        for node in graph.nodes
        if (reason := _unsupported(node.op)) is not None
    ]
    if len(graph.inputs) != 1:
        reasons.append(Unsupported(", ".join(graph.inputs), "netx gives one input to one layer"))
    sources = _sources(graph)
    stages = tuple(n.name for n in graph.nodes if isinstance(n.op, (ops.Neuron, ops.Readout)))
    before = graph.inputs[0]
    for name in stages:
        node = graph[name]
        if sources[name] != {before}:
            met = ", ".join(sorted(sources[name]))
            reasons.append(Unsupported(name, f"is driven by {met}; netx by {before} alone"))
        elif all(isinstance(n.op, ops.LinearOp) for n in _between(graph, before, node)):
            reasons.extend(Unsupported(name, r) for r in _faults(graph, before, node))
        before = name
    if not stages or graph.outputs != (before,):
        reasons.append(Unsupported(", ".join(graph.outputs), "netx returns its last neurons alone"))
    reasons += [Unsupported(name, "a sum over time that is not the answer")
                for name in stages[:-1] if isinstance(graph[name].op, ops.Readout)]  # fmt: skip
    if reasons:
        raise UnsupportedError("net", tuple(reasons))
    return stages


def _faults(graph: Graph, before: str, node: Node) -> tuple[str, ...]:
    """What of one layer its registers cannot hold."""
    if _is_encoder(graph, node):
        own = _encoder(graph, node)
        bounds = neuron_bounds(node.name, own, graph.types[before], graph.T)
        return neuron_faults(own, bounds, np.zeros(1, np.int64), whole=True)
    sizes = [math.prod(graph.types[n].shape) for n in (before, node.name)]
    conv = _as_conv(graph, before, node)
    if conv is None and math.prod(sizes) > limits.MOST_WEIGHTS:
        return (f"a dense layer of {sizes[1]} x {sizes[0]} weights; at most {limits.MOST_WEIGHTS}",)
    weight, bias = _weights(graph, before, node)
    if isinstance(node.op, ops.Readout):
        faults = [fault] if (fault := weight_fault(weight)) else []
        return (*faults, *readout_faults(graph.types[node.name].range, bias))
    if not isinstance(node.op, ops.Neuron):
        raise TypeError(f"{type(node.op).__name__} is no population")
    layer = held(node.op, graph.T, graph.types[node.inputs[0]], weight, bias)
    if conv is not None and node.op.bias.shape[-2:] not in _UNIFORM:
        one = "a bias for each neuron of a convolution; here one for each channel"
        return (*layer.faults, one)
    return layer.faults


def _is_encoder(graph: Graph, node: Node) -> bool:
    """Whether the input drives a population with no synapse in between."""
    return isinstance(node.op, ops.Neuron) and node.inputs == graph.inputs


def _encoder(graph: Graph, node: Node) -> ops.Neuron:
    """The neuron of an input layer, with Loihi's fraction bits if it can have them."""
    if not isinstance(node.op, ops.Neuron):
        raise TypeError(f"{type(node.op).__name__} is no population")
    return with_fraction_bits(node.op, graph.T, ops.LOIHI_FRACTION_BITS) or node.op


def _sources(graph: Graph) -> dict[str, set[str]]:
    """For each node, the input and populations whose values reach it through no other."""
    ends = {n.name for n in graph.nodes if isinstance(n.op, (ops.Input, ops.Neuron, ops.Readout))}
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        found[node.name] = set()
        for name in node.inputs:
            found[node.name] |= {name} if name in ends else found[name]
    return found


def _unsupported(op: ops.Op) -> str | None:
    """Say why no layer of netx can hold `op`; None if one can."""
    if isinstance(op, ops.LinearOp):
        return None
    match op:
        case ops.Input() | ops.Neuron() | ops.Readout():
            return None
        case ops.SpikeMatmul() | ops.Gate():
            return "a product of two values of the sample; weights in netx are constant"
        case ops.ShiftSum():
            return "weights that depend on the sample; in netx they are constant"
        case ops.MaxPool2d():
            return "a maximum; `pool` in netx is not implemented"
        case ops.Staircase():
            return "several spikes in one step; a CUBA neuron sends one"
        case ops.Relu():
            return "a graded value without a threshold; a CUBA neuron sends spikes"
        case ops.GeneralNeuron():
            return "constants of each step or channel, taps or a floor; a CUBA neuron has none"
        case ops.Membrane():
            return "a membrane that is read and reset; netx returns spikes"
        case _:
            assert_never(op)


def _between(graph: Graph, before: str, node: Node) -> list[Node]:
    """The linear nodes of one layer, in topological order."""
    wanted = graph.ancestors(node.inputs, stop=lambda n: n.name == before)
    return [n for n in graph.nodes if n.name in wanted and n.name != before]


def _as_conv(graph: Graph, before: str, node: Node) -> ops.Conv2d | None:
    """The convolution that a layer is, if its input is laid out as an image in netx too."""
    layer = _between(graph, before, node)
    if len(layer) != 1 or not isinstance(layer[0].op, ops.Conv2d):
        return None
    return layer[0].op if _is_image(graph, before) and isinstance(node.op, ops.Neuron) else None


def _is_image(graph: Graph, name: str) -> bool:
    """Whether netx holds a value as (W, H, C): an image from the input on, through `conv` alone."""
    if len(graph.types[name].shape) != 3:
        return False
    node, sources = graph[name], _sources(graph)[name]
    if isinstance(node.op, ops.Input) or node.inputs == graph.inputs:
        return True
    return len(sources) == 1 and _as_conv(graph, next(iter(sources)), node) is not None


def _weights(graph: Graph, before: str, node: Node) -> tuple[IntArray, IntArray]:
    """Weight and bias of one layer: of its convolution, or of its matrix (out, in)."""
    if (conv := _as_conv(graph, before, node)) is not None:
        return conv.weight.array, conv.bias.array
    layer, shape = _between(graph, before, node), graph.types[before].shape
    size = math.prod(shape)

    def answers(probes: IntArray) -> IntArray:
        values = {before: probes.reshape(-1, *shape)}
        for n in layer:
            if not isinstance(n.op, ops.Stateless):
                raise TypeError(f"{n.name} is no function of its operands alone")
            values[n.name] = evaluate(n.op, tuple(values[i] for i in n.inputs))
        return values[node.inputs[0]].reshape(len(probes), -1)

    bias = answers(np.zeros((1, size), np.int64))
    parts = [answers(np.eye(min(_PROBES, size - k), size, k, dtype=np.int64)) - bias
             for k in range(0, size, _PROBES)]  # fmt: skip
    return np.concatenate(parts).T, bias[0]


def _write(out: Any, graph: Graph, stages: tuple[str, ...], transform: Mapping[str, int]) -> None:
    layers = out.create_group("layer")

    def layer(kind: str, shape: tuple[int, ...]) -> Any:
        group = layers.create_group(str(len(layers)))
        group["type"], group["shape"] = np.bytes_(kind), np.array(shape)
        return group

    before = graph.inputs[0]
    first = layer("input", graph.types[before].shape)
    flat = len(graph.types[before].shape) == 1
    for name in stages:
        node, shape = graph[name], graph.types[name].shape
        if _is_encoder(graph, node):
            _write_neuron(first, _encoder(graph, node))
            for key, value in transform.items():
                first[key] = np.array([value])
            before = name
            continue
        weight, bias = _weights(graph, before, node)
        op, conv = node.op, _as_conv(graph, before, node)
        if isinstance(op, ops.Neuron):
            fits = held(op, graph.T, graph.types[node.inputs[0]], weight, bias)
            weight, bias, op = fits.weight, fits.bias, fits.op
        if conv is not None:
            group = layer("conv", shape)
            group["inChannels"], group["outChannels"] = graph.types[before].shape[0], shape[0]
            group["kernelSize"] = np.array(weight.shape[2:])
            group["stride"], group["padding"] = np.array(conv.stride), np.array(conv.padding)
            group["dilation"], group["groups"] = np.array([1, 1]), conv.groups
        else:
            if not flat:
                layer("flatten", (math.prod(graph.types[before].shape),))
            flat = True
            group = layer("dense", (len(weight),))
            group["inFeatures"], group["outFeatures"] = weight.shape[1], len(weight)
        group.create_dataset("weight", data=weight.astype(np.int32), compression="gzip")
        _write_neuron(group, op)
        mantissa = bias_mantissa(op, bias, shape if conv is None else (shape[0], 1, 1))
        group["bias"] = mantissa.reshape(-1).astype(np.int32)
        before = name
    simulation = out.create_group("simulation")
    simulation["Ts"], simulation["tSample"] = 1, graph.T


def _write_neuron(group: Any, op: ops.Op) -> None:
    neuron = group.create_group("neuron")
    neuron["type"], neuron["refDelay"], neuron["gradedSpike"] = np.bytes_("CUBA"), 1, False
    if isinstance(op, ops.Neuron):
        neuron["iDecay"], neuron["vDecay"] = op.du, op.dv
        neuron["vThMant"] = int(op.threshold.array.ravel()[0]) >> ops.LOIHI_FRACTION_BITS
    else:  # adds up, and never reaches a threshold that is proven to be out of reach
        neuron["iDecay"], neuron["vDecay"] = ops.DECAY_ONE, 0
        neuron["vThMant"] = THRESHOLD.largest // TIE


def _transform(network: Network) -> dict[str, int]:
    """The `weight` and `bias` of an input layer: bias = weight x + bias, if they are integers."""
    quantizer = network.input
    unit = Fraction(2) ** quantizer.exponent
    pairs = {(unit / s, -m * unit / s)
             for m, s in zip(quantizer.mean, quantizer.std, strict=True)}  # fmt: skip
    if len(pairs) != 1 or network.graph.types[network.graph.inputs[0]].kind is not Kind.GRADED:
        return {}
    weight, bias = pairs.pop()
    if weight.denominator != 1 or bias.denominator != 1:
        return {}
    return {"weight": int(weight), "bias": int(bias)}
