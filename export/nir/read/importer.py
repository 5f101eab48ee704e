"""A graph from a `.nir` file, where the file, or who imports it, says what it means.

Reading order: `hdf5` (bytes to arrays), `reader` (arrays to nodes), `dynamics` (what a
neuron does), `layers` (a node in integers), this file (all nodes in order). What
is not exact in integers, or would be rounded by the framework that the file comes from, is
refused with its node.
"""

from __future__ import annotations

from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.answer import answer
from lapilli.export.nir.read.builder import BoundedBuilder, ImportedValue
from lapilli.export.nir.read.layers import FinerError, Layers
from lapilli.export.nir.read.metadata import NOTHING, Facts, Meaning, Stated
from lapilli.export.nir.read.reader import NirFile, read_nir
from lapilli.ir.errors import FormatError, GraphError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network


def from_nir(path: Path, stated: Stated = NOTHING, progress: Progress | None = None) -> Graph:
    """Read a `.nir` file as a graph.

    A file of ours says everything in its metadata (but the range of its input, if it was
    written from a graph alone); nothing that it says may be stated otherwise.

    Args:
        path: of the file.
        stated: what it does not say.
        progress: is told of the nodes that are read.

    Raises:
        FormatError: not a readable file, or its meaning is not certain, or not exact in
            integers; names the node and what must be stated or changed.
    """
    return _imported(path, stated, progress).graph


def network_from_nir(
    path: Path,
    stated: Stated = NOTHING,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> Network:
    """The same with how images become inputs, and integers answers.

    A file of others says neither: the bytes of an image are the integers, a read-out adds up
    what leaves the network over time, and the classes are numbers. `reading` is told of the
    datasets that are read before any node is.

    Raises:
        FormatError: as `from_nir`.
    """
    return _imported(path, stated, progress, reading)


def _imported(
    path: Path, stated: Stated, progress: Progress | None, reading: Progress | None = None
) -> Network:
    file = read_nir(path, stated.memory_limit, reading, nested=True)
    try:
        return _Import(file, stated, progress).network()
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    except GraphError as error:
        raise FormatError(path, f"holds no valid graph: {error}") from error


class _Import:
    """Build the graph of a file; anew while layers need finer units than they were given."""

    def __init__(self, file: NirFile, stated: Stated, progress: Progress | None = None) -> None:
        self.file, self.facts = file, Facts(file.facts)
        reading, dt, self.T = self.facts.merged(stated)
        bounds = self.facts.input_type(stated)
        self.meaning = Meaning(reading, dt, stated.reset, bounds, stated.input_exponent)
        self.units: dict[str, Fraction] = {}
        self.order = order_of(file)
        self.before: dict[str, list[str]] = {key: [] for key in file.nodes}
        for source, target in file.edges:
            self.before[target].append(source)
        self.progress = progress

    def network(self) -> Network:
        """Return the network.

        Raises:
            MalformedError: its meaning is not certain, or not exact in integers.
            GraphError: it is no valid graph.
        """
        for _ in range(2 * len(self.order) + 1):
            try:
                return self._built()
            except FinerError as finer:
                for layer in finer.layers:
                    self.units[layer] = min(finer.unit, self.units.get(layer, finer.unit))
        raise MalformedError("its layers find no common unit")  # each round makes one finer

    def _built(self) -> Network:
        builder = BoundedBuilder(self.T)
        layers = Layers(builder, self.meaning, self.units)
        made: dict[str, ImportedValue] = {}
        for done, key in enumerate(self.order, start=1):
            name = builder.free(self.facts.names.get(key, key))
            with _Named(key):
                inputs = [made[source] for source in self.before[key]]
                made[key] = layers.put(name, self.file.nodes[key], inputs)
            if self.progress is not None:
                self.progress(done, len(self.order))
        (output,) = (key for key in self.order if self.file.nodes[key].type == "Output")
        with _Named(output):
            last = answer(builder, self.facts, made[output])
        return self.facts.network(builder.built(last.name), last.unit)


class _Named:
    """Puts the node's name before what is wrong inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MalformedError):
            raise MalformedError(f"node {self.name!r}: {error}") from error


def order_of(file: NirFile) -> list[str]:
    """List the nodes from the one input to the one output, each behind those before it.

    Raises:
        MalformedError: more than one input or output, or a loop.
    """
    before: dict[str, list[str]] = {key: [] for key in file.nodes}
    for source, target in file.edges:
        before[target].append(source)
    for kind in ("Input", "Output"):
        found = [key for key, node in file.nodes.items() if node.type == kind]
        if len(found) != 1:
            raise MalformedError(f"{len(found)} nodes of type {kind}; a network has one")
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise MalformedError(
            f"node {error.args[1][0]!r}: is part of a loop; a graph runs from input to output"
        ) from error
