"""TorchScript, and what torch.export made, are refused by name: their neurons are no modules."""

from __future__ import annotations

import torch
from torch import fx, nn

from lapilli.ir.errors import CaptureError


def check_not_scripted(model: nn.Module) -> None:
    """Check that a model and all of its modules are the author's Python.

    Raises:
        CaptureError: one is what `torch.jit.script`, `torch.jit.trace` or `torch.export` made;
            names it.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(
                path,
                "is TorchScript, made by torch.jit.script or torch.jit.trace, which holds compiled "
                "code in place of the forward; give the class itself, with the same parameters",
            )
        if isinstance(module, fx.GraphModule) and _of_aten(module):
            raise CaptureError(
                path,
                "is what torch.export or make_fx made, which holds ATen operators in place of the "
                "modules, neurons among them; give the class itself, with the same parameters",
            )


def _of_aten(module: fx.GraphModule) -> bool:
    """Whether operators stand where the author called functions and modules."""
    return any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)  # noqa: SLF001
