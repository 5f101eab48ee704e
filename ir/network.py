"""A graph with what it takes to use it: how images become integers, and integers answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lapilli.ir.canonical import canonical
from lapilli.ir.certificate import check_promised
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.recipe import Recipe
from lapilli.ir.tensor import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class InputQuantizer:
    """Pixels to integers: q = round((pixel / 255 - mean) / std * 2**exponent), half to even.

    Attributes:
        mean, std: one for each channel, of pixel / 255.
        lo, hi: q is clipped to this range. Zero padding of a normalised image is q = 0.
    """

    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    exponent: int
    lo: int
    hi: int

    def encode(self, pixels: npt.NDArray[np.uint8]) -> IntArray:
        """Bytes (..., C, H, W) to int64 of the same shape, through one exact table a channel.

        Raises:
            InputError: not bytes, or another number of channels.
        """
        if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[-3] != len(self.mean):
            raise InputError(
                f"expected uint8 pixels (..., {len(self.mean)}, H, W), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        out = np.empty(pixels.shape, np.int64)
        for c in range(len(self.mean)):
            out[..., c, :, :] = self._table(c)[pixels[..., c, :, :]]
        return out

    def _table(self, channel: int) -> IntArray:
        scale = Fraction(2) ** self.exponent / self.std[channel]
        exact = (round((Fraction(p, 255) - self.mean[channel]) * scale) for p in range(256))
        return np.array([min(max(q, self.lo), self.hi) for q in exact], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is deployed: the content of a `.lapilli` file.

    Attributes:
        graph: one input, shown at each of its T steps; the first output holds the logits.
        input: how an image becomes that input.
        logit_scale: a real logit is the integer at the last step times this.
        classes: names of the answers, in the order of the logits.
        recipe: how it was made; None of a network that was imported, or that an older file holds.

    A network that exists fits the target that its recipe names: construction proves it anew.

    Raises:
        RangeError: it does not; names the node, the bits needed and the bits there.
    """

    graph: Graph
    input: InputQuantizer
    logit_scale: Fraction
    classes: tuple[str, ...]
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        if self.recipe is not None:
            check_promised(self.graph, self.recipe.target, self.recipe.certificate)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides an answer: graph, preprocessing, logit scale and classes."""
        head, scale = f"{self.graph.digest} {canonical(self.input)}", str(self.logit_scale)
        return hashlib.sha256("\n".join([head, scale, repr(self.classes)]).encode()).hexdigest()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> dict[str, IntArray]:
        """Images to the graph's input (T, B, C, H, W).

        (B, C, H, W) are shown at every step: direct coding; (B, T, C, H, W) have their own.

        Raises:
            InputError: the images do not fit, or the graph has not one input.
        """
        if len(self.graph.inputs) != 1:
            raise InputError(f"an image is for graphs of one input, not {self.graph.inputs}")
        (name,) = self.graph.inputs
        q = self.input.encode(pixels)
        if q.ndim == 5:
            if q.shape[1] != self.graph.T:
                raise InputError(f"images of {q.shape[1]} steps; the graph takes {self.graph.T}")
            return {name: np.moveaxis(q, 1, 0)}
        return {name: np.broadcast_to(q, (self.graph.T, *q.shape))}

    def classify(self, logits: IntArray) -> list[str]:
        """Names of the largest of integer logits (B, classes).

        Raises:
            InputError: there are not as many names as logits.
        """
        if logits.shape[-1:] != (len(self.classes),):
            raise InputError(f"{len(self.classes)} class names for logits {logits.shape}")
        return [self.classes[int(i)] for i in logits.argmax(axis=-1)]
