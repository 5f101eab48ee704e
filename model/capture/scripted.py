"""TorchScript is refused by name: it holds compiled code, and no hook sees what its neurons do."""

from __future__ import annotations

import torch
from torch import nn

from lapilli.ir.errors import CaptureError


def check_not_scripted(model: nn.Module) -> None:
    """Check that a model and all of its modules are the author's Python.

    Raises:
        CaptureError: one is what `torch.jit.script` or `torch.jit.trace` made; names it.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(
                path,
                "is TorchScript, made by torch.jit.script or torch.jit.trace, which holds compiled "
                "code in place of the forward; give the class itself, with the same parameters",
            )
