"""Build an author's module where there is no GPU: CuPy is taken for PyTorch.

What a SpikingJelly neuron computes does not depend on its `backend`, but its constructor fails
where CuPy is not installed, and that of 2.0.0 no longer has the argument.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.copies import copied

# How PyTorch and others say that there is no GPU.
_CUDA_ERRORS = (
    "not compiled with CUDA",
    "no NVIDIA driver",
    "CUDA driver",
    "No CUDA GPUs",
    "No module named 'cupy'",
    "CuPy is not installed",
    "libcuda",
    "libcudart",
)


@contextmanager
def without_cuda() -> Iterator[None]:
    """Take 'cupy' for 'torch' in SpikingJelly's constructors while an author's code runs.

    Raises:
        CaptureError: the author's code asks for CUDA itself.
    """
    with _patched():
        try:
            yield
        except (AssertionError, RuntimeError, ImportError, OSError) as error:
            if not any(text in str(error) for text in _CUDA_ERRORS):
                raise
            raise CaptureError(
                "",
                f"asks for CUDA, which is not here ({str(error).strip().splitlines()[0]}); take "
                ".cuda() and imports of CUDA's packages out of what builds it, or build it "
                "elsewhere and move it to the CPU",
            ) from error


def on_torch(model: nn.Module) -> tuple[nn.Module, tuple[Note, ...]]:
    """The model itself, or a copy in which neurons of backend 'cupy' run on PyTorch; and notes."""
    paths = [path for path, module in model.named_modules() if _is_on_cupy(module)]
    if not paths:
        return model, ()
    model = copied(model)
    for path in paths:
        setattr(model.get_submodule(path), "backend", "torch")  # noqa: B010 (a Module is typed)
    text = (
        f"{len(paths)} neurons with backend 'cupy' run with backend 'torch', which computes the "
        f"same: {paths[0]}{', ...' if len(paths) > 1 else ''}"
    )
    return model, (Note(NoteKind.CAPTURE, "", text),)


def _is_on_cupy(module: nn.Module) -> bool:
    return adapter_of(module) is not None and getattr(module, "backend", None) == "cupy"


@contextmanager
def _patched() -> Iterator[None]:
    """Exchange the constructors of SpikingJelly's neurons, and `set_backend`; undone after."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for name, module in list(sys.modules.items()):
            if not name.startswith("spikingjelly."):
                continue
            for owner, function in _takes_backend(module):
                original = vars(owner)[function]
                before.append((owner, function, original))
                setattr(owner, function, _on_torch(original))
        yield
    finally:
        for owner, function, original in reversed(before):
            setattr(owner, function, original)


def _takes_backend(module: Any) -> Iterator[tuple[Any, str]]:
    """The functions of a module of SpikingJelly that may be told a backend."""
    name = module.__name__
    for kind in list(vars(module).values()):
        if (
            isinstance(kind, type)
            and issubclass(kind, nn.Module)
            and kind.__module__ == name
            and ".neuron" in name
            and "__init__" in vars(kind)
        ):
            yield kind, "__init__"
    if inspect.isfunction(vars(module).get("set_backend")):
        yield module, "set_backend"


def _on_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, told 'torch' where its caller says 'cupy'."""
    signature = inspect.signature(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        if "backend" in named and not takes_any and "backend" not in signature.parameters:
            named.pop("backend")  # SpikingJelly 2.0.0 has none
        bound = signature.bind(*args, **named)
        if bound.arguments.get("backend") == "cupy":
            bound.arguments["backend"] = "torch"
        return function(*bound.args, **bound.kwargs)

    return called
