"""Random graphs: alive, of every op, the same again, and noticed when a simulator is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from lapilli.deploy.comparison.targets import NAMES
from lapilli.deploy.surveys.random_graphs import NIR_FILE, SLOW, survey
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, RangeError
from lapilli.ir.semantics import Fired, State, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.simulators.conformance import check
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference


def test_every_neuron_fires_and_every_op_occurs() -> None:
    seen = set()
    firing = 0
    for seed in range(200):
        case = random_case(seed)
        graph = case.graph
        seen |= {type(node.op) for node in graph.nodes}
        got = Reference().compile(graph).run(case.inputs)
        for name in graph.firing:
            events = np.abs(got.values[name])
            assert 0 < events.mean() < graph.types[name].range.hi, (seed, name)
            firing += 1
    missing = set(get_args(ops.Op)) - seen
    assert not missing, f"no block of simulators/conformance/random_graphs.py has {missing}"
    assert firing > 500


def test_a_seed_is_a_graph() -> None:
    for seed in (0, 1, 7):
        one, two = random_case(seed), random_case(seed)
        assert one.graph.digest == two.graph.digest
        assert all(np.array_equal(one.inputs[n], two.inputs[n]) for n in one.graph.inputs)
    assert len({random_case(seed).graph.digest for seed in range(50)}) == 50


@pytest.mark.parametrize("seed", range(60))
def test_event_driven_agrees(seed: int) -> None:
    assert check(EventDriven(), random_case(seed)) > 0


def _late(op: ops.Integrating, x: IntArray, state: State) -> Fired:
    """Fires above its threshold only: Loihi's tie, taken wrongly."""
    higher = type(op.threshold).of(op.threshold.array + 1)
    return integrate(replace(op, threshold=higher), x, state)


def _forgetful(op: ops.Integrating, x: IntArray, state: State) -> Fired:
    if isinstance(op, ops.GeneralNeuron):
        faster = IntTensor(np.minimum(4096, op.dv.array + 1))
        return integrate(replace(op, dv=faster), x, state)
    return integrate(replace(op, dv=min(4096, op.dv + 1)), x, state)


@pytest.mark.parametrize("fault", [_late, _forgetful])
def test_a_fault_is_noticed(fault: object) -> None:
    caught = 0
    for seed in range(40):
        try:
            check(Reference(name="faulty", integrate=fault), random_case(seed))  # type: ignore[arg-type]
        except (MismatchError, RangeError):
            caught += 1
    assert caught > 10


def test_what_nir_says_comes_back_from_its_file() -> None:
    pytest.importorskip("nir")
    row = survey(NIR_FILE, 5)
    assert row.exact >= 5
    assert sum(row.declined.values()) == row.tried - row.exact


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("name", [n for n in (*NAMES, NIR_FILE) if n != "reference"])
def test_a_thousand_graphs(name: str) -> None:
    enough = SLOW.get(name, 1000)
    row = survey(name, enough, processes=2)
    assert row.exact >= enough, str(row)
