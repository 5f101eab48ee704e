"""How a module is called: where time and batch are in its inputs, which result counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lapilli.ir.errors import CaptureError
from lapilli.ir.recipe import OVER_TIME, Result
from lapilli.model.capture.axes import Dims, Factor, anonymous
from lapilli.model.capture.host_map import HostMap
from lapilli.model.capture.returned import undoing, without_dataclasses

_IMAGE = "CHW"  # the axes of what has channels, each with a mean and a deviation of its own


def check_layout(layout: object) -> None:
    """Refuse what names no axes, or not one of samples.

    Raises:
        CaptureError: says what is wrong.
    """
    letters = layout if isinstance(layout, str) else ""
    known = letters.isascii() and letters.isalpha() and letters.isupper()
    if not known or len(set(letters)) != len(letters) or "B" not in letters or len(letters) < 2:
        raise CaptureError(
            "",
            f"layout {layout!r} is no order of axes: a capital letter each, every one once; B for "
            "samples, T for time if the input has it, any others, as in BCHW, TBNC or BTF",
        )


def own_axes(layout: str) -> str:
    """The axes of one step of one sample, in their order.

    >>> own_axes("TBNC"), own_axes("BF")
    ('NC', 'F')
    """
    return layout.replace("B", "").replace("T", "")


def holds_images(layout: str) -> bool:
    """Whether inputs of this layout are images: channels, rows and columns."""
    return own_axes(layout) == _IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One call of a module.

    Attributes:
        layout: of its input, an axis each letter; one without T is shown at every step.
        results: which tensors of what it returns are answers; the first holds the logits.
        per_sample: neurons mix the batch into time; the module is called with one sample
            at a time, where it means what was captured.
        ids: it takes whole numbers, which the last axis of the layout tells apart.
        maps: of what returns each step, the linear map of them that is the answer, where there is
            one; for each result, or none at all.
    """

    layout: str = "BCHW"
    results: tuple[Result, ...] = (Result(),)
    per_sample: bool = False
    ids: bool = False
    maps: tuple[HostMap | None, ...] = field(default=(), compare=False)

    @property
    def leaf(self) -> int:
        """Which tensor of what it returns holds the logits, in the order of a tree walk."""
        return self.results[0].leaf

    @property
    def per_step(self) -> bool:
        """Whether it returns logits of each step, and their mean over T is the answer."""
        return self.results[0].time is not None and self.results[0].over_time == OVER_TIME[0]

    @property
    def canonical(self) -> str:
        """The layout in which inputs are given: samples first, then time, then all others."""
        return f"B{'T' if 'T' in self.layout else ''}{own_axes(self.layout)}"

    def images(self, sample: tuple[int, ...], batch: int) -> tuple[int, ...]:
        """Shape of a batch of inputs; `sample` is that of one, (C, H, W), with T in front of it."""
        given = (batch, *sample)
        return tuple(given[axis] for axis in self._order())

    def example(self, sample: tuple[int, ...], batch: int, dtype: torch.dtype) -> Tensor:
        """A batch of zeros, as the module takes it."""
        shape = self.images(sample, batch)
        return torch.zeros(shape[:-1]).long() if self.ids else torch.zeros(shape, dtype=dtype)

    def dims(self, sample: tuple[int, ...], batch: int) -> Dims:
        """The same with time and batch named."""
        dims: list[tuple[Factor, ...]] = []
        for name, size in zip(self.layout, self.images(sample, batch), strict=True):
            named = name == "B" or (name == "T" and size > 1)
            dims += [(Factor(name, size),)] if named else anonymous(size)
        return tuple(dims)

    def logits(self, module: Callable[[Tensor], Any], images: Tensor) -> Tensor:
        """Call a module with inputs (B, ...), T second if they have time; return its first answer.

        Returns:
            (B, classes), or (B, ...) of what is no logits; (B, T, ...) of one with all its steps.
        """
        first = self.results[0]
        answer = self.answers(module, images)[0]
        if self.maps and self.maps[0] is not None:
            return self.maps[0].of(answer)
        if not first.keeps_steps or first.is_hosts:
            return answer
        if count := first.last_steps:
            return answer[-count:].mean(0)
        return answer.transpose(0, 1)

    def call(self, module: Callable[[Tensor], Any], images: Tensor) -> Any:
        """Call a module with inputs (B, ...), T second if they have time; whatever it returns."""
        with torch.compiler.set_stance("force_eager"):  # a method that is compiled, as written
            return module(self._arranged(images))

    def answers(self, module: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, ...]:
        """The same, every answer: (B, ...), or (T, B, ...) of those whose steps are looked at."""
        if not self.per_sample:
            return self._answers(module, images)
        parts = [self._answers(module, one) for one in images.split(1)]
        return tuple(
            torch.cat(some, 1 if result.keeps_steps and not result.is_hosts else 0)
            for result, some in zip(self.results, zip(*parts, strict=True), strict=True)
        )

    def _answers(self, module: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, ...]:
        with undoing(any(result.dropped for result in self.results)) as undo:
            leaves = pytree.tree_leaves(without_dataclasses(self.call(module, images)))
        return tuple(_answer(result, undo(leaves[result.leaf])) for result in self.results)

    def _order(self) -> list[int]:
        return [self.canonical.index(axis) for axis in self.layout]

    def _arranged(self, images: Tensor) -> Tensor:
        given = images if self.layout == self.canonical else images.permute(self._order())
        return given.argmax(-1) if self.ids else given


def _answer(result: Result, returned: Tensor) -> Tensor:
    if result.batch is None:  # it summed over T*B, of which B is 1
        return returned[None]
    if result.time is None:
        return returned.movedim(result.batch, 0)
    steps = returned.movedim((result.time, result.batch), (0, 1))
    match result.over_time:
        case "mean":
            return steps.mean(0)
        case "sum":
            return steps.sum(0)
        case "last":
            return steps[-1]
        case _:
            return steps
