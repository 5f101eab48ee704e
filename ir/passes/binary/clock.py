"""Neurons that know which step of the sample it is: each fires at its own step, once."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.thresholds import OR, reaches
from lapilli.ir.tensor import IntTensor


class Clock:
    """Ticks of one element, made when asked for. Its source is a synapse's bias, a constant 1."""

    def __init__(self, build: Building) -> None:
        self.build = build
        self._one = ""
        self._ticks: list[str] = []

    def tick(self, t: int) -> str:
        """A node of shape (1,) that fires at step `t` of a sample and at no other."""
        if not self._ticks:
            self._one = self._constant()
            self._ticks.append(self._first())
        build, T = self.build, self.build.graph.T
        while len(self._ticks) <= t:
            # One a step, and T with the first: step s has T + s + 1. What is reached is
            # emptied, and cannot be reached again before the sample ends.
            step = len(self._ticks)
            started = build.scaled(f"clock.step{step}.started", self._ticks[0], T)
            given = build.total(f"clock.step{step}.given", [self._one, started])
            tick = replace(reaches(T + step + 1), dv=0)
            self._ticks.append(build.new(f"clock.step{step}", tick, given))
        return self._ticks[t]

    def _constant(self) -> str:
        build = self.build
        source = build.graph.inputs[0]
        size = math.prod(build.types[source].shape)
        silent = np.zeros((1, size), np.int64)
        row = build.new("clock.row", ops.Reshape(shape=(size,)), source)
        one = ops.Linear(weight=IntTensor.of(silent), bias=IntTensor.of([1]), graded=True)
        return build.new("clock.one", one, row)

    def _first(self) -> str:
        """Of the spikes of a train, every second is taken out until only the first is left."""
        build = self.build
        train = build.new("clock.always", OR, self._one)
        for i in range((build.graph.T - 1).bit_length()):
            second = build.new(f"clock.second{i}", replace(reaches(2), dv=0), train)
            out = build.scaled(f"clock.second{i}.out", second, -1)
            rest = build.total(f"clock.rest{i}", [train, out])
            train = build.new(f"clock.odd{i}", OR, rest)
        return train
