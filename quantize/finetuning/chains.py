"""Linear maps in a row that `quantize` merges: their parameters learn, their product is rounded.

The author's layers run one after the other in float, from the first to the last, and carry the
gradient; what leaves the last is the value of the merged integers on what entered the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.quantize.finetuning.straight_through import straight_through

_MERGED = ".merged"  # what `merge` adds to a call that wires follow
_NEAR = 2.0**-10  # of the largest value: by which the layers, in float32, may differ from the map


@dataclass(frozen=True, slots=True)
class Chain:
    """Layers that became one synapse.

    Attributes:
        op: the merged map; path: for messages.
        layers: paths of the modules, first to last.
    """

    op: program.Synapse
    path: str
    layers: tuple[str, ...]

    def installed(self, module: nn.Module) -> RunningChain:
        """Watch the first layer of a module, and replace what leaves the last."""
        running = RunningChain(self)
        module.get_submodule(self.layers[0]).register_forward_pre_hook(running.enter)
        module.get_submodule(self.layers[-1]).register_forward_hook(running.leave)
        return running


def chain_of(captured: Captured, merged: Captured, name: str) -> Chain | None:
    """Find the layers of a merged unit; None if it has none: a pool, or spikes as currents.

    Raises:
        QuantizeError: they are no layers in a row.
    """
    call = merged.calls[name]
    if not isinstance(call.op, program.Synapse):
        raise TypeError(f"{name} is no linear map")
    at, source = name.removesuffix(_MERGED), call.inputs[0]
    if call.op.weight in captured.constants or at not in captured.calls:
        return None
    layers: list[str] = []
    while at != source:
        step = captured.calls.get(at)
        match step.op if step else None:
            case program.Synapse(weight=weight, bias=bias) if not (
                weight in captured.constants or bias in captured.constants
            ):
                layers.append(weight.rpartition(".")[0])
            case program.BatchNorm(module=module):
                layers.append(module)
            case program.Reshape() | program.Permute() | program.Pad():
                pass
            case _:
                raise QuantizeError(
                    call.path,
                    "its weights are computed from parameters by more than layers in a row, and "
                    "have no gradient here; fold them in the module first",
                )
        at = captured.calls[at].inputs[0]
    return Chain(call.op, call.path, tuple(reversed(layers)))


@dataclass(slots=True, eq=False)
class RunningChain:
    """A chain in a module that runs.

    Attributes:
        weight, bias: the merged integers in real units, set before each run.
        exact: weight and bias before rounding, while it is checked that the layers are the map.
    """

    chain: Chain
    weight: Tensor = field(default_factory=lambda: torch.empty(0))
    bias: Tensor = field(default_factory=lambda: torch.empty(0))
    exact: tuple[Tensor, Tensor] | None = None
    _entered: Tensor | None = None

    def enter(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Keep what the first layer is given."""
        self._entered = args[0].detach()

    def leave(self, _: nn.Module, args: tuple[Tensor, ...], real: Tensor) -> Tensor:
        """Return the value of the merged integers, with the gradient of the layers.

        Raises:
            QuantizeError: the layers are not the map.
        """
        del args
        x, self._entered = self._entered, None
        if x is None:
            raise QuantizeError(
                self.chain.path, "its layers run in another order than was captured"
            )
        if self.exact is not None:
            wanted = self._map(x, *self.exact)
            most = _NEAR * float(wanted.abs().max())
            same = wanted.shape == real.shape and torch.allclose(wanted, real, rtol=0, atol=most)
            if not same:
                raise QuantizeError(
                    self.chain.path, "its layers alone are not the map they merge to"
                )
        return straight_through(real, self._map(x, self.weight, self.bias))

    def _map(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        op = self.chain.op
        if not op.space:
            return functional.linear(x, weight, bias)
        convolve = functional.conv1d if op.space == 1 else functional.conv2d
        stride, padding, dilation = (
            pair[: op.space] for pair in (op.stride, op.padding, op.dilation)
        )
        y: Tensor = convolve(x, weight, bias, stride, padding, dilation, op.groups)
        return y
