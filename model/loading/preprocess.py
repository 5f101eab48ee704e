"""How images became the tensors that a model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import reset_states

Shown: TypeAlias = Tensor  # images as a model takes them


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """(pixel / 255 - mean) / std, one of each per channel, and the names of the answers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Bytes (count, C, H, W) to the float32 tensors that the model sees."""
        mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return (torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255 - mean) / std

    def right(
        self,
        model: nn.Module,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        signature: Signature | None = None,
    ) -> int:
        """How many images `model` answers right, in evaluation mode.

        Args:
            model: its neurons are at rest before each batch, and afterwards.
            pixels: (count, C, H, W), or (count, T, C, H, W).
            labels: (count,).
            signature: where time is in its images, which result holds the logits, and of which
                steps the mean is taken; by default it takes images and returns logits.
        """
        return right(model, pixels, labels, signature or Signature(), self.normalise)


def answered(
    model: nn.Module,
    pixels: npt.NDArray[Any],
    signature: Signature,
    prepare: Callable[[npt.NDArray[Any]], Tensor],
) -> npt.NDArray[np.int64]:
    """The class that a model names for each image, or for each of its places.

    Args:
        model: its neurons are at rest before each batch, and afterwards.
        pixels: as files hold them.
        signature: how it is called, and which result is the answer.
        prepare: makes of them what it sees.
    """
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    with torch.no_grad():
        answers = []
        for start in range(0, len(pixels), 90):
            reset_states(model)
            batch = prepare(pixels[start : start + 90]).to(dtype)
            answers.append(signature.logits(model, batch).argmax(1))
    reset_states(model)
    return np.asarray(torch.cat(answers).numpy(), np.int64)


def right(
    model: nn.Module,
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    signature: Signature,
    prepare: Callable[[npt.NDArray[np.uint8]], Tensor],
) -> int:
    """How many images `model` answers right, whatever `prepare` makes of their bytes."""
    return int((answered(model, pixels, signature, prepare) == labels).sum())
