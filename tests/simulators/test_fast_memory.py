"""Large recordings of the fast simulator: a third of the memory, the same values."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, check
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.fast import Fast, running
from lapilli.simulators.fast.remade import Remade, narrowed
from lapilli.simulators.fast.widened import Widened
from lapilli.simulators.reference import Reference

pytest.importorskip("numba", reason="needs lapilli[fast]")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LARGE", -1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_suite(case: Case) -> None:
    assert check(Fast(), case)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(100, 115))
def test_random_graphs(seed: int) -> None:
    assert check(Fast(threads=1 + seed % 2), random_case(seed))


def _graph() -> Graph:
    image = TensorType((3, 32, 32), IntRange(-100, 100), Kind.GRADED)
    rng = np.random.default_rng(0)
    weight = IntTensor.of(rng.integers(-9, 10, (16, 3, 3, 3)))
    conv = ops.Conv2d(
        weight=weight, bias=IntTensor.of(np.zeros(16, np.int64)), padding=(1, 1), graded=True
    )
    lif = ops.Neuron(threshold=IntTensor.of([64 * 900]), dv=2048)
    nodes = (Node("x", ops.Input(type=image)), Node("y", conv, ("x",)), Node("s", lif, ("y",)))
    return Graph(nodes, ("s",), 4)


def _run(graph: Graph) -> tuple[Recording, int]:
    """What was recorded, and the bytes that are still held."""
    x = {"x": np.random.default_rng(1).integers(-100, 101, (4, 6, 3, 32, 32))}
    executable = Fast().compile(graph)
    executable.run(x)  # compiles what it needs
    executable.work.memory.forget()
    tracemalloc.start()
    try:
        got = executable.run(x)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    want = Reference().compile(graph).run(x)
    for ours, theirs in ((got.values, want.values), (got.currents, want.currents),
                         (got.membranes, want.membranes)):  # fmt: skip
        for name in ours:
            assert ours[name].dtype == np.int64
            assert np.array_equal(ours[name], theirs[name])
    assert got.values["s"].any()
    return got, held


def _membranes(recording: Recording) -> object:
    assert isinstance(recording.membranes, Widened)
    return recording.membranes.narrow["s"]


def test_it_takes_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, before = _run(_graph())
    monkeypatch.setattr(running, "LARGE", -1)
    kept, after = _run(_graph())
    assert isinstance(_membranes(whole), np.ndarray)
    assert isinstance(_membranes(kept), Remade)
    assert after < before * 0.4


@pytest.mark.usefixtures("small")
def test_membranes_that_come_out_otherwise_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Remade.sample

    def wrong(self: Remade, index: int) -> npt.NDArray[np.int32]:
        made: npt.NDArray[np.int32] = right(self, index).copy()
        made.flat[-1] += index == 5  # one of the last sample
        return made

    monkeypatch.setattr(Remade, "sample", wrong)
    kept, _ = _run(_graph())
    assert isinstance(_membranes(kept), np.ndarray)


@pytest.mark.parametrize(
    ("values", "kept"),
    [([-32768, 32767], np.int16), ([0, 32768], np.int32), ([-32769, 0], np.int32), ([], np.int32)],
)
def test_currents_become_narrow_where_all_fit(values: list[int], kept: type) -> None:
    given = np.array(values, np.int32)
    assert narrowed(given).dtype == kept
    assert np.array_equal(narrowed(given), given)
    assert not np.shares_memory(narrowed(given), given)
