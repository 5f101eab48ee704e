"""Capture an author's module, untouched, as a program of few operators.

`torch.export` traces the module with each neuron replaced by one opaque operator, at a
batch size that is a prime and divides nothing else, so that no axis is taken for the batch
by accident.
"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.model.capture.built import builds, once_called
from lapilli.model.capture.device import on_cpu
from lapilli.model.capture.exported import Reader
from lapilli.model.capture.opaque import OpaqueNeuron, OpaqueShiftmax
from lapilli.model.capture.opaque_step import OpaqueStep
from lapilli.model.capture.output import Asked
from lapilli.model.capture.program import Captured
from lapilli.model.capture.repeatability import check_repeatable
from lapilli.model.capture.returned import without_dataclasses
from lapilli.model.capture.scripted import check_not_scripted
from lapilli.model.capture.signature import Signature, check_layout
from lapilli.model.neurons.adapters import adapter_of, refusal, reset_states
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.shiftmax import Shiftmax
from lapilli.model.neurons.without_cuda import on_torch

_HAS_MODES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout)
# Large, so that they rarely divide a number of tokens; traced tensors hold no memory.
_OF_TORCH = frozenset(vars(nn.Module()))
_PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109)


def capture(
    model: nn.Module,
    image_shape: tuple[int, ...],
    *,
    layout: str = "BCHW",
    asked: Asked | None = None,
    per_sample: bool = False,
    repeatable: bool = False,
    ids: bool = False,
) -> Captured:
    """Capture `model`, called with one batch of images.

    Args:
        model: in evaluation mode; of one on a GPU, a copy on the CPU is captured.
        image_shape: of one sample, (C, H, W); with time in the layout (T, C, H, W).
        layout: of what its forward takes, a letter for each axis: B for samples, T for time, any
            others: BCHW, TBCHW, TBNC, BTF.
        asked: which of several results are answers, and what is taken of their time steps;
            without it the first that looks like logits, and a mean.
        per_sample: accept neurons that integrate over T*B, and take what they do with
            batches of one for what is meant.
        ids: it takes whole numbers, which the last axis of the layout tells apart.
        repeatable: it was shown before that it remembers nothing from call to call.

    Raises:
        CaptureError: an operator or a stateful module that is not known, time or batch that
            mix with something else, a model in training mode; names the module path.
    """
    check_layout(layout)
    if len(image_shape) != len(layout) - 1:
        raise CaptureError("", f"inputs of one sample {image_shape} do not fit layout {layout}")
    if "T" in layout and image_shape[0] == 1:
        without = layout.replace("T", "")
        raise CaptureError(
            "", f"inputs of a single time step; drop that axis, use layout {without}"
        )
    check_not_scripted(model)
    signature = Signature(layout=layout, per_sample=per_sample, ids=ids)
    with torch.compiler.set_stance("force_eager"):  # a method that is compiled, as it was written
        return _captured(model, image_shape, signature, asked or Asked(), repeatable=repeatable)


def _captured(
    model: nn.Module,
    image_shape: tuple[int, ...],
    signature: Signature,
    asked: Asked,
    *,
    repeatable: bool,
) -> Captured:
    model, notes = on_torch(on_cpu(model))
    _check_mode(model)
    _check_refused(model, signature, image_shape)
    if not repeatable:
        notes += check_repeatable(model, signature, image_shape, asked)
    forms = _answer_forms(model, signature, image_shape)
    for batch in _batch_sizes(model, image_shape):
        images = signature.example(image_shape, batch, _dtype(model))
        exported, built = _export(model, images, forms)
        if built:
            model = once_called(model, signature, image_shape)
            exported, _ = _export(model, images, forms)
        reader = Reader(model, exported, batch, image_shape, signature)
        captured = reader.read(asked, notes)
        if not reader.ambiguous:
            return captured
    raise CaptureError("", f"every batch size of {_PRIMES} divides one of its dimensions")


def _dtype(model: nn.Module) -> torch.dtype:
    """Of its parameters, whatever the process's default is."""
    return next((p.dtype for p in model.parameters()), torch.float32)


def _check_mode(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if module.training and isinstance(module, _HAS_MODES):
            raise CaptureError(path, "is in training mode; call model.eval() first")


def _batch_sizes(model: nn.Module, image_shape: tuple[int, ...]) -> list[int]:
    sizes = {n for p in model.parameters() for n in p.shape} | set(image_shape)
    return [prime for prime in _PRIMES if all(n % prime for n in sizes)]


def _check_refused(model: nn.Module, signature: Signature, image_shape: tuple[int, ...]) -> None:
    """Name a neuron that the forward calls, and that lapilli has heard of but cannot run."""
    refused = {path: why for path, module in model.named_modules() if (why := refusal(module))}
    if not refused:
        return
    shown = copied(model)
    for path, why in refused.items():
        module = shown.get_submodule(path)
        module.register_forward_pre_hook(_refusing(path, f"{type(module).__name__}: {why}"))
    try:
        with torch.no_grad():
            shown(signature.example(image_shape, 2, _dtype(model)))
    except CaptureError:
        raise
    except (RuntimeError, ValueError, TypeError):
        return  # told by those who run it next


def _refusing(path: str, why: str) -> Callable[[Any, Any], None]:
    def refuse(module: Any, given: Any) -> None:
        raise CaptureError(path, why)

    return refuse


def _answer_forms(
    model: nn.Module, signature: Signature, image_shape: tuple[int, ...]
) -> Mapping[str, pytree.TreeSpec]:
    """Trees of what neurons of one step a call return, where that is more than spikes; by path."""
    forms: dict[str, pytree.TreeSpec] = {}
    if not any(a.stepwise(m) for m in model.modules() if (a := adapter_of(m)) is not None):
        return forms
    shown = copied(model)
    reset_states(shown)
    for path, module in shown.named_modules():
        if adapter_of(module) is not None:
            module.register_forward_hook(_noting(forms, path))
    with torch.no_grad():
        shown(signature.example(image_shape, 2, _dtype(model)))
    return forms


def _noting(forms: dict[str, pytree.TreeSpec], path: str) -> Callable[[Any, Any, Any], None]:
    def note(module: Any, given: Any, answer: Any) -> None:
        if isinstance(answer, tuple):
            forms[path] = pytree.tree_structure(answer)

    return note


def _export(
    model: nn.Module, images: Tensor, forms: Mapping[str, pytree.TreeSpec]
) -> tuple[torch.export.ExportedProgram, bool]:
    """The exported module, and whether its forward put a tensor where none was."""
    traced = copied(model)
    restoring = _Restoring(traced)
    traced.register_forward_hook(restoring)
    traced.register_forward_hook(lambda _, given, answer: without_dataclasses(answer))
    for path, module in list(traced.named_modules()):
        parent, _, leaf = path.rpartition(".")
        if (adapter := adapter_of(module)) is not None:
            if not path:
                raise CaptureError(path, "is a neuron, not a network")
            opaque: nn.Module = OpaqueNeuron(path)
            if adapter.stepwise(module):
                opaque = OpaqueStep(
                    path,
                    module,
                    form=forms.get(path),
                    membrane=adapter.membrane,
                    keeps=adapter.keeps_state,
                )
            setattr(traced.get_submodule(parent), leaf, opaque)
        elif type(module) is Shiftmax and path:
            setattr(traced.get_submodule(parent), leaf, OpaqueShiftmax(path))
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        _uncollected(),
        _running(traced) as running,
    ):
        warnings.simplefilter("ignore", FutureWarning)  # of torch about torch
        try:
            program = torch.export.export(traced, (images,), strict=False)
            program = program.run_decompositions({}) if _assigns(program) else program
        except CaptureError:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            path = running[-1] if running else ""
            kind = type(traced.get_submodule(path)).__name__
            if "data-dependent" in first:
                first = (
                    "it, or what ran before it, makes a size or a branch of the values of a tensor "
                    "(.item(), .tolist(), `if tensor`, a mask as an index), and a graph has the "
                    "same steps for all images; if that is inside a neuron, describe it: "
                    "quantize(neurons=...) (--neuron)"
                )
            elif "fake" in first.lower():
                first = (
                    "it computes with a tensor that is neither parameter nor buffer of it, as a "
                    "neuron that lapilli does not know does; describe it: quantize(neurons=...) "
                    "(--neuron), or register the tensor"
                )
            raise CaptureError(path, f"torch.export cannot trace {kind}: {first}") from error
    return program, restoring.built


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let Python look for no garbage: tracing makes many objects, which it would all look at."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """Paths of the modules whose forward runs, the innermost last; those of an error stay."""
    paths = {id(module): path for path, module in model.named_modules()}
    running: list[str] = []

    def before(module: nn.Module, args: Any) -> None:
        if id(module) in paths:
            running.append(paths[id(module)])

    def after(module: nn.Module, args: Any, answer: Any) -> None:
        if id(module) in paths:
            running.pop()

    hooks = (register_module_forward_pre_hook(before), register_module_forward_hook(after))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()


class _Restoring:
    """A hook that gives the modules of a model their attributes back after a call.

    `torch.export` refuses a module that keeps a tensor for a look. Nothing reads it from call to
    call, or `check_repeatable` would have seen it; a matrix that the first call builds is read, and
    `once_called` makes it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.built = False
        self.before = [(module, self._contents(module)) for module in model.modules()]

    def __call__(self, called: Any, given: Any, answer: Any) -> None:
        for module, attributes in self.before:
            now = vars(module)
            self.built |= builds(attributes, {n: now[n] for n in now.keys() - _OF_TORCH})
            for name in now.keys() - attributes.keys() - _OF_TORCH:
                delattr(module, name)
            now.update(attributes)

    @staticmethod
    def _contents(module: nn.Module) -> dict[str, Any]:
        own = {k: v for k, v in vars(module).items() if k not in _OF_TORCH}
        return {k: copy.copy(v) if isinstance(v, dict | list) else v for k, v in own.items()}


def _assigns(program: torch.export.ExportedProgram) -> bool:
    """Whether something is changed in place; torch then rewrites it without."""
    targets = (n.target for n in program.graph.nodes if n.op == "call_function")
    return any(
        t._schema.is_mutable  # noqa: SLF001
        for t in targets
        if isinstance(t, torch._ops.OpOverload) and t is not torch.ops.aten.detach_.default  # noqa: SLF001
    )
