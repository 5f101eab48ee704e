"""Run float, PyTorch's integers and the graph on the same images, and look at each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lapilli.deploy.comparison.compare import Pixels, affordable_batch
from lapilli.deploy.comparison.divergence import facts
from lapilli.deploy.report.histogram import Histogram, histogram, joined
from lapilli.deploy.report.layers import NeuronReport, QuantizationReport, SynapseReport
from lapilli.ir import ops
from lapilli.ir.errors import InputError, RecipeError
from lapilli.ir.graph import Graph
from lapilli.ir.recipe import NeuronRecord, Note, Recipe, SynapseRecord
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange
from lapilli.model.capture import program
from lapilli.quantize import Quantized
from lapilli.quantize.pytorch.float_module import FloatModule, FloatRun
from lapilli.simulators.protocol import Simulator

if TYPE_CHECKING:
    from torch import Tensor, nn


def report_on(
    made: Quantized,
    model: nn.Module,
    pixels: Pixels,
    *,
    prepare: Callable[[npt.NDArray[np.uint8]], Tensor],
    on: Simulator,
    progress: Callable[[int], None] | None = None,
) -> QuantizationReport:
    """Measure a quantized network against its model.

    Args:
        made: what `quantize` returned.
        model: that it was made from, in evaluation mode.
        pixels: images (count, C, H, W) of bytes, or (count, T, C, H, W).
        prepare: makes of bytes what the model sees.
        on: the simulator that runs the graph.
        progress: called with the number of images done.

    Raises:
        InputError: no images, or of another shape.
        RecipeError: a network without a recipe.
    """
    network, graph = made.network, made.network.graph
    if network.recipe is None:
        raise RecipeError("holds no recipe: nothing says which layer a node is")
    if not len(pixels):
        raise InputError("a report takes at least one image")
    firing = {
        node: call
        for node, (call, _) in made.reference.neurons.items()
        if not isinstance(call.op, program.Membrane)
    }
    floats = FloatModule(model.eval(), firing, made.signature, prepare)
    executable, counted, same = on.compile(graph), _Counted(graph), 0
    batch = affordable_batch(graph)
    for start in range(0, len(pixels), batch):
        some = pixels[start : start + batch]
        given = network.encode(some)
        real, want, got = floats.run(some), made.reference.run(given), executable.run(given)
        counted.add(real, want, got)
        labels = network.labels(got)
        if labels is not None:
            agree = real.logits.argmax(1) == labels
            same += int(agree.reshape(len(agree), -1).all(axis=1).sum())
        if progress:
            progress(start + len(some))
    neurons = counted.neurons(made, network.recipe)
    events = [layer for layer in counted.layers.values() if layer.values]
    return QuantizationReport(
        digest=network.digest,
        options=dict(network.recipe.options),
        simulator=on.name,
        images=len(pixels),
        same_answers=same,
        compared=sum(layer.compared for layer in counted.layers.values()),
        mismatches=sum(layer.mismatches for layer in counted.layers.values()),
        first_wrong=next((n for n, layer in counted.layers.items() if layer.mismatches), ""),
        unlike_float=sum(e.unlike_float for e in events) / max(1, sum(e.values for e in events)),
        synapses=_synapses(made, network.recipe),
        neurons=neurons,
        notes=made.notes,
    )


@dataclass(slots=True, eq=False)
class _Layer:
    """Counts of one node, over all images so far; see `NeuronReport`."""

    values: int = 0
    events: int = 0
    float_events: int = 0
    unlike_float: int = 0
    compared: int = 0
    mismatches: int = 0
    fired: npt.NDArray[np.bool_] | None = None  # at any step of any image
    rested: npt.NDArray[np.bool_] | None = None  # or sent less than the most
    lowest: int = 0
    highest: int = 0
    membranes: Histogram | None = None

    def add_events(self, values: IntArray, real: IntArray, most: int) -> None:
        """Count events (T, B, *shape) in integers and in float."""
        sent = np.abs(values)
        self.values += values.size
        self.events += int(sent.sum())
        self.float_events += int(np.abs(real).sum())
        self.unlike_float += int(np.count_nonzero(values != real))
        fired, rested = (np.logical_or.reduce(x, (0, 1)) for x in (sent > 0, sent < most))
        self.fired = fired if self.fired is None else np.logical_or(self.fired, fired)
        self.rested = rested if self.rested is None else np.logical_or(self.rested, rested)

    def add_membranes(self, membranes: IntArray) -> None:
        """Count membranes, of any shape."""
        self.lowest = min(self.lowest, int(membranes.min()))
        self.highest = max(self.highest, int(membranes.max()))
        self.membranes = joined(self.membranes, histogram(membranes))


@dataclass(slots=True, eq=False)
class _Counted:
    """What is counted of each node that fires, or shows a membrane, and of the answer."""

    graph: Graph
    layers: dict[str, _Layer] = field(init=False)

    def __post_init__(self) -> None:
        recorded = set(self.graph.recorded)
        self.layers = {n.name: _Layer() for n in self.graph.nodes if n.name in recorded}

    def add(self, real: FloatRun, want: Recording, got: Recording) -> None:
        """Count one batch."""
        for node in self.graph.firing:
            most = self.graph.types[node].range.magnitude
            self.layers[node].add_events(got.values[node], real.spikes[node], most)
        for node in self.graph.recorded:
            shown = got.values if node in self.graph.membranes else got.membranes
            if node in shown:
                self.layers[node].add_membranes(shown[node])
        for fact in facts(self.graph, want, got):
            layer = self.layers[fact.node]
            layer.compared += fact.got.size
            layer.mismatches += int(np.count_nonzero(fact.expected != fact.got))

    def neurons(self, made: Quantized, recipe: Recipe) -> tuple[NeuronReport, ...]:
        """Return a row for each layer of neurons."""
        bits = {bounds.name: bounds.state_bits for bounds in made.bounds}
        return tuple(
            self._neuron(record, bits.get(record.node, 0), _told(made.notes, record))
            for record in recipe.neurons
        )

    def _neuron(self, record: NeuronRecord, bits: int, notes: tuple[Note, ...]) -> NeuronReport:
        layer, op = self.layers[record.node], self.graph[record.node].op
        neuron = op.neuron if isinstance(op, ops.Membrane) else op
        state = neuron if isinstance(neuron, ops.Integrating) else None
        most = layer.values * self.graph.types[record.node].range.magnitude
        thresholds = (state.threshold.range.lo, state.threshold.range.hi) if state else ()
        seen = IntRange(min(layer.lowest, -1), max(layer.highest, 0)).bits
        return NeuronReport(
            node=record.node,
            path=record.path,
            use=record.use,
            scale=record.scale,
            fraction_bits=state.fraction_bits if state else None,
            thresholds=thresholds,
            exact=record.exact,
            state_bits=bits,
            state_bits_seen=0 if layer.membranes is None else seen,
            neurons=int(np.prod(self.graph.types[record.node].shape)),
            never=0 if layer.fired is None else int((~layer.fired).sum()),
            always=0 if layer.rested is None else int((~layer.rested).sum()),
            rate=layer.events / most if layer.values else None,
            rate_in_float=layer.float_events / most if layer.values else None,
            unlike_float=layer.unlike_float / layer.values if layer.values else None,
            compared=layer.compared,
            mismatches=layer.mismatches,
            membranes=layer.membranes,
            notes=notes,
        )


def _synapses(made: Quantized, recipe: Recipe) -> tuple[SynapseReport, ...]:
    rows = []
    for record in recipe.synapses:
        op = made.network.graph[record.node].op
        if not isinstance(op, ops.Linear | ops.Conv2d):
            raise RecipeError(f"{record.node}: the recipe calls it a synapse")
        mantissa = op.weight.array >> record.exponent
        counts = histogram(mantissa)
        if counts is None:
            raise InputError(f"{record.node} has no weights")
        widest = int(np.abs(mantissa).max())
        limit = (1 << (record.bits - 1)) - 1 if record.bits else 0
        rows.append(
            SynapseReport(
                node=record.node,
                path=record.path,
                use=record.use,
                bits=record.bits,
                bits_used=IntRange(-widest, widest).bits,
                exponent=record.exponent,
                weight_scale=record.weight_scale,
                output_scale=record.output_scale,
                factors=record.factors,
                weights=mantissa.size,
                zeros=int(np.count_nonzero(mantissa == 0)),
                zeroed=made.health.zeroed[record.node],
                at_limit=int(np.count_nonzero(np.abs(mantissa) >= limit)) if limit else 0,
                histogram=counts,
                notes=_told(made.notes, record),
            )
        )
    return tuple(rows)


def _told(notes: tuple[Note, ...], record: SynapseRecord | NeuronRecord) -> tuple[Note, ...]:
    return tuple(note for note in notes if note.path in (record.node, record.path))
