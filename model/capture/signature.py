"""How a module is called: where time and batch are in its images, which result counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lapilli.model.capture.axes import Dims, Factor, anonymous

# The axes of time and batch in each; an image without time is shown at every step.
LAYOUTS: Mapping[str, tuple[str, ...]] = {"BCHW": ("B",), "BTCHW": ("B", "T"), "TBCHW": ("T", "B")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One call of a module.

    Attributes:
        layout: of its images, one of `LAYOUTS`.
        leaf: which tensor of what it returns holds the logits, in the order of a tree walk.
        per_step: the logits are (T, B, classes), and the answer is their mean over T.
        per_sample: neurons mix the batch into time; the module is called with one sample
            at a time, where it means what was captured.
    """

    layout: str = "BCHW"
    leaf: int = 0
    per_step: bool = False
    per_sample: bool = False

    def images(self, sample: tuple[int, ...], batch: int) -> tuple[int, ...]:
        """Shape of a batch of images; `sample` is (C, H, W), or (T, C, H, W) with time."""
        return (sample[0], batch, *sample[1:]) if self.layout[0] == "T" else (batch, *sample)

    def dims(self, sample: tuple[int, ...], batch: int) -> Dims:
        """The same with time and batch named."""
        named, shape = LAYOUTS[self.layout], self.images(sample, batch)
        first = tuple(
            () if name == "T" and size == 1 else (Factor(name, size),)
            for name, size in zip(named, shape, strict=False)
        )
        return (*first, *anonymous(*shape[len(named) :]))

    def logits(self, module: Callable[[Tensor], Any], images: Tensor) -> Tensor:
        """Call a module with images (B, ...), T second if they have time; return (B, classes)."""
        parts = images.split(1) if self.per_sample else (images,)
        with torch.compiler.set_stance("force_eager"):  # a method that is compiled, as written
            return torch.cat([self._answer(module(self._arranged(part))) for part in parts])

    def _arranged(self, images: Tensor) -> Tensor:
        return images.transpose(0, 1) if self.layout[0] == "T" else images

    def _answer(self, returned: Any) -> Tensor:
        answer: Tensor = pytree.tree_leaves(returned)[self.leaf]
        if self.per_sample and answer.ndim == 1:  # it summed over T*B, of which B is 1
            return answer[None]
        return answer.mean(0) if self.per_step else answer
