"""What a model needs of a chip, before it is trained: `lapilli inspect MODEL --for CHIP`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lapilli.costs import chips, small_pages
from lapilli.costs.cores import CoreMap
from lapilli.costs.obstacles import Obstacle, verdict
from lapilli.costs.on_cores import put_on_cores
from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.ir import ops
from lapilli.ir.certificate import needs, widest
from lapilli.ir.errors import InputError, RangeError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.targets.table import NAMES, named

if TYPE_CHECKING:
    from lapilli.deploy.cli.models import ModelOptions

_SEEN = 2  # random images that scales are made for
_AS_IT_IS = (
    "with the weights it has, for random inputs: training may change bits, and thereby cores"
)
_WORDS = (
    (ops.Conv2d, "convolutions"),
    (ops.Linear, "linear maps"),
    (ops.SpikeMatmul, "products of matrices"),
    (ops.Gate, "products by element"),
    (ops.ShiftSum, "sums of shifted values"),
    (ops.MaxPool2d, "maxima"),
    (ops.Neuron, "layers of neurons"),
    (ops.GeneralNeuron, "layers of general neurons"),
    (ops.Staircase, "layers of integer spikes"),
    (ops.Relu, "rectifiers"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipNeeds:
    """What a network needs of a chip.

    Attributes:
        chip: its name.
        facts: of the network, for people and as JSON.
        beyond: all that the chip cannot hold, by module; by node where no module is known.
        unknown: what nobody says how much of there is.
    """

    chip: str
    facts: dict[str, Any]
    beyond: tuple[Obstacle, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether nothing that is known stands against it."""
        return not self.beyond

    @property
    def verdict(self) -> str:
        """In a sentence."""
        return verdict(self.chip, self.beyond, self.unknown)


def network_of(
    name: str,
    chip: str,
    shape: str | None,
    asked: ModelOptions,
    neurons: list[str],
) -> Network:
    """Open a network, or make one of a model as it is, for random inputs.

    Args:
        name: a .lapilli file, a checkpoint, FILE.py:CLASS or PACKAGE.MODULE:CLASS.
        chip: whose registers it is made for, where it is a target.
        shape: of an input, CxHxW, or TxCxHxW of frames of events.
        asked: the rest of what the command line says of a model.
        neurons: CLASS=RULE, for classes of the user's own.

    Raises:
        InputError: no shape, or none that fits.
        LapilliError: the model cannot be built, captured or quantized.
    """
    if name.endswith(".lapilli"):
        from lapilli.export.native import load_network

        return load_network(Path(name))
    need("torch")
    from lapilli.deploy.cli.models import open_model
    from lapilli.model.neurons.described import parse_neurons
    from lapilli.model.trial import any_images
    from lapilli.quantize import quantize
    from lapilli.quantize.options import QuantizeOptions

    sizes = _sizes(name, shape)
    frames = len(sizes) == len("TCHW")
    model = open_model(name, asked, sizes[-3])
    images = any_images(sizes, _SEEN, frames=frames)
    options = QuantizeOptions(
        layout="BTCHW" if frames else "BCHW",
        counts=frames,
        neurons=parse_neurons(neurons) if neurons else None,
    )
    if chip in NAMES:
        with suppress(RangeError):  # else for the default: what the chip does not hold is named
            aimed: QuantizeOptions = {**options, "target": chip}
            return quantize(model.module, images, **aimed).network
    return quantize(model.module, images, **options).network


def _sizes(name: str, shape: str | None) -> list[int]:
    if shape is None:
        raise InputError(f"{name} does not say how large its input is: give --shape 3x32x32")
    sizes = [int(part) for part in shape.split("x") if part.isdecimal()]
    if len(sizes) != shape.count("x") + 1 or not all(sizes) or len(sizes) not in (3, 4):
        raise InputError(f"--shape {shape!r} is no shape as 3x32x32, or 10x2x34x34 of frames")
    return sizes


def needs_of(network: Network, name: str) -> ChipNeeds:
    """Say what a network needs of a chip, and what of it the chip cannot hold.

    Args:
        network: quantized.
        name: of a chip (`lapilli.costs.chips`), or a file of one's own.

    Raises:
        InputError, FormatError: no such chip.
    """
    graph, module = network.graph, _modules(network)
    facts = _network_facts(graph)
    if name in chips.SMALL:
        small = small_pages.put_on(graph, chips.SMALL[name])
        facts["notes"] = list(small.notes)
        return ChipNeeds(chip=name, facts=facts, beyond=_by_module(small.obstacles, module))
    called, cores = chips.chip(name)
    if called in NAMES:
        facts["bits"] = _bits(graph, called, module)
    on = put_on_cores(graph, called, cores)
    facts |= {"cores": "none: not as binary neurons"} if on.found is None else _core_facts(on.found)
    beyond = _by_module(on.obstacles, module)
    return ChipNeeds(chip=called, facts=facts, beyond=beyond, unknown=on.unknown)


def _by_module(obstacles: Iterable[Obstacle], module: Callable[[str], str]) -> tuple[Obstacle, ...]:
    return tuple(Obstacle(module(one.node), one.reason) for one in obstacles)


def _network_facts(graph: Graph) -> dict[str, Any]:
    kinds = Counter(type(node.op) for node in graph.nodes)
    synapses = [n.op for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv2d)]
    sizes = [_size(graph, name) for name in graph.firing]
    return {
        "T": graph.T,
        "input": list(graph.types[graph.inputs[0]].shape),
        "ops": [f"{kinds[op]} {word}" for op, word in _WORDS if kinds[op]],
        "weights": sum(op.weight.array.size for op in synapses),
        "neurons": sum(sizes),
    }


def _size(graph: Graph, name: str) -> int:
    size = 1
    for length in graph.types[name].shape:
        size *= length
    return size


def _bits(graph: Graph, name: str, module: Callable[[str], str]) -> list[str]:
    """Of each register what needs most of it."""
    return [
        f"{need.register.value}: {need.bits} of {need.limit} ({module(need.node)})"
        for need in widest(needs(graph, named(name))).values()
    ]


def _core_facts(found: CoreMap) -> dict[str, Any]:
    told = (
        f"{found.lowest:,} or more; {found.cores:,} as cut here, by what is known"
        if found.unknown
        else f"{found.lowest:,} to {found.cores:,}"
    )
    fewest, most = found.chips
    chips_ = f"{fewest:,}" if most == fewest else f"{fewest:,} to {most or 'unknown'}"
    return {
        "binary_neurons": found.neurons,
        "cores": told,
        "chips": chips_,
        "system": found.system or "none that is known",
    }


def _modules(network: Network) -> Callable[[str], str]:
    """What finds the module of a node: as the recipe has it, else the node's own name."""
    recipe = network.recipe
    paths = {}
    if recipe is not None:
        paths = {r.node: r.path for r in recipe.synapses} | {r.node: r.path for r in recipe.neurons}
    return lambda node: paths.get(node, node)


def as_facts(found: ChipNeeds) -> dict[str, Any]:
    """Return it for JSON."""
    return {
        "for": found.chip,
        **found.facts,
        "holds": found.holds,
        "unknown": list(found.unknown),
        "cannot": [{"module": one.node, "reason": one.reason} for one in found.beyond],
    }


def print_needs(
    name: str,
    chip: str,
    shape: str | None,
    asked: ModelOptions,
    neurons: list[str],
    *,
    as_json: bool,
) -> None:
    """Print what a network, or a model as it is, needs of a chip.

    Args:
        name: see `network_of`, as of the next two.
        chip: see `needs_of`; refused before anything is built.
        shape: of an input.
        asked: what else is said of a model.
        neurons: CLASS=RULE, for classes of the user's own.
        as_json: print facts alone.

    Raises:
        LapilliError: no such chip; the model cannot be built, captured or quantized.
    """
    from lapilli.deploy.cli import tables

    if chip not in chips.SMALL:
        chips.chip(chip)
    found = needs_of(network_of(name, chip, shape, asked, neurons), chip)
    if as_json:
        print_json(as_facts(found))
        return
    tables.print_facts(f"{name} for {found.chip}", found.facts)
    note = [] if name.endswith(".lapilli") else [_AS_IT_IS]
    typer.echo(printable("\n".join([*map(str, found.beyond), found.verdict, *note])))
