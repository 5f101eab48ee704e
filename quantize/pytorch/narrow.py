"""Run layers of the quantized module in float32, where nothing is rounded by it.

Parameters stay float64, as they were quantized. A layer that computes in float32 does so in a
twin: the same class of PyTorch's, given the same parameters, each asserted on its grid before
it is cast. No convolution may be a transform (Winograd, FFT): those multiply by fractions, and
round where the sum itself would not. PyTorch asks oneDNN for the direct one; NNPACK, which
transforms, is switched off. And the first result of every shape is compared with that of
float64, bit for bit.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

import torch
from torch import Tensor, nn

from lapilli.ir.errors import MismatchError
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured, neuron_of
from lapilli.quantize.lower import Lowered
from lapilli.quantize.plan import Plan
from lapilli.quantize.pytorch.agreement import has_exact_constants
from lapilli.quantize.pytorch.integer_neuron import StandIn, on_grid
from lapilli.quantize.pytorch.precision import is_narrow_neuron, narrow_nodes, no_transform
from lapilli.quantize.pytorch.quantized_module import known_adapter
from lapilli.quantize.weights import IntegerUnit

_SYNAPSES = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class NarrowLayer:
    """The forward of a layer, computed by a float32 twin.

    Attributes:
        path: of the layer, for messages.
        own: the author's, in float64.
        grids: name of a parameter or buffer -> the number of which all of it is multiples.
        checked: shapes of which a result was compared with that of float64.
    """

    def __init__(self, path: str, own: nn.Module, grids: Mapping[str, Fraction]) -> None:
        self.path = path
        self.own = own
        self.grids = dict(grids)
        self.twin = copy.deepcopy(own).float().requires_grad_(requires_grad=False)
        self.checked: set[torch.Size] = set()

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the layer; float32 whatever `x` is.

        Raises:
            MismatchError: a parameter is off its grid, or float32 rounds on this machine.
        """
        twins = _tensors(self.twin)
        for name, tensor in _tensors(self.own).items():
            on_grid(f"{self.path}.{name}", tensor.numpy(), self.grids[name])
            twins[name].copy_(tensor)
        forward = type(self.own).forward  # not a call: hooks are the author's layer's alone
        with no_transform():
            y: Tensor = forward(self.twin, x.float())
        if x.shape not in self.checked:
            if not torch.equal(y.double(), forward(self.own, x.double())):
                raise MismatchError(f"{self.path}: PyTorch's float32 rounds what float64 does not")
            self.checked.add(x.shape)
        return y


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics by name; the count of training batches is none."""
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}


def narrow(
    module: nn.Module,
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    lowered: Lowered,
) -> None:
    """Make layers of a quantized module compute in float32, where the graph's bounds allow it.

    None does in a module that has parameters of its own, uses a layer twice, runs step by step,
    multiplies by constants that are no powers of two, or has a scale for each channel.
    """
    layers = _layers(module, captured, plan, units, lowered)
    if layers is None:
        return
    dtypes = _Dtypes(lowered, layers)
    for node, (path, norm) in layers.items():
        unit = units[lowered.synapses[node]]
        synapse, dtype = module.get_submodule(path), dtypes.out(node)
        if dtype is torch.float64 or getattr(synapse, "groups", 1) > 1:
            # A depthwise one may be a transform on other machines, and costs little.
            _cast(synapse, torch.float64, dtype)
        else:
            grids = {"weight": unit.weight_scale, "bias": unit.output_scale}
            synapse.forward = NarrowLayer(path, synapse, grids)
        if norm and dtype is torch.float32:
            own = module.get_submodule(norm)
            grid = min(abs(unit.output_scale), Fraction(1))
            own.forward = NarrowLayer(norm, own, dict.fromkeys(_tensors(own), grid))
    for node, (call, neuron) in lowered.neurons.items():
        fire, given, out = neuron_of(call), dtypes.given(node), dtypes.out(node)
        own = module.get_submodule(fire.module)
        ours = not isinstance(own, StandIn) and bool(known_adapter(own).watched)
        if not (ours and is_narrow_neuron(node, lowered.graph, fire.rule, neuron)):
            given = torch.float64
        if (given, given) != (dtypes.given(node), out):
            _cast(own, given, out)


class _Dtypes:
    """In which precision a node gets and gives its values."""

    def __init__(self, lowered: Lowered, synapses: Iterable[str]) -> None:
        self.graph = lowered.graph
        self.narrow = narrow_nodes(self.graph, {*synapses, *lowered.neurons})

    def out(self, node: str) -> torch.dtype:
        return torch.float32 if node in self.narrow else torch.float64

    def given(self, node: str) -> torch.dtype:
        return self.out(self.graph[node].inputs[0])


def _cast(module: nn.Module, given: torch.dtype, out: torch.dtype) -> None:
    """Let a module take and give these, whatever it is given; by hooks, which a copy keeps."""
    module.register_forward_pre_hook(lambda _, args: (args[0].to(given), *args[1:]))
    module.register_forward_hook(lambda _, __, result: result.to(out))


def _layers(
    module: nn.Module,
    captured: Captured,
    plan: Plan,
    units: Mapping[str, IntegerUnit],
    lowered: Lowered,
) -> dict[str, tuple[str, str]] | None:
    """Synapse node -> paths of its module and of its batch norm; None if the module is not so."""
    fires = [neuron_of(call) for call, _ in lowered.neurons.values()]
    membranes = any(isinstance(c.op, program.Membrane) for c in captured.calls.values())
    if captured.constants or membranes or any(fire.steps for fire in fires):
        return None
    scales = [s for unit in units.values() for s in (unit.weight_scale, unit.output_scale)]
    scales += [s for _, n in lowered.neurons.values() for s in (n.scale, n.unit)]
    scales += [fire.rule.output_scale for fire in fires]
    has_factors = any(unit.factors for unit in units.values())
    if has_factors or not (has_exact_constants(captured) and all(map(_is_power_of_two, scales))):
        return None
    found: dict[str, tuple[str, str]] = {}
    for node, name in lowered.synapses.items():
        op, unit = captured.calls[name].op, plan.units[name]
        if not isinstance(op, program.Synapse):
            raise TypeError(f"{name} is no linear map")
        path = op.weight.rpartition(".")[0]
        norm_op = captured.calls[unit.norm].op if unit.norm is not None else None
        norm = norm_op.module if isinstance(norm_op, program.BatchNorm) else ""
        known = type(module.get_submodule(path)) in _SYNAPSES
        if not known or (norm and type(module.get_submodule(norm)) not in _NORMS):
            return None
        found[node] = path, norm
    used = [p for pair in found.values() for p in pair if p] + [fire.module for fire in fires]
    if len(found) != len(plan.units) or max(Counter(used).values(), default=0) > 1:
        return None
    inside = tuple(f"{path}." for path in used)
    named = (*module.named_parameters(), *module.named_buffers())
    return found if all(name.startswith(inside) for name, _ in named) else None


def _is_power_of_two(scale: Fraction) -> bool:
    return abs(scale.numerator).bit_count() == scale.denominator.bit_count() == 1
