"""What passing means: every value recorded equals the reference's, twice in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray
from lapilli.simulators.digest import digests
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A graph, inputs that separate right from nearly right, and why they do.

    `by_hand` is the output computed on paper: it pins the reference itself.
    """

    name: str
    why: str
    graph: Graph
    inputs: Mapping[str, IntArray] = field(repr=False)
    by_hand: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.name


def check(simulator: Simulator, case: Case) -> int:
    """Run `case` twice and compare everything recorded in both runs with the reference.

    Returns:
        How many values were compared.

    Raises:
        MismatchError: where and when the first value differs, that nothing was compared, or what
            is no `Recording` of int64 arrays by the names of nodes.
        UnsupportedError: the simulator declines; the caller decides whether it may.
    """
    expected = Reference().compile(case.graph).run(case.inputs)
    executable = simulator.compile(case.graph)
    compared = 0
    for attempt in ("first", "second"):  # the second run must start from rest
        got = executable.run(case.inputs)
        for kind, name, want, have in _pairs(expected, got, case.graph):
            where = f"{case} ({case.why}): {simulator.name}, {attempt} run: {kind} of {name}"
            if (found := _element_type(have)) != "int64":
                raise MismatchError(f"{where} is {found}, not an array of int64")
            if want.shape != have.shape:
                raise MismatchError(f"{where} has shape {have.shape}, not {want.shape}")
            if (wrong := np.argwhere(want != have)).size:
                at = tuple(int(i) for i in wrong[0])
                raise MismatchError(
                    f"{where}{list(at[2:])} at t={at[0]} of sample {at[1]} is {have[at]}, "
                    f"expected {want[at]}; {len(wrong)} of {want.size} values differ"
                )
            compared += want.size
    if not compared:
        raise MismatchError(f"{case}: {simulator.name} recorded nothing to compare")
    return compared


def _element_type(value: object) -> str:
    """Name of an array's element type; of what is no array, of its own."""
    return str(value.dtype) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _pairs(
    expected: Recording, got: Recording, graph: Graph
) -> list[tuple[str, str, IntArray, IntArray]]:
    """What both must agree on: `Graph.recorded`, the rest if recorded."""
    if not isinstance(got, Recording):
        raise MismatchError(f"`run` gives a {type(got).__name__}, not an `ir.recording.Recording`")
    for kind, names, known in (
        ("value", got.values, expected.values),
        ("membrane", got.membranes, expected.membranes),
        ("current", got.currents, expected.currents),
        ("current digest", got.current_digests, expected.currents),
    ):
        if strange := sorted(names.keys() - known.keys()):
            raise MismatchError(f"recorded a {kind} of {strange[0]!r}, which has none")
    shown = set(graph.recorded)
    if missing := sorted(shown - got.values.keys()):
        raise MismatchError(f"nothing recorded of {missing[0]!r}")
    pairs = [("value", n, expected.values[n], v) for n, v in got.values.items()]
    pairs += [("membrane", n, expected.membranes[n], v) for n, v in got.membranes.items()]
    pairs += [("current", n, expected.currents[n], v) for n, v in got.currents.items()]
    pairs += [
        ("current digest", n, digests(expected.currents[n]), v)
        for n, v in got.current_digests.items()
    ]
    return pairs
