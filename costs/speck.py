"""A network on Speck: a layer to a core, each core with memories of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lapilli.costs.obstacles import Obstacle
from lapilli.costs.small_chips import (
    Share,
    SmallMap,
    graded_input,
    kind,
    odd_neuron,
    weight_bits,
    whole_state,
)
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.targets.speck import LayerChip, LayerCore
from lapilli.ir.types import Kind

_NOTES = (
    "events come one by one there, without time steps: a network that fits need not answer as its "
    "integers do",
    "how many events a core takes in a second is not looked at",
)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution, or a linear map as one, and the neurons behind it.

    Attributes:
        node: of the neurons; synapse: of the weights.
        channels, features: in and out; kernel, stride, padding: of each axis.
        seen, shown: (H, W) of what it takes and of its neurons.
    """

    node: Node
    synapse: Node
    channels: int
    features: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    seen: tuple[int, int]
    shown: tuple[int, int]

    @property
    def kernels(self) -> int:
        """Words of kernel memory: channels times powers of two."""
        return self.channels << (_log2(math.prod(self.kernel)) + _log2(self.features))

    @property
    def neurons(self) -> int:
        """Words of neuron memory: features times powers of two."""
        return self.features << sum(_log2(length) for length in self.shown)

    def fits(self, core: LayerCore) -> bool:
        """Whether a core's memories hold it."""
        return (
            self.kernels <= core.kernels
            and self.neurons <= core.neurons
            and self.features <= core.biases
        )


def _log2(count: int) -> int:
    """Binary logarithm, rounded up."""
    return max(0, count - 1).bit_length()


def on_speck(graph: Graph, chip: LayerChip) -> SmallMap:
    """Give each layer a core that holds it, and name what no core can do, or hold."""
    layers, against = list[_Layer](), list[Obstacle]()
    for node in graph.nodes:
        found = _layer(graph, node)
        if isinstance(found, _Layer):
            layers.append(found)
            against += [Obstacle(node.name, why) for why in _against(graph, found, chip)]
        elif found:
            against.append(Obstacle(node.name, found))
    held = _matched(layers, chip.cores)
    for number, layer in enumerate(layers):
        if number not in held:
            against.append(Obstacle(layer.node.name, _homeless(layer, chip)))
    return SmallMap(
        chip=chip,
        shares=tuple(_share(layer, held.get(n), chip) for n, layer in enumerate(layers)),
        obstacles=tuple(against),
        cores=len(chip.cores),
        notes=_NOTES,
    )


def _share(layer: _Layer, core: int | None, chip: LayerChip) -> Share:
    takes = {
        "kernel words": layer.kernels,
        "neuron words": layer.neurons,
        "biases": layer.features,
    }
    if core is None:
        return Share(layer.node.name, None, takes, {})
    has = chip.cores[core]
    room = {"kernel words": has.kernels, "neuron words": has.neurons, "biases": has.biases}
    return Share(layer.node.name, core, takes, room)


def _homeless(layer: _Layer, chip: LayerChip) -> str:
    if any(layer.fits(core) for core in chip.cores):
        return f"all cores that hold it are taken; there are {len(chip.cores)}"
    kernels = max(core.kernels for core in chip.cores)
    neurons = max(core.neurons for core in chip.cores)
    return (
        f"no core has {layer.kernels:,} kernel words and {layer.neurons:,} neuron words; the "
        f"largest have {kernels:,} of the one, {neurons:,} of the other"
    )


def _layer(graph: Graph, node: Node) -> _Layer | str:
    """The layer that ends at this node, or why it is none; empty of what belongs to another."""
    match node.op:
        case ops.Input():
            wrong = "has values; Speck takes events alone, one unit each"
            return wrong if graded_input(graph, node.name) else ""
        case ops.Neuron():
            return _of_neurons(graph, node)
        case ops.Linear() | ops.Conv2d():
            return "" if _readers_fire(graph, node) else "no neurons follow it, which a core has"
        case ops.Reshape() | ops.Readout():
            return ""
        case ops.Add():  # of events: two cores may send to the same one
            currents = any(graph.types[i].kind is Kind.GRADED for i in node.inputs)
            return "an addition of currents; a core adds up its own alone" if currents else ""
        case ops.Sum():
            return (
                "" if _is_read(graph, node) else f"{kind(node.op)}; cores pool by sums of windows"
            )
        case _:
            return f"{kind(node.op)}; a core convolves, fires and pools by sums"


def _readers_fire(graph: Graph, node: Node) -> bool:
    readers = [n for n in graph.nodes if node.name in n.inputs]
    return bool(readers) and all(
        _readers_fire(graph, n) if isinstance(n.op, ops.Reshape) else isinstance(n.op, ops.Firing)
        for n in readers
    )


def _is_read(graph: Graph, node: Node) -> bool:
    """Whether only the read-out, which is the host's, takes it."""
    readers = [n for n in graph.nodes if node.name in n.inputs]
    return all(isinstance(n.op, ops.Readout) for n in readers)


def _of_neurons(graph: Graph, node: Node) -> _Layer | str:
    synapse = _behind_wiring(graph, node.inputs[0])
    if not isinstance(synapse.op, ops.Linear | ops.Conv2d):
        return f"its input is {kind(synapse.op)}, no convolution or linear map alone"
    taken = graph[synapse.inputs[0]]
    heard = _behind_wiring(graph, taken.name)
    if isinstance(synapse.op, ops.Conv2d):
        op, (channels, *seen) = synapse.op, graph.types[taken.name].shape
        features, *shown = graph.types[synapse.name].shape
        kernel = (op.weight.shape[2], op.weight.shape[3])
        stride, padding = op.stride, op.padding
    else:
        features, length = synapse.op.weight.shape
        *places, _ = graph.types[taken.name].shape
        shape = graph.types[heard.name].shape
        flat = not places and len(shape) == 3  # a dense layer is a kernel as large as the map
        channels, seen = (shape[0], list(shape[1:])) if flat else (length, [math.prod(places), 1])
        kernel = (seen[0], seen[1]) if flat else (1, 1)
        shown = [1, 1] if flat else seen
        stride, padding = (1, 1), (0, 0)
    return _Layer(
        node, synapse, channels, features, kernel, stride, padding,
        (seen[0], seen[1]), (shown[0], shown[1]),
    )  # fmt: skip


def _behind_wiring(graph: Graph, name: str) -> Node:
    node = graph[name]
    while isinstance(node.op, ops.Reshape):
        node = graph[node.inputs[0]]
    return node


def _against(graph: Graph, layer: _Layer, chip: LayerChip) -> Iterator[str]:
    """What a core cannot do of a layer, and by how much."""
    yield from odd_neuron(layer.node.op, leak=False)
    for what, need in _needs(graph, layer):
        if need > chip.most(what):
            yield f"needs {need:,} {what}, of {chip.most(what):,}"
    if layer.kernel[0] != layer.kernel[1]:
        yield f"its kernel is {layer.kernel[0]} x {layer.kernel[1]}; they must be square"
    for wrong in sorted(set(layer.stride) - set(chip.strides)):
        yield f"strides by {wrong}; {', '.join(map(str, chip.strides))} can be"
    for wrong in sorted(set(layer.padding) - set(chip.paddings)):
        yield f"pads by {wrong}; at most {chip.paddings[-1]} can be"


def _needs(graph: Graph, layer: _Layer) -> Iterator[tuple[str, int]]:
    yield "lines of an input", max(layer.seen)
    yield "lines of an output", max(layer.shown)
    yield "channels", max(layer.channels, layer.features)
    yield "lines of a kernel", max(layer.kernel)
    yield "layers that hear one", _hearers(graph, layer.node.name)
    if isinstance(layer.synapse.op, ops.Linear | ops.Conv2d):
        yield "bits of a weight", weight_bits(layer.synapse.op)
    if isinstance(layer.node.op, ops.Neuron):
        yield "bits of a state", whole_state(graph, layer.node, layer.node.op)


def _hearers(graph: Graph, name: str) -> int:
    """Maps of weights that take what a layer sends."""
    readers = [n for n in graph.nodes if name in n.inputs]
    return sum(
        _hearers(graph, n.name)
        if isinstance(n.op, ops.Wiring | ops.Add)
        else isinstance(n.op, ops.Weighted)
        for n in readers
    )


def _matched(layers: Sequence[_Layer], cores: Sequence[LayerCore]) -> dict[int, int]:
    """Cores of as many layers as can have one: augmenting paths, as sinabs does it."""
    taken: dict[int, int] = {}

    def placed(layer: int, tried: set[int]) -> bool:
        for core, has in enumerate(cores):
            if core in tried or not layers[layer].fits(has):
                continue
            tried.add(core)
            if core not in taken or placed(taken[core], tried):
                taken[core] = layer
                return True
        return False

    for layer in range(len(layers)):
        placed(layer, set())
    return {layer: core for core, layer in taken.items()}
