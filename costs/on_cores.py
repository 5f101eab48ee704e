"""A network on a chip with cores: how it is cut, and all that the chip cannot hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lapilli.costs.cores import CoreMap, cores_of
from lapilli.costs.obstacles import WHOLE, Obstacle
from lapilli.ir.certificate import needs
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.passes.binary import origin
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.targets.target import Cores, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCores:
    """A network put onto a chip with cores.

    Attributes:
        chip: its name.
        found: how the network is cut; None where it has no form in binary neurons.
        obstacles: what registers do not hold, in the order of the graph; then what no core has
            room for, or what has no form in binary neurons; then chips that no system has.
        unknown: what nobody says how much of there is: registers, then resources of a core.
    """

    chip: str
    found: CoreMap | None
    obstacles: tuple[Obstacle, ...]
    unknown: tuple[str, ...]


def put_on_cores(graph: Graph, name: str, chip: Cores) -> OnCores:
    """Cut a network onto the cores of a chip, and name all that stands against it.

    Args:
        graph: of a network.
        name: of the chip; of a target, whose registers are looked at, too.
        chip: what it has.
    """
    against, unknown = [*_registers(graph, name)], _unknown_registers(name)
    try:
        found = cores_of(graph, name, chip)
    except UnsupportedError as error:
        against += [Obstacle(reason.node, reason.reason) for reason in error.reasons]
        return OnCores(chip=name, found=None, obstacles=tuple(against), unknown=unknown)
    return OnCores(
        chip=name,
        found=found,
        obstacles=(*against, *_no_room(found, graph)),
        unknown=(*unknown, *(resource.value for resource in found.unknown)),
    )


def _registers(graph: Graph, name: str) -> Iterator[Obstacle]:
    if name in NAMES:
        for need in needs(graph, named(name)):
            if need.holds is False:
                told = (
                    f"needs {need.bits} bits for its {need.register.value}; there are {need.limit}"
                )
                yield Obstacle(need.node, told)


def _unknown_registers(name: str) -> tuple[str, ...]:
    limits = named(name).limits if name in NAMES else {}
    return tuple(r.value for r, limit in limits.items() if isinstance(limit, Unknown))


def _no_room(found: CoreMap, graph: Graph) -> Iterator[Obstacle]:
    known, large = {node.name for node in graph.nodes}, list[Obstacle]()
    for cut in found.misfits:
        asks = ", ".join(f"{cut.use[r]:,} {r.value} of {found.chip.each[r]}" for r in cut.beyond)
        large.append(Obstacle(origin(cut.name, known), f"one neuron takes {asks}"))
    yield from dict.fromkeys(large)  # planes and ANDs of one node often take the same
    sizes = [chips.high for chips in found.chip.systems.values() if chips.high is not None]
    if sizes and found.chips[0] > max(sizes):
        yield Obstacle(WHOLE, f"{found.chips[0]:,} chips; the largest system has {max(sizes):,}")
