"""A graph with what it takes to use it: how images become integers, and integers answers."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir.answers import Answer, read_answers
from lapilli.ir.canonical import canonical
from lapilli.ir.certificate import check_promised
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.parts import Given, InputPart, packed
from lapilli.ir.recipe import Recipe
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray


class Task(enum.Enum):
    """What an answer is about, by its shape, and so how right answers are counted."""

    CLASSES = "classes"  # (K,): one class a sample
    MAP = "map"  # (K, H, W): one class for each place
    VALUES = "values"  # anything else: nothing is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class InputQuantizer:
    """Inputs to integers.

    A pixel becomes q = round((pixel / 255 - mean) / std * 2**exponent), half to even; a number of
    an input that is no image becomes q = round(number * 2**exponent).

    Attributes:
        mean, std: one for each channel, of pixel / 255; none of an input that is no image.
        lo, hi: q is clipped to this range. Zero padding of a normalised image is q = 0.
    """

    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    exponent: int
    lo: int
    hi: int

    @property
    def takes_pixels(self) -> bool:
        """Whether inputs are bytes of images, and not numbers as they are."""
        return bool(self.mean)

    def encode(self, pixels: npt.NDArray[Any]) -> IntArray:
        """Bytes (..., C, H, W), or numbers of any shape, to int64 of the same shape.

        Bytes go through one exact table a channel; numbers are multiplied by a power of two, which
        rounds nothing.

        Raises:
            InputError: not bytes, or another number of channels; or no numbers that are finite.
        """
        if not self.takes_pixels:
            return self._numbers(pixels)
        if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[-3] != len(self.mean):
            raise InputError(
                f"expected uint8 pixels (..., {len(self.mean)}, H, W), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        out = np.empty(pixels.shape, np.int64)
        for c in range(len(self.mean)):
            out[..., c, :, :] = self._table(c)[pixels[..., c, :, :]]
        return out

    def _numbers(self, given: npt.NDArray[Any]) -> IntArray:
        if given.dtype.kind not in "biuf":
            raise InputError(f"expected real numbers, got {given.dtype}")
        scaled = np.ldexp(given.astype(np.float64), self.exponent)
        if np.isnan(scaled).any():
            raise InputError("expected real numbers, got NaN among them")
        return np.rint(scaled).clip(self.lo, self.hi).astype(np.int64)

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
        classes: names of the answers, in the order of the logits; empty of what has none.
        answers: one for each output of the graph, where it is not the logits at the last step of
            the only one; the first has `logit_scale`.
        encoding: what becomes of an image before that, where it is not the same at every step.
        parts: the inputs by name that lie side by side in the graph's, where there are several.
        ids: how many tokens there are, where inputs are their numbers; the graph's last axis has
            one spike for each.
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
    answers: tuple[Answer, ...] = ()
    encoding: Encoding | None = None
    parts: tuple[InputPart, ...] = ()
    ids: int = 0

    def __post_init__(self) -> None:
        if self.answers:
            self._check_answers()
        if self.encoding is not None:
            self._check_encoding(self.encoding)
        if self.parts:
            self._check_parts()
        if self.ids and self.graph.types[self.graph.inputs[0]].shape[-1:] != (self.ids,):
            raise InputError(f"{self.ids} tokens do not fit the graph's input")
        if self.recipe is not None:
            check_promised(self.graph, self.recipe.target, self.recipe.certificate)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides an answer: graph, preprocessing, logit scale and classes."""
        head, scale = f"{self.graph.digest} {canonical(self.input)}", str(self.logit_scale)
        parts = [head, scale, repr(self.classes), *map(canonical, self.answers)]
        parts += [canonical(self.encoding)] if self.encoding is not None else []
        parts += map(canonical, self.parts)
        parts += [f"ids={self.ids}"] if self.ids else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _repr_html_(self) -> str:
        """Show a notebook what it is, and its graph when that is opened."""
        from lapilli.pictures.tables import folded, table

        graph, recipe = self.graph, self.recipe
        facts = {
            "digest": self.digest[:12],
            "input": " x ".join(map(str, graph.types[graph.inputs[0]].shape)),
            "T": graph.T,
            "answers": ", ".join(answer.name for answer in self.every_answer),
            "classes": ", ".join(self.classes) or "not named",
            "layers that fire": len(graph.firing),
            "made for": (recipe.target if recipe else "") or "none promised",
        }
        caption = "network"
        return table((), list(facts.items()), caption=caption) + folded(
            f"{len(graph.nodes):,} nodes", graph._repr_html_()
        )

    @property
    def every_answer(self) -> tuple[Answer, ...]:
        """How each output of the graph is read, in their order."""
        return self.answers or (Answer(scale=self.logit_scale),)

    @property
    def task(self) -> Task:
        """What the first answer says: a class, a class for each place, or only its numbers."""
        if self.every_answer[0].steps:
            return Task.VALUES
        return {1: Task.CLASSES, 3: Task.MAP}.get(len(self.answer_shape), Task.VALUES)

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Of the first answer, of one sample; of one step of it where it has steps."""
        return self.every_answer[0].shape(self.graph.types[self.graph.outputs[0]].shape)

    @property
    def class_count(self) -> int:
        """How many classes the first answer tells apart; 0 if it tells none apart."""
        return 0 if self.task is Task.VALUES else self.answer_shape[0]

    def read(self, recording: Recording) -> dict[str, IntArray]:
        """Integers of every answer by name, (B, ...), or (T, B, ...) where it has steps."""
        return read_answers(self.graph, self.every_answer, recording)

    def labels(self, recording: Recording) -> IntArray | None:
        """The largest logit of each sample (B,), of each place (B, H, W); None without classes."""
        if self.task is Task.VALUES:
            return None
        first = self.every_answer[0].read(recording.values[self.graph.outputs[0]])
        return np.asarray(first.argmax(axis=1), np.int64)

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of one image, or of what else it takes, before it is encoded; without time."""
        if self.encoding is not None:
            return self.encoding.image
        shape = self.graph.types[self.graph.inputs[0]].shape
        return shape[:-1] if self.ids else shape

    def spread_out(self, given: npt.NDArray[Any]) -> IntArray:
        """Token ids (B, ...) to spikes (B, ..., ids): one for each token, 1 where it is that.

        Raises:
            InputError: no whole numbers, or one that is no token.
        """
        if given.dtype.kind not in "iu":
            raise InputError(f"token ids are whole numbers, got {given.dtype}")
        if given.size and not (int(given.min()) >= 0 and int(given.max()) < self.ids):
            raise InputError(
                f"token ids of {given.min()} to {given.max()} are not below {self.ids}"
            )
        return np.asarray(given[..., None] == np.arange(self.ids), np.int64)

    def _encoded(self, encoding: Encoding, pixels: npt.NDArray[Any]) -> IntArray:
        encoding.check(pixels)
        if encoding.moves:
            return encoding.moved(self.input.encode(pixels))
        return self.input.encode(encoding.values(pixels))

    def _check_encoding(self, encoding: Encoding) -> None:
        shape = self.graph.types[self.graph.inputs[0]].shape
        if (encoding.steps, encoding.shape) != (self.graph.T, shape):
            raise InputError(
                f"encoding {encoding.kind} gives {encoding.steps} steps of {encoding.shape}, and "
                f"the graph takes {self.graph.T} of {shape}"
            )

    def _check_parts(self) -> None:
        names, size = {part.name for part in self.parts}, sum(part.size for part in self.parts)
        shape = self.graph.types[self.graph.inputs[0]].shape
        if shape != (size,) or len(names) != len(self.parts) or self.encoding is not None:
            raise InputError(
                f"inputs {sorted(names)} of {size} numbers do not fit the graph's {shape}"
            )

    def _check_answers(self) -> None:
        names = [a.name for a in self.answers]
        count = len(self.graph.outputs)
        if len(names) != count or len(set(names)) != count:
            raise InputError(f"answers {names} for {count} outputs; one name for each")
        for answer, node in zip(self.answers, self.graph.outputs, strict=True):
            answer.check(self.graph.types[node].shape, self.graph.T)
        if self.answers[0].scale != self.logit_scale:
            raise InputError(f"answer {names[0]!r} has another scale than the logits")

    def encode(self, given: Given) -> dict[str, IntArray]:
        """Images to the graph's input (T, B, C, H, W), or what else it takes to (T, B, ...).

        (B, C, H, W) are shown at every step: direct coding; (B, T, C, H, W) have their own. Several
        inputs are given by their names, or as an array with such fields.

        Raises:
            InputError: the images do not fit, or the graph has not one input.
        """
        if len(self.graph.inputs) != 1:
            raise InputError(f"an image is for graphs of one input, not {self.graph.inputs}")
        (name,) = self.graph.inputs
        shape = self.graph.types[name].shape
        pixels: npt.NDArray[Any] = packed(self.parts, given) if self.parts else np.asarray(given)
        if self.ids:
            pixels = self.spread_out(pixels)
        if self.encoding is not None:
            return {name: np.moveaxis(self._encoded(self.encoding, pixels), 1, 0)}
        timed = pixels.ndim == len(shape) + 2
        if not self.input.takes_pixels and pixels.shape[1 + timed :] != shape:
            raise InputError(f"expected inputs of shape {shape} each, got {pixels.shape[1:]}")
        q = self.input.encode(pixels)
        if timed:
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
