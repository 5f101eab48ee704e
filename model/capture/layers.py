"""What PyTorch's layers compute, taken in hand: by a mode that is active inside of them alone.

What is between layers are many small operators, for which a mode costs more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_ONE_POSITION = {torch.conv1d: 1, torch.conv2d: 2}  # and over how many axes it runs
_IDLE = (1, 0, 1, 1)  # stride, padding, dilation, groups
_WORTH = 1 << 24  # products; for fewer, either takes no time


@contextmanager
def inside_layers(mode: TorchFunctionMode) -> Iterator[None]:
    """Let a mode be active while a layer of PyTorch's runs, whose module it is all the same."""
    running: list[ExitStack] = []

    def before(module: nn.Module, args: Any) -> None:
        if isinstance(module, _LAYERS):
            running.append(ExitStack())
            running[-1].enter_context(mode)

    def after(module: nn.Module, args: Any, answer: Any) -> None:
        if isinstance(module, _LAYERS):
            running.pop().close()

    hooks = (
        register_module_forward_pre_hook(before),
        register_module_forward_hook(after, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def are_plain(args: Sequence[Any]) -> bool:
    """Whether no tensor among them is of a class of its own, which may do more than compute."""
    return all(type(a) in (Tensor, nn.Parameter) for a in args if isinstance(a, Tensor))


def computed(func: Any, args: Sequence[Any]) -> Tensor:
    """What a linear map gives, without gradients; its sums in an order of oneDNN's where it pays.

    On several threads, PyTorch gives convolutions of one position to oneDNN. On one, it takes
    MKL's product of matrices, which uses half of what an AMD processor can do.
    """
    space = _ONE_POSITION.get(func, 0)
    if not (space and _is_for_onednn(space, *args[:3], others=args[3:])):
        result: Tensor = func(*args)
        return result
    x, weight, bias = args[:3] if len(args) > 2 else (*args, None)
    if space == 1:
        x, weight = x[:, :, None], weight[:, :, None]
    y: Tensor = torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)
    return y.squeeze(2) if space == 1 else y


def coarsely(func: Any, args: Sequence[Any]) -> Tensor | None:
    """What a large linear map of float32 gives in bfloat16; None where that is not faster."""
    x, weight = args[:2]
    numbers = x.dtype is weight.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (numbers and x.numel() * len(weight) >= _WORTH and _has_bfloat16()):
        return None
    y: Tensor = func(*(a.bfloat16() if isinstance(a, Tensor) else a for a in args))
    return y


@cache
def _has_bfloat16() -> bool:
    """Whether this processor multiplies and adds numbers of bfloat16."""
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return asked is not None and bool(asked()) and torch.backends.mkldnn.is_available()


def _is_for_onednn(
    space: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, others: Sequence[Any]
) -> bool:
    given = [set(o) if isinstance(o, tuple | list) else {o} for o in others]
    return (
        hasattr(torch, "mkldnn_convolution")
        and torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()  # noqa: SLF001 (to checkers, the public one is no bool)
        and x.dtype is weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == weight.device.type == "cpu"
        and x.ndim == weight.ndim == space + 2
        and weight[0, 0].numel() == 1
        and given == [{idle} for idle in _IDLE[: len(given)]]
        and x.is_contiguous()
        and x.numel() * len(weight) >= _WORTH
    )


class Directly(TorchFunctionMode):
    """Computes linear maps as `computed` does."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        if func not in _ONE_POSITION or kwargs or torch.is_grad_enabled() or not are_plain(args):
            return func(*args, **(kwargs or {}))
        return computed(func, args)
