"""Each line of SpikingJelly's counters of energy, the same of ours, and the difference explained.

A difference is known without either: from shapes, and from which inputs are spikes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from spikingjelly.activation_based.functional import reset_net
from spikingjelly.activation_based.neuron.base_node import BaseNode
from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyProfiler
from torch import Tensor, nn

from lapilli.costs.models.lemaire import ADD, LEMAIRE, MULTIPLY
from lapilli.costs.models.model import Measured
from lapilli.costs.models.spikingjelly import AC, MAC, MOVED, SPIKINGJELLY
from lapilli.costs.traffic import BYTE
from lapilli.ir import ops
from lapilli.ir.graph import Node

_WORD = 4  # bytes: what SpikingJelly takes every number for
_IN_NEURONS = 6  # additions that PyTorch makes for each update of their LIF: 3 sub, 2 add, 1 rsub
_SILENT = 3  # of them that count nothing while input and membrane are 0: sums of spikes, to it
_SYNAPTIC = (ops.Linear, ops.Conv2d, ops.SpikeMatmul, ops.Gate)
_FUSED = "part of the integers' weights and biases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of theirs, of all steps and images.

    Attributes:
        what: is counted; theirs, ours: how many.
        apart: theirs less ours, as shapes and kinds of inputs alone have it.
        why: they differ; empty where they do not.
    """

    what: str
    theirs: Fraction | int
    ours: Fraction | int
    apart: Fraction | int = 0
    why: str = ""


@dataclass(slots=True)
class Shown:
    """What shapes say of one run of a network of theirs, and which of its inputs are spikes.

    Attributes:
        normalised: elements that pass batch norm; channels: of all batch norms.
        own_sums: additions of sums by which their counter of weights counts.
        silent: updates of neurons that nothing has reached yet.
        biased: outputs of maps that have a bias.
        kernels: elements of one plane of all kernels of maps whose input is no spikes.
    """

    normalised: int = 0
    channels: int = 0
    own_sums: int = 0
    silent: int = 0
    biased: int = 0
    kernels: int = 0

    def hear(self, module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        """Take note of one call of a module."""
        (x,) = given
        match module:
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                self.normalised += out.numel()
                self.channels += out.shape[1]
            case nn.Conv1d() | nn.Conv2d():
                if bool(((x == 0) | (x == 1)).all()):
                    self.own_sums += out.numel() // out.shape[1] * module.groups - 1
                else:
                    self.kernels += out.shape[1] * math.prod(module.kernel_size)
                self.biased += out.numel() * (module.bias is not None)
            case nn.Linear():
                self.biased += out.numel() * (module.bias is not None)
            case BaseNode():
                reached = (x != 0).flatten(1).any(1).cumsum(0) > 0
                self.silent += x[0].numel() * int((~reached).sum())
            case _:
                pass


def shown_by(model: nn.Module, images: Tensor) -> Shown:
    """Run a network of theirs, and take note of what shapes say."""
    shown = Shown()
    hooks = [module.register_forward_hook(shown.hear) for module in model.modules()]
    reset_net(model)
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return shown


def simple_lines(
    measured: Measured, model: nn.Module, profiler: SimpleEnergyProfiler, shown: Shown
) -> Iterator[Line]:
    """Each operator of theirs, by what it belongs to; then bytes, as words of theirs."""
    graph, terms = measured.graph, list(SPIKINGJELLY.terms(measured))
    macs = _by_operator(profiler.mac_counter.get_counts()["Global"])
    acs, inside = _additions(profiler, model)

    def ours(key: str, *kinds: type) -> Fraction:
        return _sum(
            t.quantity for t in terms if t.key == key and isinstance(graph[t.node].op, kinds)
        )

    yield Line(
        what="MAC: maps whose input is no spikes",
        theirs=sum(macs[name] for name in ("convolution", "addmm", "mm", "bmm")),
        ours=ours(MAC, *_SYNAPTIC),
    )
    yield Line(
        what="MAC: batch norm",
        theirs=macs["native_batch_norm"],
        ours=0,
        apart=shown.normalised,
        why=_FUSED,
    )
    yield Line(
        what="AC: maps of spikes",
        theirs=sum(acs[name] for name in ("convolution", "addmm", "mm")),
        ours=ours(AC, ops.Linear, ops.Conv2d),
    )
    yield Line(what="AC: products of attention", theirs=acs["bmm"], ours=ours(AC, ops.SpikeMatmul))
    yield Line(what="AC: residual sums", theirs=acs["add"], ours=ours(AC, ops.Add))
    yield Line(what="AC: mean over tokens", theirs=acs["mean"], ours=ours(AC, ops.Sum))
    yield Line(
        what="AC: batch norm",
        theirs=acs["native_batch_norm"],
        ours=0,
        apart=shown.normalised + shown.channels,
        why=_FUSED,
    )
    updates = sum(counts.updates for counts in measured.counts.values())
    yield Line(
        what="AC: inside neurons",
        theirs=inside,
        ours=0,
        apart=_IN_NEURONS * updates - _SILENT * shown.silent,
        why="PyTorch's additions for an update; the model leaves arithmetic of neurons out",
    )
    added = [n for n in graph.nodes if isinstance(n.op, ops.Readout)]
    yield Line(
        what="AC: the read-out",
        theirs=0,
        ours=ours(AC, ops.Readout),
        apart=-sum(math.prod(graph.types[n.name].shape) for n in added) * measured.steps,
        why="answers are added up over time here, outside the model there",
    )
    yield Line(
        what="AC: sums of its own counter",
        theirs=acs["sum"],
        ours=0,
        apart=shown.own_sums,
        why="its counter of weights adds up with PyTorch, and its counter of additions hears that",
    )
    yield from _bytes(measured, profiler.get_report().counts, shown)


def _by_operator(counted: Mapping[object, int]) -> Counter[str]:
    """Counts by names such as `convolution`."""
    return Counter({str(operator).split(".")[1]: n for operator, n in counted.items()})


def _additions(profiler: SimpleEnergyProfiler, model: nn.Module) -> tuple[Counter[str], int]:
    """AC of each operator outside neurons, and all of those inside."""
    scopes = profiler.ac_counter.get_counts()
    outside, inside = _by_operator(scopes["Global"]), 0
    for name, module in model.named_modules():
        if isinstance(module, BaseNode):
            within = _by_operator(scopes[f"{type(model).__name__}.{name}"])
            outside.subtract(within)
            inside += within.total()
    return outside, inside


def _bytes(measured: Measured, theirs: Mapping[str, int], shown: Shown) -> Iterator[Line]:
    """Bytes of weights, biases and states: words of theirs at our widths."""
    weighted = [n for n in measured.graph.nodes if isinstance(n.op, ops.Linear | ops.Conv2d)]
    names = {node.name for node in weighted}
    terms = [t for t in SPIKINGJELLY.terms(measured) if t.key == MOVED]
    read = {
        t.node: t.quantity
        for t in SPIKINGJELLY.terms(measured)
        if t.key in (AC, MAC) and t.node in names
    }
    biases = {n.name: Fraction(measured.traffic[n.name].biases, BYTE) for n in weighted}
    yield Line(
        what="bytes: weights",
        theirs=theirs["weight_read_bytes"],
        ours=_sum(t.quantity for t in terms if t.node in names) - _sum(biases.values()),
        apart=_sum(
            n * (_WORD - Fraction(measured.widths[k].weight, BYTE)) for k, n in read.items()
        ),
        why="the same weights; theirs have 32 bits",
    )
    yield Line(
        what="bytes: biases",
        theirs=theirs["bias_read_bytes"],
        ours=_sum(biases.values()),
        apart=_WORD * shown.biased - _sum(_bias_bytes(measured, node) for node in weighted),
        why="theirs in the head alone; ours are those that batch norm became",
    )
    updates = {n: counts.updates for n, counts in measured.counts.items() if counts.updates}
    read_out = {
        n.name: Fraction(measured.traffic[n.name].states, BYTE)
        for n in measured.graph.nodes
        if isinstance(n.op, ops.Readout)
    }
    yield Line(
        what="bytes: states",
        theirs=theirs["neuron_state_read_bytes"] + theirs["neuron_state_write_bytes"],
        ours=_sum(t.quantity for t in terms if t.node not in names),
        apart=_sum(
            2 * n * (_WORD - Fraction(measured.widths[k].state, BYTE)) for k, n in updates.items()
        )
        - _sum(read_out.values()),
        why="the same states, and the read-out's; theirs have 32 bits",
    )


def _bias_bytes(measured: Measured, node: Node) -> Fraction:
    """What the biases of a map that are not zero take, one for each output and step."""
    if not isinstance(node.op, ops.Linear | ops.Conv2d):
        raise TypeError(f"{node.name} has no biases")
    bias, made = node.op.bias, measured.dense[node.name].outputs * measured.steps
    there = made // bias.size * int(np.count_nonzero(bias.array))
    return Fraction(there * measured.widths[node.name].bias, BYTE)


def lemaire_lines(measured: Measured, theirs: Mapping[str, int], shown: Shown) -> Iterator[Line]:
    """Additions and products, of addresses too; ours without biases."""
    terms = list(LEMAIRE.terms(measured))
    products = theirs["mac"] + theirs["mac_addr"]
    yield Line(
        what="Lemaire: additions",
        theirs=theirs["ac"] + theirs["acc_addr"] + products,
        ours=_sum(t.quantity for t in terms if t.key == ADD),
        apart=shown.biased - (measured.steps - 1) * shown.kernels,
        why="biases; kernels are addressed once there for all steps and images, here for each",
    )
    yield Line(
        what="Lemaire: products",
        theirs=products,
        ours=_sum(t.quantity for t in terms if t.key == MULTIPLY),
    )


def _sum(several: Iterable[Fraction | int]) -> Fraction:
    return Fraction(sum(several, Fraction(0)))
