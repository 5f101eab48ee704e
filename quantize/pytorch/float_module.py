"""The author's own module in float, with every spike recorded: what integers are measured by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.ir.tensor import IntArray
from lapilli.model.capture import program
from lapilli.model.capture.axes import to_steps
from lapilli.model.capture.program import Call, neuron_of
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import reset_states
from lapilli.quantize.pytorch.recorder import recorder
from lapilli.quantize.pytorch.reference import PyTorchReference


@dataclass(frozen=True, slots=True, eq=False)
class FloatRun:
    """What one run in float showed.

    Attributes:
        spikes: of each node that fires, (T, B, *shape of the node), as the graph counts them.
        logits: (B, classes).
    """

    spikes: Mapping[str, IntArray]
    logits: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FloatModule:
    """A trained module, and which of its neurons are which nodes.

    Attributes:
        module: in evaluation mode, with its trained parameters.
        firing: node name -> call of the neuron that it is.
        signature: how the module is called.
        prepare: makes the tensor that it sees of bytes (B, C, H, W), or (B, T, C, H, W).
    """

    module: nn.Module
    firing: Mapping[str, Call]
    signature: Signature
    prepare: Callable[[npt.NDArray[np.uint8]], Tensor]

    @classmethod
    def beside(
        cls,
        reference: PyTorchReference,
        module: nn.Module,
        prepare: Callable[[npt.NDArray[np.uint8]], Tensor],
    ) -> FloatModule:
        """Take the module that a reference was made from."""
        firing = {
            node: call
            for node, (call, _) in reference.neurons.items()
            if not isinstance(call.op, program.Membrane)
        }
        return cls(module.eval(), firing, reference.authors, prepare)

    def run(self, pixels: npt.NDArray[np.uint8]) -> FloatRun:
        """Run images from rest, on one thread: sums of floats depend on how many there are."""
        dtype = next((p.dtype for p in self.module.parameters()), torch.float32)
        images = self.prepare(pixels).to(dtype)
        # One call of a neuron belongs to one sample, where samples are shown one after the other.
        parts = images.split(1 if self.signature.per_sample else len(images))
        with torch.no_grad(), _one_thread():
            done = [self._recorded(part) for part in parts]
        spikes = {
            node: np.concatenate([run.spikes[node] for run in done], axis=1) for node in self.firing
        }
        return FloatRun(spikes, np.concatenate([run.logits for run in done]))

    def _recorded(self, images: Tensor) -> FloatRun:
        reset_states(self.module)
        fires = {node: neuron_of(call) for node, call in self.firing.items()}
        paths = {fire.module for fire in fires.values()}
        with recorder(self.module, paths, membranes=False) as recorded:
            logits = self.signature.logits(self.module, images).double().numpy()
        reset_states(self.module)
        spikes: dict[str, IntArray] = {}
        for node, fire in fires.items():
            spiking = recorded.trace(fire)[1]
            sent = spiking.to(torch.promote_types(spiking.dtype, torch.float32)).numpy()
            if fire.rule.output_scale != 1:
                sent = sent / sent.dtype.type(fire.rule.output_scale)
            steps = to_steps(sent, self.firing[node].dims, len(images))
            spikes[node] = np.rint(steps).astype(np.int64)
        return FloatRun(spikes, logits)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
