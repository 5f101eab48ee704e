"""Real images that come in a package: scikit-learn's 1 797 handwritten digits, 8 x 8 pixels.

Source: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lapilli.model.fit import Split as Split
from lapilli.model.loading.checkpoint import build, load_checkpoint
from lapilli.model.loading.preprocess import Preprocessing
from lapilli.model.loading.strict import Module

TEST_IMAGES = 360
# Mean and deviation of pixel / 255 over the training images, rounded to one digit.
PREPROCESSING = Preprocessing(mean=(0.3,), std=(0.4,), classes=tuple("0123456789"))


def load_digits() -> tuple[Split, Split]:
    """Return the training and the test split: 1 437 and 360 images, the same for everybody.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    bunch = load()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=TEST_IMAGES, random_state=0, stratify=labels
    )
    return Split(train_x, train_y), Split(test_x, test_y)


def trained(name: str) -> Module:
    """Return a network that was trained on the training split, in evaluation mode.

    Args:
        name: "spikformer" or "spike_driven".

    Raises:
        CheckpointError: there is no such network.
    """
    checkpoints = Path(__file__).with_name("checkpoints")
    return build(load_checkpoint(checkpoints / f"digits_{name}.safetensors"))
