"""What a comparison says beside its verdict: counts of each kind, and what lies around a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lapilli.deploy.comparison.compare import Pixels, added, compare, compare_recordings
from lapilli.deploy.comparison.divergence import facts, first_divergence
from lapilli.deploy.comparison.surroundings import surroundings
from lapilli.ir.network import Network
from lapilli.ir.recording import Recording
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference


@pytest.fixture(scope="module")
def network(net_chain: Callable[..., Network]) -> Network:
    return net_chain(encoder=False)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(2).integers(0, 256, (5, 2, 7, 6), np.uint8)


@pytest.fixture(scope="module")
def run(network: Network, pixels: Pixels) -> Recording:
    return Reference().compile(network.graph).run(network.encode(pixels))


def changed(run: Recording, node: str, at: tuple[int, ...]) -> Recording:
    """The same run, but for one event."""
    values = {name: np.array(array) for name, array in run.values.items()}
    values[node][at] ^= 1
    return replace(run, values=values)


def test_every_kind_of_value_is_counted(network: Network, pixels: Pixels, run: Recording) -> None:
    graph = network.graph
    kinds: dict[str, int] = {}
    for fact in facts(graph, run, run):
        kinds[fact.kind] = kinds.get(fact.kind, 0) + fact.got.size
    sides = Reference().compile(graph), EventDriven().compile(graph)
    for batch in (None, 2):
        found = compare(network, *sides, pixels, batch=batch)
        assert found.kinds == {kind: (size, 0) for kind, size in kinds.items()}
        assert sum(size for size, _ in found.kinds.values()) == found.compared
    node = graph.firing[1]
    some = (0,) * (run.values[node].ndim - 2)
    broken = compare_recordings(graph, run, changed(run, node, (2, 3, *some)))
    assert broken.kinds["spikes"] == (kinds["spikes"], 1)
    assert broken.kinds["membrane"] == (kinds["membrane"], 0)
    assert broken.mismatches == 1
    assert added({"a": (1, 2)}, {"a": (3, 4), "b": (5, 6)}) == {"a": (4, 6), "b": (5, 6)}


def test_what_lies_around_a_divergence_is_told(network: Network, run: Recording) -> None:
    graph = network.graph
    node = graph.firing[1]
    shape = run.values[node].shape[2:]
    size = int(np.prod(shape))
    for flat in (0, size // 2, size - 1):
        index = tuple(int(i) for i in np.unravel_index(flat, shape))
        found = first_divergence(graph, run, changed(run, node, (3, 2, *index)), first_sample=10)
        assert found is not None
        assert (found.node, found.t, found.sample, found.index) == (node, 3, 12, index)
        around = found.around
        assert around is not None
        assert around.neurons[around.row] == index
        assert len(around.neurons) == min(24, size)
        assert around.first_step + around.column == 3
        mine, other = np.array(around.expected), np.array(around.got)
        assert np.argwhere(mine != other).tolist() == [[around.row, around.column]]
        for row, place in zip(around.expected, around.neurons, strict=True):
            assert list(row) == [int(step[place]) for step in run.values[node][:, 2]]
        membrane = [int(step[index]) for step in run.membranes[node][:, 2]]
        assert list(around.expected_membrane) == list(around.got_membrane) == membrane


def test_a_long_run_is_cut_and_a_run_without_membranes_has_none() -> None:
    values = np.arange(200).reshape(200, 1, 1) % 3
    long = Recording({"a": values}, {"a": 7 * values})
    bare = Recording({"a": values})
    around = surroundings(long, bare, "a", 150, 0, (0,))
    assert around is not None
    assert len(around.expected[0]) == 48
    assert around.expected[0][around.column] == 150 % 3
    assert around.first_step + around.column == 150
    assert around.expected_membrane[around.column] == 7 * (150 % 3)
    assert around.got_membrane == ()
    assert surroundings(long, Recording({"a": values[-1:]}), "a", 150, 0, (0,)) is None
