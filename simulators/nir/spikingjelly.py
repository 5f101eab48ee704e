"""Our portable `.nir` file in SpikingJelly, through its own importer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir.graph import Graph
from lapilli.simulators.nir.playback import Imported, Playback, from_rest, need, played


@dataclass(frozen=True, slots=True)
class SpikingJelly:
    """The graph as a portable `.nir` file, imported by SpikingJelly; float32."""

    name: str = "spikingjelly"

    def compile(self, graph: Graph) -> Playback:
        """Export, write, read back, import.

        Raises:
            UnsupportedError: lists every node that the portable flavour cannot say.
            SimulatorUnavailableError: a package is missing.
        """
        need(self.name, "nir", "nirtorch", "torch", "spikingjelly")
        return played(graph, Flavour.PORTABLE, load)


def load(nir_graph: Any) -> Imported:
    """The module that SpikingJelly makes of a NIR graph."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    module = import_from_nir(nir_graph)

    return Imported("SpikingJelly", module, from_rest(module))
