"""Neurons of the same registers, together; where each element of a node is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lapilli.ir.tensor import IntArray
from lapilli.simulators.lava.stock.network import Population, Positions, Registers


def gathered(
    registers: Mapping[str, Registers],
    vth: Mapping[str, IntArray],
    biases: Mapping[str, tuple[IntArray, IntArray]],
) -> tuple[tuple[Population, ...], dict[str, Positions]]:
    """Populations with one threshold each, and the places of every node in them.

    Args:
        registers: of each node.
        vth: of the elements of each node, row-major.
        biases: mantissas and exponents, likewise.
    """
    members: dict[tuple[Registers, int], list[tuple[str, IntArray]]] = {}
    places = {}
    for name, own in registers.items():
        places[name] = Positions(np.zeros_like(vth[name]), np.zeros_like(vth[name]))
        for one in np.unique(vth[name]).tolist():
            elements = np.flatnonzero(vth[name] == one)
            members.setdefault((own, one), []).append((name, elements))
    populations: list[Population] = []
    for (own, one), parts in members.items():
        size = 0
        for name, elements in parts:
            places[name].population[elements] = len(populations)
            places[name].position[elements] = np.arange(size, size + len(elements))
            size += len(elements)
        mantissa, exponent = (
            np.concatenate([biases[name][k][elements] for name, elements in parts]) for k in (0, 1)
        )
        populations.append(Population(own, one, mantissa, exponent))
    return tuple(populations), places


def input_place(number: int, size: int) -> Positions:
    """Of an input, by its place among the inputs."""
    return Positions(np.full(size, -1 - number), np.arange(size))
