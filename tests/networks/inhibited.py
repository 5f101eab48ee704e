"""A `.net` file whose neurons are inhibited to the end of their register, and then excited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from lapilli.export.net.writer import save_net
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray

T, INPUTS = 76, 72
LOWEST = 1 - (1 << 23)


def inhibited(chain: Callable[..., Network], path: Path, *, i_decay: int = 4096) -> IntArray:
    """Two dense layers, half of whose inputs excite; returns the weights of the first."""
    save_net(chain(encoder=True, T=T), path)
    rng = np.random.default_rng(2)
    with h5py.File(path, "r+") as file:
        for index in "0123":
            del file[f"layer/{index}"]
        for index in "45":
            file["layer"].move(index, str(int(index) - 4))
            file[f"layer/{int(index) - 4}/bias"][...] = 0
        weight: IntArray = rng.integers(100, 128, file["layer/0/weight"].shape)
        weight[:, INPUTS // 2 :] *= -1
        file["layer/0/weight"][...] = weight
        file["layer/0/neuron/vDecay"][...] = 8
        file["layer/0/neuron/iDecay"][...] = i_decay
    return weight


def spikes() -> IntArray:
    """Inhibition for 40 steps, then excitation: (T, 72)."""
    x = np.zeros((T, INPUTS), np.int64)
    x[:40, INPUTS // 2 :] = 1
    x[40:, : INPUTS // 2] = 1
    return x
