"""What is done to a model before any integer is chosen, whoever chooses it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from torch import nn

from lapilli.model.capture import program
from lapilli.model.capture.capture import capture
from lapilli.model.capture.output import Asked
from lapilli.model.capture.probe import probe_all
from lapilli.model.capture.program import Captured
from lapilli.model.neurons.adapters import describe
from lapilli.quantize.merging.merge import merge
from lapilli.quantize.options import QuantizeOptions, layout_of
from lapilli.quantize.plan import Plan, plan


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A model as a program, before integers.

    Attributes:
        captured: the author's module; merged: with consecutive linear maps fused.
        plan: of `merged`: what shares a scale.
    """

    captured: Captured
    merged: Captured
    plan: Plan

    def without_weights(self) -> Prepared:
        """Forget the weights and biases of merged maps, for which there are integers now.

        Who runs the program needs none of them, and in float64 those of a large model take
        gigabytes.
        """
        made = [call.op for call in self.merged.calls.values()]
        names = {n for op in made if isinstance(op, program.Synapse) for n in (op.weight, op.bias)}
        kept = {n: array for n, array in self.merged.constants.items() if n not in names}
        return replace(self, merged=replace(self.merged, constants=kept))


def prepare(
    model: nn.Module, sample: tuple[int, ...], scale: Fraction, options: QuantizeOptions
) -> Prepared:
    """Capture, probe every neuron, fuse linear maps, and find what shares a scale.

    Args:
        model: in evaluation mode; it is captured untouched and never changed.
        sample: shape of one sample, (C, H, W) or (T, C, H, W).
        scale: real value of one unit of the image.
        options: `neurons`, `layout`, `result`, `over_time` and `per_sample` are read.

    Raises:
        CaptureError: the module cannot be captured, or a neuron is not what its rule says.
        QuantizeError: a layer has no integer form.
    """
    neurons = options.get("neurons")
    captured = capture(
        describe(model, neurons) if neurons else model,
        sample,
        layout=layout_of(options),
        asked=Asked(output=options.get("result"), over_time=options.get("over_time", "mean")),
        per_sample=options.get("per_sample", False),
        ids=bool(options.get("ids")),
    )
    probe_all(captured)
    merged = merge(captured)
    return Prepared(captured, merged, plan(merged, scale))
