"""Where a model's numbers are: capture reads them, and traces, on the CPU."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.neurons.copies import copied


def on_cpu(model: nn.Module) -> nn.Module:
    """The model itself if everything of it is on the CPU, else a copy that is.

    Membranes that a neuron keeps as a plain attribute are no buffers, and would stay behind;
    tensors among a module's attributes go along.

    Raises:
        CaptureError: a parameter that has no values (on `meta`); names it.
    """
    held = list(itertools.chain(model.named_parameters(), model.named_buffers()))
    for name, tensor in held:
        if tensor.is_meta:
            raise CaptureError(name, "is on the meta device and has no values; load them first")
    own = [v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor)]
    if all(t.device.type == "cpu" for t in (*(t for _, t in held), *own)):
        return model
    model = copied(model).to("cpu")
    with torch.no_grad():
        for module in model.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor):
                    setattr(module, name, value.to("cpu"))
    return model
