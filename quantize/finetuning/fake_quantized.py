"""The author's module with real parameters, whose forward computes in the integers of `quantize`.

At each call every unit is folded and rounded by `quantize`'s own functions, on the scales that
`quantize` chose when it last looked (`requantize`), and the author's forward runs on the result:
batch norms as shifts, moved thresholds, integer neurons, the image on its grid. Gradients go
straight through the rounding to the author's parameters. So there is nothing to convert at the end:
`quantize` makes of those parameters the integers that were trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import ROOT, QuantizeError
from lapilli.ir.graph import Graph
from lapilli.ir.passes.wiring import fuse_wiring
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.model.capture.signature import Signature
from lapilli.model.families.layers import Units
from lapilli.model.neurons.adapters import adapter_of, reset_states
from lapilli.quantize.finetuning.chains import Chain, chain_of
from lapilli.quantize.finetuning.neurons import (
    add_surrogates,
    make_trainable,
    without_gradient,
)
from lapilli.quantize.finetuning.rounding import Rounded, rounded
from lapilli.quantize.finetuning.steps import LOOK, LearnedSteps, first_steps
from lapilli.quantize.finetuning.straight_through import straight_through
from lapilli.quantize.fit import Fitted
from lapilli.quantize.image_scale import image_scale, quantized_images
from lapilli.quantize.merging.merge import merge
from lapilli.quantize.options import QuantizeOptions, channels_together, learns_scales
from lapilli.quantize.pipeline import begin, integers
from lapilli.quantize.plan import Unit
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.pytorch.integer_neuron import StandIn
from lapilli.quantize.pytorch.runnable import author_runnable, reasons
from lapilli.quantize.shiftmax import set_shiftmaxes
from lapilli.quantize.weight_steps import step_names
from lapilli.quantize.weights import FloatArray, fold, norm_module

_SHOWN = 4  # images of the calibration by which neurons without a gradient are found


class FakeQuantized(nn.Module):
    """Images as `quantize` takes them to the logits of the integer graph.

    Attributes:
        module: the author's, whose parameters are trained; never run itself.
    """

    def __init__(
        self,
        module: nn.Module,
        calibration: Tensor,
        options: QuantizeOptions,
        encoding: Encoding | None = None,
    ) -> None:
        """Prepare a module, in evaluation mode; `encoding` is what the calibration went through.

        Raises:
            CaptureError, QuantizeError, RangeError: see `quantize`; or weights that are computed
                from parameters, a neuron that no gradient passes.
        """
        super().__init__()
        self._options = options
        begun = begin(module, calibration, options, encoding=encoding)
        self._source, self._image, self._prepared = begun.source, begun.image, begun.prepared
        self._shown = calibration[:_SHOWN]
        self.module = self._prepared.captured.module
        _check_precision(self.module)
        units = self._prepared.plan.units
        self._units = {n: u for n, u in units.items() if not self._is_constant(self._synapse(n))}
        self._chains = _chains(self._prepared, units.keys() - self._units.keys())
        self._names, self._seen = step_names(self._prepared.plan), 0
        self._learned = self._learned_steps(options) if learns_scales(options) else None
        self.requantize()

    @property
    def graph(self) -> Graph:
        """The integer graph of the parameters of the latest `requantize`."""
        return fuse_wiring(self._fitted.lowered.graph)

    @property
    def weight_steps(self) -> dict[str, tuple[float, ...]]:
        """Steps of weights that learn, as they are now; none if they do not."""
        return self._learned.steps() if self._learned else {}

    @property
    def signature(self) -> Signature:
        """How the author's module is called."""
        return self._prepared.captured.signature

    @property
    def running(self) -> nn.Module:
        """The module that runs: a copy of the author's, given rounded parameters at each call."""
        return self._running[0]

    def requantize(self) -> None:
        """Choose scales, thresholds and integer neurons for the parameters as they are now.

        Raises:
            QuantizeError, RangeError: see `__init__`.
        """
        self._prepared = prepared = replace(self._prepared, merged=self._merged())
        options = self._options
        if self._learned is not None:
            options = QuantizeOptions(**{**options, "weight_steps": self.weight_steps})
        self._fitted: Fitted = integers(prepared, self._image, options)
        lowered = self._fitted.lowered
        alone = {n: u for n, u in self._fitted.units.items() if n not in self._chains}
        plan = replace(prepared.plan, units={n: prepared.plan.units[n] for n in alone})
        if why := reasons(prepared.merged, plan, alone):
            path = why[0].path
            if isinstance(dict(self.module.named_modules()).get(path), nn.Embedding):
                raise QuantizeError(
                    path, "is a table of tokens, of which the module takes rows: it has no gradient"
                )
            if path in {unit.path or ROOT for unit in plan.units.values() if unit.constant}:
                raise QuantizeError(
                    path,
                    "adds constants, one for each element, as a position embedding does, and they "
                    "have no gradient here: quantize the model as it is",
                )
            raise QuantizeError(
                path,
                "its weights are computed from parameters, or used at two scales, and have no "
                "gradient here; fold them in the module first",
            )
        runs = author_runnable(prepared.merged, plan, alone, lowered.neurons)
        set_shiftmaxes(runs.module, lowered.shiftmaxes)
        running = runs.module.to(_precision(self.module)).requires_grad_(requires_grad=False)
        make_trainable(running)
        self._running_chains = {n: chain.installed(running) for n, chain in self._chains.items()}
        self._running = (learning(running),)  # no child: its parameters are not trained
        for name, chain in self._running_chains.items():
            folded = fold(prepared.merged, prepared.plan.units[name])
            dtype = _precision(self.module)
            chain.exact = _tensor(folded.weight, dtype), _tensor(folded.bias, dtype)
        with torch.enable_grad(), without_gradient(running) as found:
            self._run(self._shown)
        for chain in self._running_chains.values():
            chain.exact = None
        add_surrogates(running, found)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, or numbers of events, to logits (B, classes).

        Where scales learn, integers are those of the steps as they were a few batches ago.
        """
        if self._learned is not None and self.training:
            self._seen += 1
            if self._seen % LOOK == 0:
                self.requantize()
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        grid = quantized_images(self._source, images) * float(image_scale(self._source))
        x = torch.from_numpy(grid).to(_precision(self.module))
        tensors: dict[str, Tensor] = {}
        for name, unit in self._units.items():
            tensors.update(self._rounded(name, unit))
        tensors.update(self._merged_and_rounded())
        self._rest()
        logits = self.signature.logits(
            partial(functional_call, self.running, tensors), _laid_out(x)
        )
        self._rest()
        return logits

    def copy_into(self, module: nn.Module) -> None:
        """Give the trained parameters to a module of the author's class."""
        own = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in own:
                    parameter.copy_(own[name])

    def _rest(self) -> None:
        reset_states(self.running)
        for each in self.running.modules():
            if isinstance(each, StandIn):
                each.restart()

    def _synapse(self, name: str) -> program.Synapse:
        op = self._prepared.merged.calls[name].op
        if not isinstance(op, program.Synapse):
            raise TypeError(f"{name} is no linear map")
        return op

    def _is_constant(self, op: program.Synapse) -> bool:
        """Whether its weights are no parameters: those of a pool, which rounding leaves alone."""
        constants = self._prepared.merged.constants
        return op.weight in constants or op.bias in constants

    def _merged(self) -> Captured:
        """The program with the parameters as they are now."""
        return merge(self._prepared.captured) if self._chains else self._prepared.merged

    def _learned_steps(self, options: QuantizeOptions) -> LearnedSteps:
        sets = {self._names[name]: self._synapse(name).weight for name in self._units}
        sets |= {self._names[name]: self._names[name] for name in self._chains}
        begun = first_steps(self._prepared, self._image, options)
        return LearnedSteps(begun, sets, channels_together(options))

    def _weight(self, name: str, made: Rounded) -> Tensor:
        """The integers of a unit in real units, with the gradient of their step if that learns."""
        dtype = _precision(self.module)
        whole = _laid_out(_tensor(made.weight, dtype))
        if self._learned is None:
            return whole
        slope = _laid_out(_tensor(made.slope(), dtype))
        return self._learned.learning(self._names[name], whole, slope)

    def _integers(self, name: str, merged: Captured) -> Rounded:
        """What `quantize` makes of a unit's parameters as they are now, on the chosen scales."""
        unit = self._prepared.plan.units[name]
        return rounded(unit, fold(merged, unit), self._fitted.units[name])

    def _merged_and_rounded(self) -> dict[str, Tensor]:
        """Give chains their integers; return the real parameters of their layers by name."""
        merged, dtype = self._merged(), _precision(self.module)
        given: dict[str, Tensor] = {}
        for name, chain in self._running_chains.items():
            made = self._integers(name, merged)
            chain.weight = self._weight(name, made)
            chain.bias = _tensor(made.bias, dtype)
            for layer in chain.chain.layers:
                own = self.module.get_submodule(layer).named_parameters(recurse=False)
                given.update({f"{layer}.{leaf}": parameter for leaf, parameter in own})
        return given

    def _rounded(self, name: str, unit: Unit) -> dict[str, Tensor]:
        """The parameters of a unit by name, rounded; batch norm's are those of a shift."""
        op, made = self._synapse(name), self._integers(name, self._prepared.merged)
        dtype = _precision(self.module)
        weight, bias = self._folded(op, unit)
        # Beyond the largest integer nothing is gained by growing: there the gradient ends.
        inside = torch.from_numpy(made.inside)
        given = {op.weight: straight_through(weight, self._weight(name, made), inside)}
        if bias is None:
            return given
        shift = straight_through(bias, _tensor(made.bias, dtype))
        if unit.norm is None:
            given[str(op.bias)] = shift
            return given
        norm = self._prepared.merged.calls[unit.norm].op
        if not isinstance(norm, program.BatchNorm):
            raise TypeError(f"{unit.norm} is no batch norm")
        if norm_module(self._prepared.merged, unit).bias is None:
            given[f"{norm.module}.running_mean"] = -shift
        else:
            given[f"{norm.module}.bias"] = shift
        return given

    def _folded(self, op: program.Synapse, unit: Unit) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with the batch norm in them, with the gradient of the parameters.

        Their values decide nothing but where the gradient ends: `fold` computes in float64.
        """
        weight = self.module.get_parameter(op.weight)
        bias = None if op.bias is None else self.module.get_parameter(op.bias)
        if unit.norm is None:
            return weight, bias
        norm: Any = norm_module(self._prepared.merged, unit)
        factor = torch.rsqrt(norm.running_var + norm.eps)
        factor = factor if norm.weight is None else factor * norm.weight
        shift = -norm.running_mean * factor
        shift = shift if norm.bias is None else shift + norm.bias
        shift = shift if bias is None else shift + factor * bias
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), shift


def learning(module: nn.Module) -> nn.Module:
    """Put neurons into training mode, in place: in evaluation, some have no gradient.

    Everything else stays as it was. Spikes are the same; our own modules compute sooner so.
    """
    for each in module.modules():
        if isinstance(each, Units):
            each.training = True
        elif adapter_of(each) is not None:
            each.train()
    return module


def _chains(prepared: Prepared, names: Iterable[str]) -> dict[str, Chain]:
    """Layers in a row, by the unit that they merge to."""
    found = {n: chain_of(prepared.captured, prepared.merged, n) for n in sorted(names)}
    chains = {name: chain for name, chain in found.items() if chain is not None}
    used = Counter(layer for chain in chains.values() for layer in chain.layers)
    if twice := [layer for layer, times in used.items() if times > 1]:
        raise QuantizeError(twice[0], "is used twice, and has no gradient here")
    return chains


def _tensor(values: FloatArray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(values).to(dtype)


def _laid_out(x: Tensor) -> Tensor:
    """Channels last: convolutions are two to three times as fast."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _precision(module: nn.Module) -> torch.dtype:
    """In which a module computes; float32 holds all integers up to 2^24."""
    wide = any(p.dtype is torch.float64 for p in module.parameters())
    return torch.float64 if wide else torch.float32


def _check_precision(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype in (torch.bfloat16, torch.float16):
            raise QuantizeError(
                name, f"is {parameter.dtype}, too coarse for small steps; call .float() first"
            )
