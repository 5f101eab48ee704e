"""SynSense's Xylo: one core of hidden neurons and one of outputs, by the tool that maps onto it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lapilli.ir.targets.target import Figure, Grade

_MAPPER = "rockpool 3.1.0, devices/xylo/{}/xylo_mapper.py: mapper"
_OVERVIEW = "rockpool 42cee1c9, docs/devices/xylo-overview.ipynb"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronChip:
    """A chip with a number of neurons and any weights between them.

    Attributes:
        name: on the command line.
        figures: the largest that is taken, by what it is of.
    """

    name: str
    figures: Mapping[str, Figure]

    def most(self, what: str) -> int:
        """Return the largest that is taken of what a figure is of."""
        high = self.figures[what].high
        if high is None:
            raise TypeError(f"nobody says how many {what} {self.name} takes")
        return high


def _chip(name: str, version: str, hidden: int, outputs: int, fan_out: int) -> NeuronChip:
    def told(value: int) -> Figure:
        return Figure.known(value, _OVERVIEW, Grade.MODEL_CODE)

    mapper = _MAPPER.format(version)
    return NeuronChip(
        name=name,
        figures={
            "inputs": Figure.known(16, f"{mapper}, le_16_input_channels", Grade.MODEL_CODE),
            "hidden neurons": Figure.known(hidden, mapper, Grade.MODEL_CODE),
            "outputs": Figure.known(outputs, f"{mapper}; {_OVERVIEW}", Grade.MODEL_CODE),
            "targets of a neuron": told(fan_out),
            "events in a step": told(31),
            "bits of a weight": told(8),
            "bits of a state": told(16),
        },
    )


XYLOS = (
    _chip("xylo-audio2", "syns61201", 1000, 8, 64),
    _chip("xylo-audio3", "syns65302", 992, 32, 1024),
    _chip("xylo-imu", "syns63300", 496, 16, 512),
)
