"""Copies of an author's modules: whatever is changed or traced is one of these."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError

Module = TypeVar("Module", bound=nn.Module)


def copied(model: Module, kept: Iterable[Tensor] = ()) -> Module:
    """Copy a module with all that it holds, but for the tensors that are `kept`.

    Tensors with a gradient's history, kept by an author for a look, are copied without it.

    Raises:
        CaptureError: something that it holds cannot be copied; names module and attribute.
    """
    try:
        return copy.deepcopy(model, _detached(model) | {id(t): t for t in kept})
    except Exception as error:
        for path, module in model.named_modules():
            for name, value in vars(module).items():
                if name == "_modules":
                    continue
                try:
                    copy.deepcopy(value, _detached(model))
                except Exception as reason:
                    raise CaptureError(
                        path, f"its attribute {name!r} cannot be copied: {reason}"
                    ) from error
        raise CaptureError("", f"cannot be copied: {error}") from error


def in_float64(model: Module) -> Module:
    """A copy in float64, tensors among them that a module holds and has not registered.

    Raises:
        CaptureError: see `copied`.
    """
    made = copied(model).double()
    for module in made.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return made


def _detached(model: nn.Module) -> dict[int, Any]:
    """What `deepcopy` is to take for what it would refuse: tensors, and functions of autograd.

    Instances of `torch.autograd.Function`, kept by some authors to call `apply`, hold nothing.
    """
    held = pytree.tree_leaves([vars(module) for module in model.modules()])
    tensors = [t for t in held if isinstance(t, Tensor) and not t.is_leaf]
    functions = [f for f in held if isinstance(f, torch.autograd.Function)]
    return {id(t): t.detach().clone() for t in tensors} | {id(f): f for f in functions}
