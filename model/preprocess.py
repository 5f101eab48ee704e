"""How images became the tensors that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


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
        self, model: nn.Module, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
    ) -> int:
        """How many images `model` answers right, in evaluation mode."""
        model.eval()
        with torch.no_grad():
            batches = torch.split(self.normalise(pixels), 90)
            answers = torch.cat([model(batch).argmax(1) for batch in batches])
        return int((answers.numpy() == labels).sum())
