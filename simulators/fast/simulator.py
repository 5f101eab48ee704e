"""`Fast`: the graph node by node, all steps of a batch at once, in the narrowest proven types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.errors import InputError, RangeError, SimulatorUnavailableError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.fast import choice
from lapilli.simulators.fast.choice import Path
from lapilli.simulators.fast.neurons import Rule, rule
from lapilli.simulators.fast.running import Run
from lapilli.simulators.fast.weighted import Layer, ShiftedLayer, is_shifted, shares_kernel
from lapilli.simulators.fast.work import Work

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fast:
    """Exact and fast, on the CPU.

    Attributes:
        threads: how many to use, BLAS included; the values do not depend on it.
        record: keep what `Graph.recorded` names, with currents and membranes; without, outputs.
        path: "events" or "dense" wherever a layer can take it; by the density if None.
        features: what the CPU can do, in LLVM's names; asked of it if None.
    """

    name: str = "fast"
    threads: int = 1
    record: bool = True
    path: str | None = None
    features: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"{self.threads} threads: at least one must work")
        if self.path not in (None, "events", "dense"):
            raise InputError(f"no path is called {self.path!r}: 'events', 'dense', or None")

    def compile(self, graph: Graph) -> Executable:
        """Decide what each node is computed by; kernels are compiled as they are used.

        Raises:
            SimulatorUnavailableError: numba is not installed.
        """
        try:
            import llvmlite.binding
            import numba  # noqa: F401
        except ImportError as error:
            raise SimulatorUnavailableError(
                f"the fast simulator needs {error.name}: pip install 'lapilli[fast]'"
            ) from error
        features = self.features
        if features is None:
            present = llvmlite.binding.get_host_cpu_features()
            features = frozenset(name for name, there in present.items() if there)
        return Executable(graph, self, features)


@dataclass(slots=True, eq=False)
class Executable:
    """A graph with its layers prepared."""

    graph: Graph
    options: Fast
    features: frozenset[str]
    layers: dict[str, Layer | ShiftedLayer] = field(init=False)
    rules: dict[str, Rule] = field(init=False)
    paths: dict[str, Path] = field(default_factory=dict, init=False)
    work: Work = field(init=False)
    libraries: ThreadpoolController = field(init=False)

    def __post_init__(self) -> None:
        from threadpoolctl import ThreadpoolController

        graph, self.work = self.graph, Work(self.options.threads)
        self.libraries = ThreadpoolController()  # found once: looking takes 2 ms
        self.rules = {
            node.name: found
            for node in graph.nodes
            if isinstance(node.op, ops.Neuron)
            and (found := rule(node.op, graph.types[node.inputs[0]], graph.T))
        }
        self.layers = {}
        for node in graph.nodes:
            if isinstance(node.op, ops.Weighted):
                x, y = graph.types[node.inputs[0]], graph.types[node.name]
                rest = self.features, self.options.path
                if is_shifted(node.op):
                    self.layers[node.name] = ShiftedLayer.of(node.op, x, y, *rest)
                    continue
                behind = self._fused(node)
                fused = self.rules[behind] if behind else None
                self.layers[node.name] = Layer(node.op, x, y, fused, *rest)

    @property
    def report(self) -> str:
        """How many nodes each kind of arithmetic computed, and which ones the definition did."""
        from lapilli.simulators.fast.cache import directory, is_writable

        counts = Counter(self.paths.values())
        lines = [f"fast: {path.value}: {counts[path]}" for path in Path if counts[path]]
        slow = [name for name, path in self.paths.items() if path is Path.DEFINITION]
        if slow:
            lines.append(f"fast: by the definition, slowly: {', '.join(slow)}")
        if not is_writable(directory()):
            lines.append(f"fast: compiled anew at each start: {directory()} cannot be written")
        return "\n".join(lines)

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run a batch of samples for the graph's T steps; every sample starts from rest.

        Raises:
            InputError: an input that is missing, or of another shape.
            RangeError: values that its type cannot hold.
        """
        values = {name: self._given(name, inputs) for name in self.graph.inputs}
        with self.libraries.limit(limits=self.options.threads, user_api="blas"):
            run = Run(
                self.graph, self.layers, self.rules, self.features, self.work, values,
                keeps=self.options.record,
            )  # fmt: skip
            for node in self.graph.nodes:
                run.compute(node)
        self.paths = run.paths
        return run.recording()

    def _given(self, name: str, inputs: Mapping[str, IntArray]) -> Array:
        """An input in the narrowest type that holds it, time folded into the batch."""
        proven, T = self.graph.types[name], self.graph.T
        if name not in inputs:
            raise InputError(f"input {name!r} is missing")
        x = inputs[name]
        if x.ndim < 2 or x.shape[0] != T or x.shape[2:] != proven.shape:
            raise InputError(f"input {name!r}: {x.shape} is not (T={T}, batch, *{proven.shape})")
        if x.size and (int(x.min()) not in proven.range or int(x.max()) not in proven.range):
            raise RangeError(name, f"given [{x.min()}, {x.max()}], takes {proven}")
        return x.astype(choice.dtype_of(proven.range), order="C").reshape(-1, *proven.shape)

    def _fused(self, node: Node) -> str | None:
        """The neurons that alone read a layer, if they can share its kernel."""
        readers = [n for n in self.graph.nodes if node.name in n.inputs]
        if len(readers) != 1 or node.name in self.graph.outputs or not isinstance(
            node.op, ops.Weighted
        ):  # fmt: skip
            return None
        found = self.rules.get(readers[0].name)
        if found is None or not shares_kernel(node.op, self.graph.types[node.name], found):
            return None
        return readers[0].name
