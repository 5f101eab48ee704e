"""Our portable `.nir` file in snnTorch, through its own importer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir.graph import Graph
from lapilli.simulators.nir.playback import Imported, Playback, Step, need, played


@dataclass(frozen=True, slots=True)
class SnnTorch:
    """The graph as a portable `.nir` file, imported by snnTorch; float32."""

    name: str = "snntorch"

    def compile(self, graph: Graph) -> Playback:
        """Export, write, read back, import.

        Raises:
            UnsupportedError: lists every node that the portable flavour cannot say.
            SimulatorUnavailableError: a package is missing.
        """
        need(self.name, "nir", "nirtorch", "torch", "snntorch")
        return played(graph, Flavour.PORTABLE, load)


def load(nir_graph: Any) -> Imported:
    """The module that snnTorch makes of a NIR graph."""
    import nir
    from snntorch import SpikingNeuron
    from snntorch.import_nir import import_from_nir

    # It counts NIR's axes as if there were a batch axis, and there is none in NIR.
    batched = not any(isinstance(node, nir.Flatten) for node in nir_graph.nodes.values())
    module = import_from_nir(nir_graph)
    neurons: list[Any] = [m for m in module.modules() if isinstance(m, SpikingNeuron)]

    def start() -> Step:
        for neuron in neurons:
            neuron.reset_mem()  # the state hides in the modules
        return lambda x: module(x)[0]

    return Imported("snnTorch", module, start, batched)
