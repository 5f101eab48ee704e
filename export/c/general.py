"""A general neuron in C: each constant a number, or a table of steps, levels and elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lapilli.export.c.constants import Constant
from lapilli.export.c.integers import I32, I64, Integer, holding, literal, shifted, two_parts
from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, TensorType

_AT_REST = IntRange(0, 0)


def constants_of(op: ops.GeneralNeuron) -> dict[str, IntTensor]:
    """Its constants by role, each with an axis of steps in front."""
    return {
        "taps": op.taps, "threshold": op.threshold, "dv": op.dv, "du": op.du, "bias": op.bias,
        "reset_by": op.reset_by,
    }  # fmt: skip


def general_states(op: ops.GeneralNeuron, given: TensorType, T: int) -> dict[str, Integer]:
    """Type of what it keeps from step to step: u, v, and earlier inputs, the latest first."""
    bounds = neuron_bounds("", op, given, T)
    kept = {
        "u": None if _forgets(op.du) else bounds.u,
        "v": None if _forgets(op.dv) else bounds.after,
        **{f"x{k}": given.range for k in range(1, op.taps.shape[1])},
    }
    return {name: holding(values | _AT_REST) for name, values in kept.items() if values}


def _forgets(decay: IntTensor) -> bool:
    return bool(np.all(decay.array == ops.DECAY_ONE))


@dataclass(frozen=True, slots=True)
class GeneralAnswer:
    """How one element of a current becomes events; see `answers.Answer`."""

    op: ops.GeneralNeuron
    given: TensorType
    type: Integer
    T: int
    states: Mapping[str, Integer]
    constants: Mapping[str, Constant]

    @property
    def leading(self) -> dict[str, int]:
        """Axes in front of those of elements, by role: steps, of some the level or the tap."""
        return {role: 2 if role in ("taps", "threshold") else 1 for role in constants_of(self.op)}

    @property
    def timed(self) -> bool:
        """Whether a constant differs between steps."""
        return any(len(tensor.array) > 1 for tensor in constants_of(self.op).values())

    def lines(self, x: str, at: Mapping[str, str], state: Mapping[str, str], y: str) -> list[str]:
        """Say it for one element; t counts steps from `now` on."""
        wide, op = self._wide(), self.op

        def number(role: str, inner: str = "0") -> str:
            return self._number(role, inner, at)

        said = [f"const {wide.name} x = {x};"]
        seen = ["x", *(state[f"x{k}"] for k in range(1, op.taps.shape[1]))]
        terms = [f"({wide.name}){number('taps', str(k))} * {each}" for k, each in enumerate(seen)]
        said.append(f"const {wide.name} driven = {' + '.join(terms)};")
        u = shifted("driven", -op.shift)
        if "u" in state:
            u = f"({wide.name}){two_parts(state['u'], self._kept('du', at))} + {u}"
        said.append(f"const {wide.name} u = {u};")
        v = "u"
        if "v" in state:
            v = f"({wide.name}){two_parts(state['v'], self._kept('dv', at))} + u"
        bias = number("bias")
        said.append(f"{wide.name} v = {v}{'' if bias == '0' else f' + {bias}'};")
        low = literal(op.floor)
        said += ["int32_t s = 0;"] + ([f"v = v > {low} ? v : {low};"] if op.floored else [])
        levels = op.threshold.shape[1]
        said += [
            f"for (int32_t k = 0; k < {levels}; k++) {{",
            f"    s += v >= {number('threshold', 'k')};",
            "}",
        ] if levels > 1 else [f"s += v >= {number('threshold')};"]  # fmt: skip
        said.append(f"{y} = ({self.type.name})s;")
        if "v" in state:
            said += [*self._after_reset(wide, number("reset_by")),
                     f"{state['v']} = ({self.states['v'].name})v;"]  # fmt: skip
        if "u" in state:
            said.append(f"{state['u']} = ({self.states['u'].name})u;")
        for k in range(op.taps.shape[1] - 1, 0, -1):
            said.append(f"{state[f'x{k}']} = ({self.states[f'x{k}'].name}){seen[k - 1]};")
        return said

    def _number(self, role: str, inner: str, at: Mapping[str, str]) -> str:
        """What a constant is at this step, for this element, at a level or of a tap."""
        array, leading = constants_of(self.op)[role].array, self.leading[role]
        if role not in self.constants:
            return literal(int(array.ravel()[0]))
        elements = math.prod(array.shape[leading:])
        each = elements * (array.shape[1] if leading == 2 else 1)
        terms = [f"(now + t) * {each}"] if len(array) > 1 else []
        terms += [f"{inner} * {elements}"] if inner != "0" else []
        terms += [at[role]] if at[role] != "0" else []
        return f"{self.constants[role].name}[{' + '.join(terms) or '0'}]"

    def _kept(self, role: str, at: Mapping[str, str]) -> str:
        """4096ths that a decay leaves."""
        d = self._number(role, "0", at)
        if role in self.constants:
            return f"({ops.DECAY_ONE} - {d})"
        return str(ops.DECAY_ONE - constants_of(self.op)[role].range.lo)

    def _after_reset(self, wide: Integer, by: str) -> list[str]:
        match self.op.reset:
            case ops.Reset.TO_ZERO:
                return ["v = s != 0 ? 0 : v;"]
            case ops.Reset.BY_SUBTRACTION:
                return [f"v -= ({wide.name})s * {by};"]
            case ops.Reset.NONE:
                return []
            case _:
                assert_never(self.op.reset)

    def _wide(self) -> Integer:
        """32 bits where every number on the way has as many, else 64."""
        op, bounds = self.op, neuron_bounds("", self.op, self.given, self.T)
        taps = np.abs(op.taps.array).max(axis=0).reshape(op.taps.shape[1], -1).max(axis=1)
        most = self.given.range.magnitude * (1 + sum(map(int, taps)))
        most += bounds.u.magnitude + bounds.v.magnitude + bounds.after.magnitude
        most += op.bias.range.magnitude + op.threshold.range.magnitude
        most += op.reset_by.range.magnitude * op.threshold.shape[1]
        return I32 if most in I32.values else I64
