"""Capture an author's module, untouched, as a program of few operators.

`torch.export` traces the module with each neuron replaced by one opaque operator, at a
batch size that is a prime and divides nothing else, so that no axis is taken for the batch
by accident.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model import axes
from lapilli.model.adapters import adapter_of
from lapilli.model.axes import Factor, MixError
from lapilli.model.opaque import OpaqueNeuron
from lapilli.model.operators import Translation, translate
from lapilli.model.program import Call, Captured, Image

_HAS_MODES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout)
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


def capture(model: nn.Module, image_shape: tuple[int, ...]) -> Captured:
    """Capture `model`, called with one batch of images (B, *image_shape).

    Raises:
        CaptureError: an operator or a stateful module that is not known, time or batch that
            mix with something else, a model in training mode; names the module path.
    """
    _check_mode(model)
    _check_state(model, image_shape)
    batch = _batch_size(model, image_shape)
    program = _export(model, torch.zeros(batch, *image_shape, dtype=_dtype(model)))
    return _Reader(model, program, batch).read()


def _dtype(model: nn.Module) -> torch.dtype:
    """Of its parameters, whatever the process's default is."""
    return next((p.dtype for p in model.parameters()), torch.float32)


def _check_mode(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if module.training and isinstance(module, _HAS_MODES):
            raise CaptureError(path, "is in training mode; call model.eval() first")


def _batch_size(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    sizes = {n for p in model.parameters() for n in p.shape} | set(image_shape)
    for prime in _PRIMES:
        if all(n % prime for n in sizes):
            return prime
    raise CaptureError("", f"every batch size of {_PRIMES} divides one of its dimensions")


def _check_state(model: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Run once and see whose attributes or buffers moved: such a module has a memory."""
    probe = copy.deepcopy(model)
    before = {path: _memory(module) for path, module in probe.named_modules()}
    with torch.no_grad():
        try:
            probe(torch.ones(2, *image_shape, dtype=_dtype(model)))
        except Exception as error:
            raise CaptureError("", f"its forward fails on images {image_shape}: {error}") from error
    for path, module in probe.named_modules():
        if adapter_of(module) is None and _memory(module) != before[path]:
            raise CaptureError(
                path,
                f"{type(module).__name__} keeps state from call to call and is no neuron that "
                "lapilli knows; replace it by one of model.adapters.ADAPTERS",
            )


def _memory(module: nn.Module) -> dict[str, object]:
    own = {k: v for k, v in vars(module).items() if k not in ("_parameters", "_modules")}
    buffers = own.pop("_buffers", {})
    values = {**own, **buffers}
    return {
        k: v.detach().numpy().tobytes() if isinstance(v, Tensor) else v
        for k, v in values.items()
        if isinstance(v, Tensor | int | float | None | list | tuple)
    }


def _export(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    traced = copy.deepcopy(model)
    for path, module in list(traced.named_modules()):
        if adapter_of(module) is not None:
            if not path:
                raise CaptureError(path, "is a neuron, not a network")
            parent, _, leaf = path.rpartition(".")
            setattr(traced.get_submodule(parent), leaf, OpaqueNeuron(path))
    try:
        with torch.no_grad():
            return torch.export.export(traced, (images,), strict=False)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CaptureError("", f"torch.export cannot trace it: {first}") from error


class _Reader:
    """Walks the exported graph once, naming axes as it goes."""

    def __init__(self, model: nn.Module, program: torch.export.ExportedProgram, batch: int) -> None:
        self.model = model
        self.program = program
        self.batch = batch
        self.calls: dict[str, Call] = {}
        signature = program.graph_signature
        self.parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.fired: Counter[str] = Counter()

    def read(self) -> Captured:
        """Translate node after node.

        Raises:
            CaptureError: see `capture`.
        """
        output = ""
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name not in self.parameters:
                rest = axes.anonymous(*node.meta["val"].shape[1:])
                dims = ((Factor("B", self.batch),), *rest)
                self.calls[node.name] = Call(node.name, Image(), (), "", dims)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                output = self._output(node)
        T = next(f.size for c in self.calls.values() for d in c.dims for f in d if f.name == "T")
        return Captured(self.model, self.calls, output, T)

    def _call(self, node: Any) -> None:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        try:
            made = translate(Translation(node, path, self.calls, self.parameters, self))
        except MixError as error:
            raise CaptureError(
                path, f"{node.target} mixes time or batch with something else: {error}"
            ) from error
        if made is not None:
            self.calls[node.name] = made

    def _output(self, node: Any) -> str:
        (values,) = node.args
        if len(values) != 1 or values[0].name not in self.calls:
            raise CaptureError("", f"returns {len(values)} values; wrap it to return the logits")
        result: str = values[0].name
        dims = self.calls[result].dims
        if len(dims) != 2 or dims[0] != (Factor("B", self.batch),) or axes.has(dims[1:], "T"):
            raise CaptureError("", f"returns {axes.show(dims)}; expected [B, classes]")
        if not any(axes.has(c.dims, "T") for c in self.calls.values()):
            raise CaptureError("", "has no time axis: no neuron saw [T, ...] with T > 1")
        return result
