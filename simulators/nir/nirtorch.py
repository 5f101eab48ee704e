"""Our own `.nir` file, read back and run by nirtorch: shows that the file means the graph.

The graph is exported, written, and read again; from then on only the file is used, and the
layouts that its metadata states. NIR leaves the arithmetic of a node to whoever reads it,
so the nodes are mapped here, and never by nirtorch's defaults: those lose the bias of every
`Affine` and the padding of every `SumPool2d`.

All of it runs in float64. The exporter has proved that no sum exceeds 53 bits; what comes
out is checked to be integers, not rounded to them. The portable flavour runs here too, in the
float32 that it is written for.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.nir.playback import (
    Imported,
    Playback,
    from_rest,
    integers,
    need,
    played,
    read_out,
)

if TYPE_CHECKING:
    import torch

_PREFIX = "n_"  # nirtorch turns nodes into attributes of a module: keep clear of its own


@dataclass(frozen=True, slots=True)
class Nir:
    """The graph as a `.nir` file, on nirtorch."""

    name: str = "nir"

    def compile(self, graph: Graph) -> _NirtorchExecutable:
        """Export, write, read back.

        Raises:
            UnsupportedError: lists every node that NIR cannot say.
            SimulatorUnavailableError: nir, nirtorch or torch is missing.
        """
        need(self.name, "nir", "nirtorch", "torch")
        import nir

        from lapilli.export.nir.write.writer import to_nir  # needs nir

        file: Any = io.BytesIO()  # nir takes open files, and annotates paths
        nir.write(file, to_nir(graph))
        file.seek(0)
        return load(nir.read(file), graph)


@dataclass(frozen=True, slots=True)
class NirTorch:
    """The graph as a portable `.nir` file, on nirtorch with our node map; float32."""

    name: str = "nirtorch"

    def compile(self, graph: Graph) -> Playback:
        """Export, write, read back.

        Raises:
            UnsupportedError: lists every node that the portable flavour cannot say.
            SimulatorUnavailableError: nir, nirtorch or torch is missing.
        """
        need(self.name, "nir", "nirtorch", "torch")
        return played(graph, Flavour.PORTABLE, load_portable)


def load_portable(nir_graph: Any) -> Imported:
    """Make the module of nirtorch for a portable NIR graph, with a node map that sets every field.

    Args:
        nir_graph: a portable file of lapilli's, as `nir.read` returns it.
    """
    import nirtorch
    import torch

    facts = json.loads(nir_graph.metadata["lapilli"])
    node_map = _node_map(facts["dt"], np.float32)
    module = nirtorch.nir_to_torch(nir_graph, node_map, default_map={}, dtype=torch.float32)

    return Imported("nirtorch", module, from_rest(module))


def load(nir_graph: Any, graph: Graph) -> _NirtorchExecutable:
    """Make a NIR graph that `lapilli.export.nir.write.writer` has written ready to run.

    Args:
        nir_graph: a `nir.NIRGraph` as `nir.read` returns it.
        graph: what it was written from: says which values to record.

    Raises:
        MismatchError: it was written from another graph.
    """
    import nirtorch
    import torch

    facts = json.loads(nir_graph.metadata["lapilli"])
    if facts["digest"] != graph.digest:
        raise MismatchError("the NIR graph was written from another graph: the digests differ")
    module = nirtorch.nir_to_torch(
        _prepared(nir_graph),
        _node_map(facts["dt"], np.float64),
        default_map={},
        dtype=torch.float64,
    )
    return _NirtorchExecutable(graph, facts, module)


@dataclass(frozen=True, slots=True)
class _NirtorchExecutable:
    graph: Graph
    facts: Mapping[str, Any]
    module: Callable[..., Any]

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        import torch

        from lapilli.export.nir.write.placement import positions

        (given,) = inputs.values()
        sums = self.facts["sums"]
        wanted = {*self.graph.types, *(part for parts in sums.values() for _, part in parts)}
        shown = {n: shows for n, shows in self.facts["layouts"].items() if n in wanted}
        out: list[_Array] = []
        seen: dict[str, list[_Seen]] = {name: [] for name in shown}
        # Never nirtorch's own default: the state must be new for every run, and known to be.
        state: dict[str, Any] = {_PREFIX + key: None for key in self.facts["names"]}
        start = time.perf_counter()
        with torch.no_grad():
            for x in given[: self.facts["T"]]:
                y, state = self.module(torch.from_numpy(x.astype(np.float64)), state)
                out.append(y.numpy())
                for name, shows in shown.items():
                    seen[name].append(state[_PREFIX + shows["node"]])
        seconds = time.perf_counter() - start

        values: dict[str, IntArray] = {}
        membranes: dict[str, IntArray] = {}
        currents: dict[str, IntArray] = {}
        for name, shows in shown.items():
            home = positions(shows["layout"])
            values[name] = _integers(name, [s.spikes.numpy() for s in seen[name]], home)
            if name in self.graph.neurons and "fraction_bits" in shows:
                unit = float(1 << shows["fraction_bits"])
                v = [s.membrane.numpy() * unit for s in seen[name]]
                membranes[name] = _integers(name, v, home)
                currents[name] = _integers(name, [s.current.numpy() for s in seen[name]], home)
        for name, parts in sums.items():
            values[name] = np.asarray(sum(weight * values[part] for weight, part in parts))
        values = {name: value for name, value in values.items() if name in self.graph.types}
        output = self.facts["output"]
        answer = _integers(output["name"], out, positions(output["layout"]))
        values[output["name"]] = read_out(answer, output)
        return Recording(values, membranes, currents, seconds=seconds)


_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One step of a neuron node; what nirtorch keeps as its state."""

    spikes: torch.Tensor
    membrane: torch.Tensor
    current: torch.Tensor
    after: torch.Tensor


def _integers(name: str, steps: list[_Array], home: IntArray) -> IntArray:
    """T tensors (B, *physical shape) to int64 (T, B, *home.shape)."""
    rows = np.stack(steps).reshape(len(steps), len(steps[0]), -1)
    return integers("nirtorch", name, rows, home)


def _prepared(graph: Any) -> Any:
    """Nodes in topological order, as HDF5 does not keep it, with names that cannot clash."""
    before: dict[str, set[str]] = {key: set() for key in sorted(graph.nodes)}
    for source, target in graph.edges:
        before[target].add(source)
    order = TopologicalSorter(before).static_order()
    nodes = {_PREFIX + key: graph.nodes[key] for key in order}
    edges = [(_PREFIX + source, _PREFIX + target) for source, target in graph.edges]
    return type(graph)(nodes=nodes, edges=edges)


def _node_map(
    dt: float, dtype: type[np.floating[Any]]
) -> dict[Any, Callable[[Any], torch.nn.Module]]:
    """What each NIR node computes. Arrays have a batch axis in front of NIR's shapes."""
    import nir
    import torch
    from torch import Tensor, nn

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.array(array, dtype))

    return {
        nir.Input: lambda node: nn.Identity(),
        nir.Output: lambda node: nn.Identity(),
        **_stateless(tensor),
        **_neurons(dt, tensor),
    }


def _stateless(
    tensor: Callable[[Any], torch.Tensor],
) -> dict[Any, Callable[[Any], torch.nn.Module]]:
    """Nodes without state; `tensor` makes one of a node's array."""
    import nir
    from torch import Tensor, nn
    from torch.nn import functional

    class Map(nn.Module):
        """A node without state."""

        def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.compute = compute

        def forward(self, x: Tensor) -> Tensor:
            return self.compute(x)

    def affine(node: Any) -> nn.Module:
        w, b = tensor(node.weight), tensor(node.bias)
        return Map(lambda x: x @ w.T + b)

    def conv2d(node: Any) -> nn.Module:
        w, b = tensor(node.weight), tensor(node.bias)
        stride, padding, dilation = (_pair(p) for p in (node.stride, node.padding, node.dilation))
        groups = int(node.groups)
        return Map(lambda x: functional.conv2d(x, w, b, stride, padding, dilation, groups))

    def sum_pool(node: Any) -> nn.Module:
        kernel, stride, padding = (_pair(p) for p in (node.kernel_size, node.stride, node.padding))
        return Map(lambda x: functional.avg_pool2d(x, kernel, stride, padding, divisor_override=1))

    def scale(node: Any) -> nn.Module:
        factor = tensor(node.scale)
        return Map(lambda x: x * factor)

    def flatten(node: Any) -> nn.Module:
        first, last = int(node.start_dim), int(node.end_dim)
        return Map(lambda x: x.flatten(first + 1, last if last < 0 else last + 1))

    return {
        nir.Affine: affine,
        nir.Conv2d: conv2d,
        nir.SumPool2d: sum_pool,
        nir.Scale: scale,
        nir.Flatten: flatten,
    }


def _neurons(
    dt: float, tensor: Callable[[Any], torch.Tensor]
) -> dict[Any, Callable[[Any], torch.nn.Module]]:
    """Nodes with a membrane, by the Euler step of `dt` seconds."""
    import nir
    import torch
    from torch import Tensor, nn

    class Fire(nn.Module):
        """A neuron; `step` is its membrane's Euler step. nirtorch asks for the name `state`."""

        def __init__(self, node: Any, step: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.step = step
            self.threshold, self.reset = tensor(node.v_threshold), tensor(node.v_reset)

        def forward(self, x: Tensor, state: _Seen | None = None) -> tuple[Tensor, _Seen]:
            v = torch.zeros_like(x) if state is None else state.after
            h = self.step(v, x)
            spikes = (h > self.threshold).to(h.dtype)
            seen = _Seen(spikes, h, x, torch.where(spikes != 0, self.reset, h))
            return spikes, seen

    def integrate_and_fire(node: Any) -> nn.Module:
        gain = tensor(node.r * dt)
        return Fire(node, lambda v, x: v + gain * x)

    def leaky(node: Any) -> nn.Module:
        if not np.all(node.tau_syn == dt):
            raise ValueError("a synaptic current that outlasts its step")  # not ours: see _faults
        rate, r = tensor(dt / node.tau_mem), tensor(node.r)
        w_in, rest = tensor(node.w_in), tensor(node.v_leak)
        return Fire(node, lambda v, x: v + rate * (rest - v + r * (w_in * x)))

    class Wait(nn.Module):
        """Holds what it is given for as many steps as each element has."""

        def __init__(self, node: Any) -> None:
            super().__init__()
            self.steps = torch.from_numpy(np.rint(np.asarray(node.delay) / dt)).long()

        def forward(self, x: Tensor, state: _Seen | None = None) -> tuple[Tensor, _Seen]:
            last = int(self.steps.max())
            before = x.new_zeros((last, *x.shape)) if state is None else state.after
            seen = torch.cat([x[None], before])
            y = seen.gather(0, self.steps.expand(1, *x.shape))[0]
            return y, _Seen(y, y, x, seen[:last])

    class Show(nn.Module):
        """A membrane that nothing resets; `step` is its Euler step."""

        def __init__(self, step: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.step = step

        def forward(self, x: Tensor, state: _Seen | None = None) -> tuple[Tensor, _Seen]:
            h = self.step(torch.zeros_like(x) if state is None else state.after, x)
            return h, _Seen(h, h, x, h)

    def integrator(node: Any) -> nn.Module:
        gain = tensor(node.r * dt)
        return Show(lambda v, x: v + gain * x)

    def leaky_integrator(node: Any) -> nn.Module:
        rate, r, rest = tensor(dt / node.tau), tensor(node.r), tensor(node.v_leak)
        return Show(lambda v, x: v + rate * (rest - v + r * x))

    return {
        nir.IF: integrate_and_fire,
        nir.CubaLIF: leaky,
        nir.I: integrator,
        nir.LI: leaky_integrator,
        nir.Delay: Wait,
    }


def _pair(value: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(value, 2).tolist()
    return int(first), int(second)
