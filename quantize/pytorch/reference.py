"""The PyTorch side of the comparison: the author's own module with quantized parameters.

It runs in float64 on the CPU through the author's own `forward`. Batch norm stays in place
as an exact shift, every current is asserted to lie on its integer grid, and membranes and
spikes are those of the author's own neurons (unless a neuron is not exact in floats: then
the integer neuron takes its place here too, and the report says so).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir import ops
from lapilli.ir.answers import Answer
from lapilli.ir.errors import InputError, MismatchError
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.model.capture import program
from lapilli.model.capture.axes import to_steps
from lapilli.model.capture.program import Call, neuron_of
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.rule import NeuronRule
from lapilli.quantize.neurons import IntegerNeuron
from lapilli.quantize.pytorch.integer_neuron import StandIn, on_grid
from lapilli.quantize.pytorch.quantized_module import known_adapter
from lapilli.quantize.pytorch.recorder import recorder


@dataclass(frozen=True, slots=True)
class Shown:
    """What a module shows of an output of the graph.

    Attributes:
        node: the output; unit: what an integer of it is worth.
        answer: how the host reads it; where that looks at all steps, all are shown.
    """

    node: str
    unit: Fraction
    answer: Answer


@dataclass(frozen=True, slots=True, eq=False)
class PyTorchReference:
    """The quantized module and the scales in which to read it: one more executable.

    Attributes:
        module: float64, evaluation mode.
        image_scale: real pixel = integer * image_scale.
        neurons: node name -> call and integer neuron.
        answers: what the module shows of each output of the graph.
        image: name of the graph's input.
        signature: how the module is called; authors: how the author's own is, which is not the
            same where the captured program runs in its place.
    """

    module: nn.Module
    image_scale: Fraction
    neurons: Mapping[str, tuple[Call, IntegerNeuron]]
    answers: tuple[Shown, ...]
    image: str
    signature: Signature = field(default_factory=Signature)
    authors: Signature = field(default_factory=Signature)
    _running: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """For reports."""
        return "pytorch"

    def run(self, inputs: Mapping[str, IntArray]) -> Recording:
        """Run the graph's input (T, B, C, H, W) through the author's forward.

        Raises:
            InputError: it differs from step to step, and the module takes one image for all.
            MismatchError: see `run_images`.
        """
        steps = inputs[self.image]
        if "T" in self.signature.layout:
            return self.run_images(np.moveaxis(steps, 0, 1))
        if not np.array_equal(np.broadcast_to(steps[:1], steps.shape), steps):
            raise InputError("the module takes one image for all time steps; these differ")
        return self.run_images(steps[0])

    def run_images(self, images: IntArray) -> Recording:
        """Run quantized images (B, C, H, W), or (B, T, C, H, W), and read every neuron.

        One run at a time: the module keeps its neurons' state. Another thread waits.

        Returns:
            Spikes, membranes and currents of every neuron (T, B, *shape); the logits stand as
            the one step of the graph's output, (1, B, classes), and all steps where they count.

        Raises:
            MismatchError: a current, membrane or logit is not on its grid, or a neuron's
                trace is not what its own forward returned; names the node.
        """
        with self._running:
            if self.signature.per_sample and len(images) > 1:
                return _joined([self._recorded(image[None]) for image in images])
            return self._recorded(images)

    def _recorded(self, images: IntArray) -> Recording:
        paths = {neuron_of(call).module for call, _ in self.neurons.values()}
        with torch.no_grad(), recorder(self.module, paths) as recorded:
            x = torch.from_numpy(images.astype(np.float64)) * float(self.image_scale)
            answers = self.signature.answers(self.module, x)
        values: dict[str, IntArray] = {}
        membranes: dict[str, IntArray] = {}
        currents: dict[str, IntArray] = {}
        for name, (call, neuron) in self.neurons.items():
            fire, steps = neuron_of(call), _Steps(name, call, len(images))
            x, s = recorded.trace(fire)
            if isinstance(call.op, program.Membrane) and isinstance(neuron.op, ops.Neuron):
                unit = neuron.unit / 2**neuron.op.fraction_bits
                values[name] = steps.integers(recorded.membrane(fire), unit)
                continue
            h = recorded.membranes(fire)
            if h is None:
                traced, h = self._trace(fire, x.double())
                if not torch.equal(traced.to(s.dtype), s):
                    raise MismatchError(f"{name}: the traced spikes are not those of its forward")
            rule = fire.rule
            values[name] = steps.integers(s, rule.output_scale)
            currents[name] = steps.integers(x, neuron.scale, neuron.factors)
            if isinstance(neuron.op, ops.Integrating):
                if neuron.exact and isinstance(rule, NeuronRule):
                    h = h - float(rule.v_rest)
                unit = neuron.unit / Fraction(2) ** neuron.op.fraction_bits
                membranes[name] = steps.integers(h, unit, neuron.factors)
        self._add_answers(answers, values)
        return Recording(values, membranes, currents)

    def _add_answers(self, answers: tuple[Tensor, ...], values: dict[str, IntArray]) -> None:
        pairs = list(zip(self.answers, answers, strict=True))
        for shown, real in sorted(pairs, key=lambda p: not p[0].answer.sees_steps):
            integers = on_grid(shown.node, real.numpy(), shown.unit)
            mine = integers if shown.answer.sees_steps else integers[None]
            held = values.setdefault(shown.node, mine)  # or a membrane's, or spikes, of all steps
            if not np.array_equal(held[-len(mine) :], mine):
                raise MismatchError(f"{shown.node}: the answer is not what the neuron showed")

    def _trace(self, fire: program.Neuron, x: Tensor) -> tuple[Tensor, Tensor]:
        module = self.module.get_submodule(fire.module)
        if isinstance(module, StandIn):
            return module.trace(fire.call, x)
        adapter = known_adapter(module)
        folded = adapter.folded(module)
        with torch.no_grad():
            if not folded:
                return adapter.trace(module, x)
            spikes, membranes = adapter.trace(module, x.unflatten(0, (folded, -1)))
            return spikes.flatten(0, 1), membranes.flatten(0, 1)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Bring a neuron's arrays into (T, B, *shape) and onto their grid."""

    name: str
    call: Call
    batch: int

    def integers(
        self, values: Tensor, scale: Fraction, factors: IntTensor | None = None
    ) -> IntArray:
        array: npt.NDArray[np.floating[Any]] = values.detach().numpy()
        return on_grid(self.name, to_steps(array, self.call.dims, self.batch), scale, factors)


def _joined(recordings: list[Recording]) -> Recording:
    """Recordings of one sample each, as one of a batch."""
    values, membranes, currents = (
        {
            name: np.concatenate([getattr(r, kind)[name] for r in recordings], axis=1)
            for name in getattr(recordings[0], kind)
        }
        for kind in ("values", "membranes", "currents")
    )
    return Recording(values, membranes, currents)
