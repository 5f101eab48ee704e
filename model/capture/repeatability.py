"""Decide whether a model has a hidden state: by what it does, not by what it stores.

Two batches of images are shown from rest in two orders. What the model answers, what its neurons
are given and answer, and what its large linear maps are given must be the same bits for the same
images, whatever was shown before; otherwise something is remembered from call to call, which a
captured program would lose. Random numbers are seeded before each call; what then differs with the
seed alone is random.

The calls happen in forked processes, so that the author's objects, globals and closures among
them, stay as they were.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture.attributes import bits, changed_attributes, fingerprints
from lapilli.model.capture.forked import apart
from lapilli.model.capture.output import Asked, choose_leaves
from lapilli.model.capture.recalled import Results, recalling
from lapilli.model.capture.returned import without_dataclasses
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import adapter_of, reset_states

_BATCH = 2
_FIRST = 1 << 10  # numbers of a tensor


@dataclass(frozen=True, slots=True)
class _Showing:
    """One call of the model: which images, and the seed of whatever is drawn in it."""

    images: int
    seed: int = 0


# Images 0 are shown first, second and third; images 1 first and second.
_ORDERS = (
    (_Showing(0), _Showing(1), _Showing(0)),
    (_Showing(1), _Showing(0, seed=1)),
)


@dataclass(frozen=True, slots=True)
class _Event:
    """One call of one module.

    Attributes:
        path: of the module; "" for the model.
        caller: of the recorded module whose forward calls it.
        given: digest of its arguments.
        answer: digest of what it returns.
        attributes: fingerprints of what it holds when it is called.
    """

    path: str
    caller: str
    given: bytes
    answer: bytes
    attributes: Mapping[str, bytes] = field(default_factory=dict, compare=False)


# The events of one showing, in the order in which modules end: the innermost first.
_Record: TypeAlias = tuple[_Event, ...]


def check_repeatable(
    model: nn.Module,
    signature: Signature,
    image_shape: tuple[int, ...],
    asked: Asked,
) -> tuple[Note, ...]:
    """Show the same images again, after others and in another order, and compare all bits.

    Costs five forward passes of two images, in two processes of one thread, one after the other;
    large linear maps of the same images are computed once (`recalled`).

    Args:
        model: on the CPU, in evaluation mode; it is left as it was.
        signature: how it is called.
        image_shape: of one sample.
        asked: which of several results are answers, see `capture`.

    Returns:
        Notes for the user.

    Raises:
        CaptureError: the forward fails; or it keeps a state, or is random: names the module,
            and the attributes that changed.
    """
    observer = _Observer(model, signature, image_shape, asked)
    neurons = {path for path, m in model.named_modules() if adapter_of(m) is not None}
    records, notes = observer.watch(_ORDERS, neurons)
    first: dict[int, _Record] = {}
    for order, shown in zip(_ORDERS, records, strict=True):
        for showing, record in zip(order, shown, strict=True):
            if record != first.setdefault(showing.images, record):
                raise _difference(observer)
    return tuple(Note(NoteKind.CAPTURE, "", text) for text in notes)


def _difference(observer: _Observer) -> CaptureError:
    """Look into every module, and say which one differs when images are shown again."""
    every = {path for path, _ in observer.model.named_modules()}
    plain, seeded = (_Showing(0),), (_Showing(0, seed=1),)
    alone, _ = observer.watch((plain, plain, seeded), every)
    if found := _first_difference(alone[0][0], alone[1][0]):
        return CaptureError(
            found.path,
            f"{observer.kind(found.path)} answers the same images differently, as if by a clock; "
            "a network must answer by its images alone",
        )
    if found := _first_difference(alone[0][0], alone[2][0]):
        return CaptureError(
            found.path,
            f"{observer.kind(found.path)} is random: the same images give something else with "
            "another seed; remove what draws random numbers",
        )
    (first, second), _ = observer.watch(_ORDERS, every)
    for before, after in (
        (first[0], first[2]),
        (first[0], second[1]),
        (second[0], first[1]),
    ):
        if found := _first_difference(before, after):
            start = next((e for e in before if e.path == found.path), found)
            where = ", ".join(changed_attributes(start.attributes, found.attributes))
            return CaptureError(
                found.path,
                f"{observer.kind(found.path)} keeps state from call to call and is no neuron that "
                f"lapilli knows; what changes: {where or 'nothing that it holds itself'}. Replace "
                "it by one of model.neurons.adapters.ADAPTERS, or describe it: "
                "quantize(neurons=...) (--neuron)",
            )
    return CaptureError("", "does not answer the same images alike each time")


def _first_difference(before: _Record, after: _Record) -> _Event | None:
    """Find the innermost module that makes something else of the same arguments."""
    for index, (a, b) in enumerate(zip(before, after, strict=False)):
        if (a.path, a.given) != (b.path, b.given):  # its caller made them differ
            return next((e for e in after[index:] if e.path == b.caller), b)
        if a.answer != b.answer:
            return b
    return None


class _Observer:
    """Calls a model and keeps digests of what its modules do."""

    def __init__(
        self,
        model: nn.Module,
        signature: Signature,
        image_shape: tuple[int, ...],
        asked: Asked,
    ) -> None:
        self.model = model
        self.signature = signature
        self.image_shape = image_shape
        self.asked = asked
        random_numbers = torch.Generator().manual_seed(0)
        shape = (2, *signature.images(image_shape, _BATCH))
        self.images = torch.randn(shape, generator=random_numbers, dtype=torch.float64)
        if signature.ids:
            self.images = self.images.argmax(-1)

    def kind(self, path: str) -> str:
        """Name of the class of the module at `path`."""
        return type(self.model.get_submodule(path)).__name__

    def watch(
        self, orders: Sequence[Sequence[_Showing]], paths: Collection[str]
    ) -> tuple[list[tuple[_Record, ...]], tuple[str, ...]]:
        """Run each order in a process of its own; return its records, and notes for the user.

        Args:
            orders: what is shown one after the other, from the model as it is.
            paths: the modules whose calls are recorded; with all of them, what they hold, too.

        Raises:
            CaptureError: the forward fails.
        """
        results = Results()
        shown: list[tuple[_Record, ...]] = []
        notes: dict[str, None] = {}
        for order in orders:
            index: dict[Any, Any]
            ((*records, index),), found = apart(
                self.model, [partial(self._show, order, paths, results)]
            )
            results.index.update(index)
            shown.append(tuple(records))
            notes |= dict.fromkeys(found)
        return shown, tuple(notes)

    def _show(
        self,
        order: Sequence[_Showing],
        paths: Collection[str],
        results: Results,
        model: nn.Module,
    ) -> Iterator[Any]:
        """Yield the record of each showing, and at last where results are kept."""
        names = {id(m): path for path, m in model.named_modules() if path in paths}
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        for showing in order:
            reset_states(model)
            _seed(showing.seed)
            held = "" in paths
            with (
                torch.no_grad(),
                recalling(results) as maps,
                _recording(names, held=held) as events,
            ):
                try:
                    images = self.images[showing.images]
                    answer = model(images if self.signature.ids else images.to(dtype))
                except Exception as error:
                    raise CaptureError(
                        "", f"its forward fails on images {self.image_shape}: {error}"
                    ) from error
            flat, tree = pytree.tree_flatten(without_dataclasses(answer))
            shapes = [tuple(v.shape) if isinstance(v, Tensor) else None for v in flat]
            leaves = choose_leaves(shapes, tree, _BATCH, self.asked)
            answers = [flat[leaf] for leaf in leaves]
            given = hashlib.blake2b(b"".join(maps), digest_size=16).digest()
            yield (*events, _Event("", "", given, _digest(answers)))
        yield results.index


@contextmanager
def _recording(names: Mapping[int, str], *, held: bool) -> Iterator[list[_Event]]:
    """Record every call of the modules with these ids, and what they hold if `held`."""
    events: list[_Event] = []
    running: list[tuple[str, bytes, Mapping[str, bytes]]] = []

    def before(module: nn.Module, args: Any) -> None:
        if id(module) in names:
            attributes = fingerprints(module) if held else {}
            running.append((names[id(module)], _digest(args, zeros_alike=True), attributes))

    def after(module: nn.Module, args: Any, answer: Any) -> None:
        if id(module) not in names:
            return
        path = names[id(module)]
        while (ended := running.pop())[0] != path:
            pass  # one that was left by an exception
        caller = running[-1][0] if running else ""
        events.append(_Event(path, caller, ended[1], _digest(answer), ended[2]))

    hooks = (register_module_forward_pre_hook(before), register_module_forward_hook(after))
    try:
        yield events
    finally:
        for hook in hooks:
            hook.remove()


def _seed(seed: int) -> None:
    """Seed every generator that a forward is likely to draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global generator is the one an author's code uses)


def _digest(values: Any, *, zeros_alike: bool = False) -> bytes:
    """Hash all tensors and numbers among nested values: shapes, types and bits.

    `zeros_alike` takes all tensors of zeros for the same: a membrane at rest, which snnTorch
    makes without elements in a first call.
    """
    digest = hashlib.blake2b(digest_size=16)
    for value in pytree.tree_leaves(values):
        if isinstance(value, Tensor) and not (zeros_alike and _is_silent(value)):
            for part in bits(value):
                digest.update(part)
        elif isinstance(value, int | float):
            digest.update(repr(value).encode())
    return digest.digest()


def _is_silent(values: Tensor) -> bool:
    """Whether all are 0; mostly the first few tell."""
    first = values.flatten()[:_FIRST] if values.is_contiguous() else values
    return not first.any() and not values.any()
