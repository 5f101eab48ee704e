"""The fast simulator is the reference: on every op, on every path, on any batch and thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.errors import InputError, RangeError, SimulatorUnavailableError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, check
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.fast import Fast, matrices
from lapilli.simulators.fast.choice import VNNI, Path
from lapilli.simulators.reference import Reference

pytest.importorskip("numba", reason="needs lapilli[fast]")
PLAIN = frozenset[str]()
SIMULATORS = {
    "free": Fast(),
    "events": Fast(path="events"),
    "dense": Fast(path="dense"),
    "floats": Fast(path="dense", features=PLAIN),
    "threads": Fast(threads=3),
}


# `free` stands in tests/conformance.
@pytest.mark.parametrize("simulator", list(SIMULATORS.values())[1:], ids=list(SIMULATORS)[1:])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_suite(case: Case, simulator: Fast) -> None:
    assert check(simulator, case)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    simulators = list(SIMULATORS.values())
    assert check(simulators[seed % len(simulators)], random_case(seed))


def test_currents_of_32_bits_are_multiplied_as_bytes() -> None:
    rng = np.random.default_rng(0)
    weight = IntTensor(rng.integers(-9, 10, (4, 4)))
    threshold = IntTensor.of([64])
    linear = ops.Linear(weight=weight, bias=IntTensor.of([0] * 4))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(16, 4))),
        Node("first", linear, ("x",)),
        Node("gate", ops.Neuron(threshold=threshold), ("first",)),
        Node("current", linear, ("x",)),
        Node("turned", ops.Permute(axes=(1, 0)), ("current",)),
        Node("y", ops.SpikeMatmul(), ("gate", "turned")),
    )
    graph = Graph(nodes, ("y",), 2)
    given = {"x": rng.integers(0, 2, (2, 3, 16, 4))}
    want = Reference().compile(graph).run(given).values["y"]
    assert len(np.unique(want)) > 5
    for simulator in SIMULATORS.values():
        assert np.array_equal(simulator.compile(graph).run(given).values["y"], want)


def _layer(
    weights: IntArray, x: TensorType, *, bias: int = 0, threshold: int | None = None
) -> Graph:
    """A linear map; with neurons behind it, if they have a threshold."""
    linear = ops.Linear(
        weight=IntTensor(weights),
        bias=IntTensor.of(np.full(len(weights), bias, np.int64)),
        graded=x.kind is Kind.GRADED,
    )
    nodes = [Node("x", ops.Input(type=x)), Node("y", linear, ("x",))]
    if threshold is not None:
        lif = ops.Neuron(threshold=IntTensor.of([threshold]), dv=2048)
        nodes.append(Node("s", lif, ("y",)))
    return Graph(tuple(nodes), (nodes[-1].name,), 2)


def _paths(simulator: Fast, graph: Graph, x: IntArray) -> dict[str, Path]:
    """What computed each node, of a run whose values are the reference's."""
    executable = simulator.compile(graph)
    got, want = executable.run({"x": x}), Reference().compile(graph).run({"x": x})
    for kind in ("values", "currents", "membranes"):
        ours, theirs = getattr(got, kind), getattr(want, kind)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert got.values[graph.outputs[0]].any()
    return executable.paths


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("events", [255, 256, 257, 600, 1536])
def test_sums_of_16_bits_are_widened_in_time(events: int, sign: int) -> None:
    rng = np.random.default_rng(events)
    weights = sign * np.full((130, events), 127)
    weights[65:] = rng.integers(-127, 128, (65, events))
    graph = _layer(weights, TensorType.spikes(events), bias=-5)
    x = np.ones((2, 3, events), np.int64)
    assert _paths(Fast(path="events"), graph, x)["y"] is Path.EVENTS


def test_without_widening_they_would_be_wrong() -> None:
    import numba

    from lapilli.simulators.fast import tables
    from lapilli.simulators.fast.kernels.adding import add_rows_1
    from lapilli.simulators.fast.kernels.rows import add_events

    op = ops.Linear(
        weight=IntTensor(np.full((64, 600), 127)), bias=IntTensor.of(np.zeros(64, np.int64))
    )
    table, bias = tables.of_events(op, TensorType.spikes(600))
    events, total = np.arange(600, dtype=np.uint16), np.zeros(64, np.int32)

    @numba.njit
    def at_once(table: Any, events: Any, count: int, bias: Any, total: Any) -> None:
        add_rows_1(table, 64, events, 0, count, 0, bias, 0, total, 0)

    @numba.njit
    def widened(table: Any, events: Any, count: int, bias: Any, total: Any) -> None:
        add_events(table, events, count, bias, total, 0)

    at_once(table, events, 256, bias, total)
    assert (total == 256 * 127).all()
    at_once(table, events, 600, bias, total)
    assert (total != 600 * 127).all()
    widened(table, events, 600, bias, total)
    assert (total == 600 * 127).all()


def _graded(lo: int, hi: int, size: int = 8) -> TensorType:
    return TensorType((size,), IntRange(lo, hi), Kind.GRADED)


_ONES = np.ones((3, 8), np.int64)
_TURNS = np.tile([-1, 1], (3, 4))  # added to weights so that they share no power of two


@pytest.mark.parametrize(
    ("x", "weights", "features", "path"),
    [
        (_graded(0, 255), _ONES, VNNI, Path.BYTES),
        (_graded(0, 255), _ONES, PLAIN, Path.FLOAT32),
        (_graded(0, 256), _ONES, VNNI, Path.FLOAT32),
        (_graded(-128, 127), _ONES, VNNI, Path.BYTES),
        (_graded(-128, 128), _ONES, VNNI, Path.FLOAT32),
        (_graded(0, 255), 127 * _ONES, VNNI, Path.BYTES),
        (_graded(0, 255), 128 * _ONES, VNNI, Path.BYTES),  # 1, seven bits to the left
        (_graded(0, 255), 127 << 9 * _ONES, VNNI, Path.BYTES),
        (_graded(0, 255), 128 * _ONES + _TURNS, VNNI, Path.FLOAT32),
        (_graded(0, 1 << 21), _ONES, PLAIN, Path.FLOAT32),  # 2**24 in all
        (_graded(0, (1 << 21) + 1), _ONES, PLAIN, Path.FLOAT64),
        (_graded(0, 1 << 30), (1 << 20) * _ONES + _TURNS, PLAIN, Path.FLOAT64),  # 2**53 in all
        (_graded(0, (1 << 30) + 1), (1 << 20) * _ONES + _TURNS, PLAIN, Path.DEFINITION),
    ],
)
def test_ranges_choose_whatever_the_cpu(
    x: TensorType, weights: IntArray, features: frozenset[str], path: Path
) -> None:
    graph = _layer(weights, x)
    layer = Fast(features=features).compile(graph).layers["y"]
    assert layer.choose(np.zeros((2, 8), np.int64)) is path
    extremes = np.array([x.range.lo, x.range.hi]).repeat(8).reshape(2, 1, 8)
    if features is PLAIN:  # what this machine can run in any case
        assert _paths(Fast(features=PLAIN), graph, extremes)["y"] is path


@pytest.mark.parametrize(
    ("hi", "b", "features", "path"),
    [
        (255, 127, VNNI, Path.BYTES),
        (256, 127, VNNI, Path.FLOAT32),
        (255, 128, VNNI, Path.FLOAT32),
        (255, 127, PLAIN, Path.FLOAT32),
        (1 << 20, 1, VNNI, Path.FLOAT32),  # 16 terms: 2**24 in all
        ((1 << 20) + 1, 1, VNNI, Path.FLOAT64),
        (1 << 29, 1 << 20, VNNI, Path.FLOAT64),  # 2**53
        ((1 << 29) + 1, 1 << 20, VNNI, Path.DEFINITION),
    ],
)
def test_ranges_choose_for_products_of_matrices(
    hi: int, b: int, features: frozenset[str], path: Path
) -> None:
    left = TensorType((3, 16), IntRange(0, hi), Kind.GRADED)
    right = TensorType((16, 5), IntRange(0, b), Kind.GRADED)
    assert matrices.choose(left, right, features) is path


@pytest.mark.parametrize(("inputs", "path"), [(32_767, Path.EVENTS), (32_768, Path.FLOAT32)])
def test_rows_of_a_table_are_named_by_16_bits(inputs: int, path: Path) -> None:
    signed = TensorType((inputs,), IntRange(-1, 1), Kind.SPIKES)
    graph = _layer(np.ones((2, inputs), np.int64), signed)
    assert Fast(features=PLAIN).compile(graph).layers["y"].choose(np.zeros((2, inputs))) is path


def test_density_of_the_first_batch_chooses() -> None:
    graph = _layer(np.ones((3, 64), np.int64), TensorType.spikes(64), threshold=65)
    for rate, path in ((0.1, Path.EVENTS), (0.6, Path.BYTES)):
        x = (np.random.default_rng(0).random((2, 40, 64)) < rate).astype(np.int64)
        layer = Fast(features=VNNI).compile(graph).layers["y"]
        assert layer.choose(x) is path
        assert layer.choose(1 - x) is path  # and stays
    assert Fast(features=PLAIN).compile(graph).layers["y"].choose(x) is Path.EVENTS


def test_no_value_depends_on_batch_or_threads() -> None:
    case = random_case(7)
    whole = Fast().compile(case.graph).run(case.inputs)
    for threads in (1, 2, 5):
        got = Fast(threads=threads).compile(case.graph).run(case.inputs)
        assert all(np.array_equal(got.values[n], whole.values[n]) for n in whole.values)
    batch = next(iter(case.inputs.values())).shape[1]
    executable = Fast().compile(case.graph)
    for b in range(batch):
        one = executable.run({n: x[:, b : b + 1] for n, x in case.inputs.items()})
        for name, values in one.values.items():
            assert np.array_equal(values[:, 0], whole.values[name][:, b])


def test_a_recording_stays_while_the_next_batch_runs() -> None:
    case = random_case(3)
    executable = Fast().compile(case.graph)
    first = executable.run(case.inputs)
    before = {n: first.values[n] for n in first.values}
    executable.run({n: x[:, ::-1] for n, x in case.inputs.items()})
    assert all(np.array_equal(first.values[n], before[n]) for n in before)


def test_memory_is_taken_again_and_does_not_grow() -> None:
    graph = _layer(np.ones((3, 64), np.int64), TensorType.spikes(64), threshold=65)
    executable, given = Fast().compile(graph), {"x": np.ones((2, 5, 64), np.int64)}
    for _ in range(3):
        executable.run(given)
    held = executable.work.memory.held
    assert held
    for _ in range(5):
        executable.run(given)
    assert executable.work.memory.held == held
    kept = executable.run(given)
    executable.run(given)
    assert executable.work.memory.held > held
    assert kept.values["s"].any()


def test_threads_of_the_caller_share_an_executable() -> None:
    case = random_case(11)
    executable = Fast().compile(case.graph)
    want = Reference().compile(case.graph).run(case.inputs)
    wrong: list[str] = []
    seen: list[str] = []

    def work() -> None:
        for _ in range(20):
            got = executable.run(case.inputs)
            seen.extend(got.values)
            wrong.extend(n for n in got.values if not np.array_equal(got.values[n], want.values[n]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(seen) >= 4 * 20


def test_outputs_alone() -> None:
    case = random_case(5)
    got = Fast(record=False).compile(case.graph).run(case.inputs)
    want = Reference().compile(case.graph).run(case.inputs)
    assert set(got.values) == set(case.graph.outputs)
    assert all(np.array_equal(x, want.values[n]) for n, x in got.values.items())
    assert not got.membranes
    assert not got.currents


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    executable = Fast().compile(_layer(_ONES, _graded(0, 3)))
    for given, error, words in (
        ({}, InputError, "'x' is missing"),
        ({"x": np.zeros((3, 1, 8), np.int64)}, InputError, "is not"),
        ({"x": np.zeros((2, 1, 9), np.int64)}, InputError, "is not"),
        ({"x": np.full((2, 1, 8), 4)}, RangeError, "takes"),
    ):
        with pytest.raises(error, match=words):
            executable.run(given)
    with pytest.raises(InputError, match="0 threads"):
        Fast(threads=0)
    with pytest.raises(InputError, match="'quick'"):
        Fast(path="quick")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(SimulatorUnavailableError, match=r"lapilli\[fast\]"):
        Fast().compile(_layer(_ONES, _graded(0, 3)))


_SCRIPT = """
from lapilli.simulators.conformance import CASES, check
from lapilli.simulators.fast import Fast
from lapilli.simulators.fast.kernels.jit import cached
simulator = Fast(path="events", features=frozenset())
print(sum(check(simulator, case) for case in CASES), cached())
graph = CASES[0].graph
executable = simulator.compile(graph)
executable.run(CASES[0].inputs)
print(executable.report)
"""


def test_a_cpu_without_avx512_and_a_cache_that_cannot_be_written(tmp_path: File) -> None:
    (tmp_path / "file").touch()
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "XDG_CACHE_HOME": str(tmp_path / "file"),
        "HOME": str(tmp_path / "file"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    values, _, rest = done.stdout.partition(" ")
    assert int(values) > 10_000
    assert rest.startswith("False")
    assert "cannot be written" in done.stdout
    assert "AVX-512" not in done.stdout
