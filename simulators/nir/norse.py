"""Our fused `.nir` file in norse, through its own importer.

norse 1.1.0 runs a graph in the order of a depth-first search: where branches meet it adds what
has arrived so far. A fused file has no branches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir.graph import Graph
from lapilli.simulators.nir.playback import Imported, Playback, from_rest, need, played


@dataclass(frozen=True, slots=True)
class Norse:
    """The graph as a fused `.nir` file, imported by norse; float32."""

    name: str = "norse"

    def compile(self, graph: Graph) -> Playback:
        """Export, write, read back, import.

        Raises:
            UnsupportedError: lists every node that the fused flavour cannot say.
            SimulatorUnavailableError: a package is missing.
        """
        need(self.name, "nir", "nirtorch", "torch", "norse")
        return played(graph, Flavour.FUSED, load)


def load(nir_graph: Any) -> Imported:
    """The module that norse makes of a NIR graph."""
    import norse.torch

    from lapilli.export.nir.write.canonical import DT

    module = norse.torch.from_nir(nir_graph, dt=DT)

    return Imported("norse", module, from_rest(module))
