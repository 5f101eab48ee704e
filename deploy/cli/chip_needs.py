"""What a model needs of a chip, before it is trained: `lapilli inspect MODEL --for CHIP`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lapilli.costs import chips, small_pages
from lapilli.costs.cores import CoreMap, cores_of
from lapilli.deploy.cli.doctor import need
from lapilli.deploy.cli.frame import print_json, printable
from lapilli.ir import ops
from lapilli.ir.certificate import needs, widest
from lapilli.ir.errors import InputError, RangeError, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.binary import origin
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.targets.target import Unknown

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


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a chip cannot hold, or do.

    Attributes:
        module: whose it is; a node's name where no module is known.
        reason: what, and by how much.
    """

    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipNeeds:
    """What a network needs of a chip.

    Attributes:
        chip: its name.
        facts: of the network, for people and as JSON.
        beyond: all that the chip cannot hold.
        unknown: what nobody says how much of there is.
    """

    chip: str
    facts: dict[str, Any]
    beyond: tuple[Beyond, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether nothing that is known stands against it."""
        return not self.beyond

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.beyond:
            modules = len({one.module for one in self.beyond})
            return f"{self.chip} cannot hold it: {modules} of its modules stand against it"
        known = f"; of {', '.join(self.unknown)} nobody knows" if self.unknown else ""
        return f"nothing that is known of {self.chip} stands against it{known}"


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
        beyond = tuple(Beyond(module(o.node), o.reason) for o in small.obstacles)
        return ChipNeeds(chip=name, facts={**facts, "notes": list(small.notes)}, beyond=beyond)
    called, cores = chips.chip(name)
    against, unknown = list[Beyond](), list[str]()
    if called in NAMES:
        facts["bits"], unknown = _bits(graph, called, module)
        against += [
            Beyond(
                module(need.node), f"{need.register.value} need {need.bits} bits of {need.limit}"
            )
            for need in needs(graph, named(called))
            if need.holds is False
        ]
    try:
        found = cores_of(graph, called, cores)
    except UnsupportedError as error:
        against += [Beyond(module(r.node), r.reason) for r in error.reasons]
        facts["cores"] = "none: not as binary neurons"
    else:
        facts.update(_core_facts(found))
        against += _misfits(found, graph, module)
        unknown += [resource.value for resource in found.unknown]
    return ChipNeeds(chip=called, facts=facts, beyond=tuple(against), unknown=tuple(unknown))


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


def _bits(graph: Graph, name: str, module: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """Of each register what needs most of it, and registers of which nobody knows."""
    target = named(name)
    lines = [
        f"{need.register.value}: {need.bits} of {need.limit} ({module(need.node)})"
        for need in widest(needs(graph, target)).values()
    ]
    return lines, [r.value for r, limit in target.limits.items() if isinstance(limit, Unknown)]


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


def _misfits(found: CoreMap, graph: Graph, module: Callable[[str], str]) -> Iterator[Beyond]:
    known = {node.name for node in graph.nodes}
    for cut in found.misfits:
        asks = ", ".join(f"{cut.use[r]:,} {r.value} of {found.chip.each[r]}" for r in cut.beyond)
        yield Beyond(module(origin(cut.name, known)), f"one neuron takes {asks}")
    sizes = [chips.high for chips in found.chip.systems.values() if chips.high is not None]
    if sizes and found.chips[0] > max(sizes):
        yield Beyond(
            "all of it", f"{found.chips[0]:,} chips; the largest system has {max(sizes):,}"
        )


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
        "cannot": [{"module": one.module, "reason": one.reason} for one in found.beyond],
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
