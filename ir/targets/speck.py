"""SynSense's Speck: nine cores that differ, a layer each; by the tool that configures it.

Events come one by one, and there are no time steps: what fits there need not answer as integers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lapilli.ir.targets.target import Figure, Grade

_SINABS = "sinabs 3.1.3, backend/dynapcnn/chips/dynapcnn.py: get_constraints"
_OVERVIEW = "sinabs 13ad316, docs/speck/overview.md"
KI = 1024


@dataclass(frozen=True, slots=True)
class LayerCore:
    """Words of one core, for kernels, neurons and biases."""

    kernels: int
    neurons: int
    biases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChip:
    """A chip each of whose cores holds one layer: convolution, neurons, pool of sums.

    Attributes:
        name: on the command line.
        cores: they differ; memory: who says so.
        figures: other limits by what they are of, the largest that is taken.
        strides, paddings, pools: that a core can do.
    """

    name: str
    cores: tuple[LayerCore, ...]
    memory: Figure
    figures: Mapping[str, Figure]
    strides: tuple[int, ...]
    paddings: range
    pools: tuple[int, ...]

    def most(self, what: str) -> int:
        """Return the largest that is taken of what a figure is of."""
        high = self.figures[what].high
        if high is None:
            raise TypeError(f"nobody says how many {what} {self.name} takes")
        return high


def _overview(value: int) -> Figure:
    return Figure.known(value, _OVERVIEW, Grade.MODEL_CODE)


_KERNELS = (16, 16, 16, 32, 32, 64, 64, 16, 16)
_NEURONS = (64, 64, 64, 32, 32, 16, 16, 16, 16)
SPECK = LayerChip(
    name="speck",
    cores=tuple(
        LayerCore(kernels * KI, neurons * KI, KI)
        for kernels, neurons in zip(_KERNELS, _NEURONS, strict=True)
    ),
    memory=Figure.known(len(_KERNELS), _SINABS, Grade.MODEL_CODE),
    figures={
        "lines of an input": _overview(128),
        "lines of an output": _overview(64),
        "channels": _overview(1024),
        "lines of a kernel": _overview(16),
        "layers that hear one": _overview(2),
        "bits of a weight": _overview(8),
        "bits of a state": _overview(16),
    },
    strides=(1, 2, 4, 8),
    paddings=range(8),
    pools=(1, 2, 4),
)
