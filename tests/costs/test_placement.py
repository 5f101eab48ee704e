"""Cores on chips: links found again by impulses, no chip too full, and no bound that is passed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.on_cores import chip_with, convolution, linear, neurons_of

from lapilli.costs import core_pages, links, placement
from lapilli.costs.cores import CoreMap, cores_of
from lapilli.costs.placement import Placement, place
from lapilli.costs.populations import Population, heard_in_a_row
from lapilli.costs.report import bounded
from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import unsupported
from lapilli.ir.semantics import evaluate
from lapilli.ir.targets.target import Figure, Grade, Resource
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType

pytest.importorskip("pymetis")


def _heard(found: CoreMap, population: str) -> IntArray:
    """Which neurons of any population (by place) move which of this one: (neurons, of this)."""
    graph = found.graph
    sizes = {p.name: p.grid.neurons for p in found.populations}
    total = sum(sizes.values())
    values: dict[str, IntArray] = {}
    start = 0
    for node in graph.nodes:
        op, shape = node.op, graph.types[node.name].shape
        if isinstance(op, ops.Linear | ops.Conv2d):  # every weight there is, also a zero, is heard
            op = replace(op, weight=IntTensor.of(np.ones(op.weight.shape, np.int64)),
                         bias=IntTensor.of([0] * op.weight.shape[0]))  # fmt: skip
        if isinstance(op, ops.Neuron | ops.Readout):
            values[node.name] = np.zeros((total, *shape), np.int64)
            own = np.eye(sizes[node.name], dtype=np.int64).reshape(-1, *shape)
            values[node.name][start : start + sizes[node.name]] = own
            start += sizes[node.name]
            if node.name == population:
                moved: IntArray = values[node.inputs[0]].reshape(total, -1)
                return moved
        elif isinstance(op, ops.Input):
            values[node.name] = np.zeros((total, *shape), np.int64)
        else:
            assert not isinstance(op, ops.Membrane | ops.GeneralNeuron)
            values[node.name] = evaluate(op, tuple(values[i] for i in node.inputs)) != 0
            values[node.name] = values[node.name].astype(np.int64)
    raise AssertionError(population)


def _check_links(found: CoreMap) -> int:
    """Compare with impulses; return how many pairs there are."""
    linked = links.links(found)
    numbering = links._Numbering.of(found)
    speaker = np.concatenate(
        [numbering.core(p.name, np.arange(p.grid.neurons)) for p in found.populations]
    )
    assert sorted(set(speaker.tolist())) == list(range(linked.cores))
    told = np.zeros((linked.cores, linked.cores), np.int64)
    told[linked.speakers, linked.hearers] = linked.pairs
    for p in found.populations:
        moved, hearer = _heard(found, p.name), numbering.core(p.name, np.arange(p.grid.neurons))
        if not p.shown:
            _check_row(found, p, moved)
        for core in np.unique(hearer):
            heard = np.bincount(
                speaker[moved[:, hearer == core].any(axis=1)], minlength=linked.cores
            )
            assert ((told[:, core] > 0) == (heard > 0)).all()
            assert (told[:, core] >= heard).all()
            if len(p.ways) == 1:
                assert (told[:, core] == heard).all()
    return int(linked.pairs.sum())


def _check_row(found: CoreMap, population: Population, moved: IntArray) -> None:
    """Of neurons in a row: how many of each source the first, a middle and the last core hear."""
    rows = next(c for c in found.cuts if c.name == population.name).block.rows
    size = population.grid.neurons
    told = heard_in_a_row(found.graph, population, rows)
    assert told is not None
    starts = sorted({0, size // rows // 2 * rows, max(0, size // rows - 1) * rows})
    first = 0
    for source in found.populations:
        own = moved[first : first + source.grid.neurons]
        first += source.grid.neurons
        heard = [int(own[:, s : s + rows].any(axis=1).sum()) for s in starts if s < size]
        assert [n for n in heard if n] == [n for n in told.get(source.name, []) if n]


def test_spikes_that_are_repeated_are_heard_once() -> None:
    """Of ANDs of rows and columns a core of one row hears its element once, not once for each."""
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(4, 8))),
        neurons_of("q", "x"),
        Node("tall", ops.Reshape(shape=(4, 8, 1)), ("q",)),
        Node("wide", ops.Expand(shape=(4, 8, 16)), ("tall",)),
        neurons_of("many", "wide"),
    )
    found = cores_of(Graph(nodes, ("many",), 1), "test", chip_with(neurons=16, axons_in=4))
    q, many = found.cuts
    assert many.use[Resource.AXONS_IN] == 1
    assert many.cores == 32
    assert q.hearers == 1


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("most", [{"neurons": 40}, {"axons_in": 60}, {"neurons": 7}])
def test_links_of_a_convolution(groups: int, most: dict[str, int]) -> None:
    graph, _ = convolution(groups, (2, 1))
    assert _check_links(cores_of(graph, "test", chip_with(**most))) > 100


def test_links_through_wiring() -> None:
    """Axes that go round, a part, two values side by side, and a frame around them."""
    weight = IntTensor.of(np.ones((3, 7, 3, 3), np.int64))
    conv = ops.Conv2d(weight=weight, bias=IntTensor.of([0] * 3), padding=(1, 2))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(3, 5, 4))),
        neurons_of("one", "x"),
        Node("turned", ops.Permute(axes=(2, 0, 1)), ("one",)),  # (4, 3, 5)
        Node("part", ops.Slice(axis=0, start=1, stop=4), ("turned",)),
        Node("both", ops.Concat(axis=0), ("turned", "part")),
        Node("conv", conv, ("both",)),
        neurons_of("two", "conv"),
        Node("rest", ops.Slice(axis=2, start=2, stop=5), ("turned",)),
        neurons_of("three", "rest"),
    )
    graph = Graph(nodes, ("two", "three"), 1)
    for neurons in (1, 4, 7, 20):
        assert _check_links(cores_of(graph, "test", chip_with(neurons=neurons))) > 30


def test_links_of_random_graphs(graphs: st.SearchStrategy[Graph]) -> None:
    pairs = []

    @settings(max_examples=200, deadline=None)
    @given(graphs, st.sampled_from([3, 8, 40]))
    def holds(graph: Graph, neurons: int) -> None:
        if unsupported(graph):
            return
        try:
            found = cores_of(graph, "test", chip_with(neurons=neurons))
        except UnsupportedError:
            return
        if found.populations and found.neurons < 1000:
            pairs.append(_check_links(found))

    holds()
    assert sum(n > 0 for n in pairs) > 5


def test_what_neurons_lie_on_which_core() -> None:
    """A block of rows, columns and features of a convolution has a number of its own."""
    graph, op = convolution(1, (1, 1))
    found = cores_of(graph, "test", chip_with(neurons=36))
    cut = found.cuts[1]
    shape = evaluate(op, (np.zeros((1, 4, 9, 8), np.int64),)).shape[1:]
    at = np.arange(int(np.prod(shape))).reshape(shape)
    numbering = links._Numbering.of(found)
    steps = (cut.block.features, cut.block.rows, cut.block.columns)
    starts = itertools.product(*(range(0, n, s) for n, s in zip(shape, steps, strict=True)))
    seen = set()
    for f, r, c in starts:
        block = at[f : f + steps[0], r : r + steps[1], c : c + steps[2]]
        (core,) = set(numbering.core("second", block.ravel()).tolist())
        seen.add(core)
    assert seen == set(range(found.cuts[0].cores, found.cores))


def _two_chains() -> Graph:
    """Two chains of four layers that have nothing to do with each other, one layer each in turn."""
    one = IntTensor.of(np.full((16, 16), 3))
    nodes = [Node("x", ops.Input(type=TensorType.spikes(16)))]
    ends = ["x", "x"]
    for depth, side in itertools.product(range(4), range(2)):
        name = f"{'ab'[side]}{depth}"
        linear = ops.Linear(weight=one, bias=IntTensor.of([0] * 16))
        nodes.append(Node(f"{name}.fc", linear, (ends[side],)))
        nodes.append(Node(name, ops.Neuron(threshold=IntTensor.of([65])), (f"{name}.fc",)))
        ends[side] = name
    return Graph(tuple(nodes), tuple(ends), 3)


def test_what_talks_to_each_other_shares_a_chip() -> None:
    """Filled in order each chip has a layer of both chains; placed, a chain has a chip."""
    four = replace(chip_with(neurons=16), count=Figure.known(4, "test", Grade.OWN_CODE))
    found = cores_of(_two_chains(), "test", four)
    placed = place(found, 3)
    assert placed is not None
    assert placed.chips == 2
    assert placed.messages == 6 * 16 * 3
    assert placed.across == placed.lowest == 0
    assert placed.in_order == 2 * 16 * 3
    chips = [set(placed.chip[side::2].tolist()) for side in range(2)]
    assert [len(c) for c in chips] == [1, 1]
    text = core_pages.text(found, bounded(_two_chains()), placed)
    assert "on 2 chips, at most, every neuron firing at every step, 288 messages" in text
    assert "0 of them from chip to chip (0.00%); chips filled in order 96" in text


def test_rates_weigh() -> None:
    """Measured rates of some populations; the others fire at every step, and that is told."""
    found = cores_of(_two_chains(), "test", chip_with(neurons=16))  # two cores of a chip
    rates = {"a0": Fraction(1, 8), "b0": Fraction(2), "a1": Fraction(0)}
    placed = place(found, 3, rates)
    assert placed is not None
    assert placed.messages == 16 * (Fraction(1, 8) + 2 + 0 + 3 + 3 + 3)  # these remember
    assert placed.across == 16 * 3  # of b1: a1 is silent, and b0 is heard beside its neighbour
    assert placed.unmeasured == ("b1", "a2", "b2", "a3", "b3")
    text = core_pages.text(found, bounded(_two_chains()), placed)
    assert "at most" not in text
    assert "of 5 populations of planes, ANDs and ORs no run says" in text


def _all_to_one(cores: int) -> Graph:
    """A core that hears so many others, each of one neuron."""
    weight = IntTensor.of(np.full((1, cores), 3))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(cores))),
        Node("many", ops.Neuron(threshold=IntTensor.of([65])), ("x",)),
        Node("fc", ops.Linear(weight=weight, bias=IntTensor.of([0])), ("many",)),
        Node("one", ops.Neuron(threshold=IntTensor.of([65])), ("fc",)),
    )
    return Graph(nodes, ("one",), 2)


def test_the_bound_is_reached_by_a_star() -> None:
    """One chip holds the middle and what else it holds; all others send from elsewhere."""
    found = cores_of(_all_to_one(7), "test", chip_with(neurons=1))  # two cores of a chip
    placed = place(found, 2)
    assert placed is not None
    assert placed.chips == 4
    assert placed.messages == 14
    assert placed.across == 12
    assert placed.lowest == 12


def _groupings(cores: int, room: int) -> Iterator[tuple[int, ...]]:
    """Every way to put cores onto chips of so much room, of any number."""

    def more(chips: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chips) == cores:
            yield chips
            return
        for chip in range(max(chips, default=-1) + 2):
            if chips.count(chip) < room:
                yield from more((*chips, chip))

    return more(())


def _random_links(rng: np.random.Generator, cores: int) -> links.Links:
    """Cores of two populations that tell each other anything."""
    there = rng.random((cores, cores)) < rng.uniform(0.2, 0.9)
    speakers, hearers = np.nonzero(there)
    return links.Links(
        first={"one": 0, "two": cores // 2}, cores=cores, speakers=speakers, hearers=hearers,
        pairs=rng.integers(1, 60, speakers.size), population=(speakers >= cores // 2) * 1, every=1,
    )  # fmt: skip


def test_no_placement_goes_below_the_bound() -> None:
    """Every placement of a few cores; a half of each pair at either end would be a worse bound."""
    rng = np.random.default_rng(0)
    reached = better = 0
    for _ in range(60):
        cores, room = int(rng.integers(3, 8)), int(rng.integers(2, 4))
        linked = _random_links(rng, cores)
        fires = [Fraction(int(rng.integers(0, 5))), Fraction(int(rng.integers(1, 9)), 2)]
        best = min(
            placement._across(linked, fires, np.array(chips)) for chips in _groupings(cores, room)
        )
        lowest = placement._lowest(linked, fires, room)
        assert 0 <= lowest <= best
        reached += lowest == best
        better += lowest > _halved(linked, fires, room)
    assert reached > 5
    assert better > 20


def _halved(linked: links.Links, fires: list[Fraction], room: int) -> Fraction:
    """Half of what each core shares with others than those that could all share its chip."""
    shared = [[Fraction(0)] * linked.cores for _ in range(linked.cores)]
    columns = (linked.speakers, linked.hearers, linked.pairs, linked.population)
    for speaker, hearer, pairs, population in zip(*(c.tolist() for c in columns), strict=True):
        if speaker != hearer:
            shared[speaker][hearer] += pairs * fires[population]
            shared[hearer][speaker] += pairs * fires[population]
    return sum((x for row in shared for x in sorted(row)[: 1 - room]), Fraction(0)) / 2


def test_no_chip_is_too_full(graphs: st.SearchStrategy[Graph]) -> None:
    several = []

    @settings(max_examples=200, deadline=None)
    @given(graphs, st.sampled_from([2, 5]), st.sampled_from([1, 2, 5]))
    def holds(graph: Graph, neurons: int, room: int) -> None:
        if unsupported(graph):
            return
        chip = replace(chip_with(neurons=neurons), count=Figure.known(room, "test", Grade.OWN_CODE))
        try:
            found = cores_of(graph, "test", chip)
        except UnsupportedError:
            return
        if not 0 < found.neurons < 4000:
            return
        placed = place(found, graph.T)
        assert placed is not None
        assert placed.chip.size == found.cores
        assert np.bincount(placed.chip, minlength=placed.chips).max() <= room
        assert placed.chips == -(-found.cores // room)
        assert 0 <= placed.lowest <= placed.across <= placed.in_order <= placed.messages
        several.append(placed)

    holds()
    assert sum(p.chips > 1 and p.across < p.in_order for p in several) > 5


def test_too_full_chips_give_cores_away() -> None:
    """Whatever METIS says: the chip that has most to do with a core and has room takes it."""
    found = cores_of(_two_chains(), "test", chip_with(neurons=16))
    linked = links.links(found)
    weight = linked.pairs.astype(float)
    crowded = np.array([0, 1, 0, 1, 0, 1, 0, 1])  # four on each of two, two have room
    fitted = placement._fitted(crowded, linked, weight, 4, 2)
    assert np.bincount(fitted).tolist() == [2, 2, 2, 2]


def test_a_sample_of_inputs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many inputs are there, each so many-th stands for the others."""
    found = cores_of(linear(), "test", chip_with(neurons=24))
    whole = links.links(found)
    monkeypatch.setattr(links, "_FOLLOWED", 40)
    some = links.links(found)
    assert (whole.every, some.every) == (1, 3)
    assert some.speakers.tolist() == whole.speakers.tolist()
    assert some.pairs.tolist() == whole.pairs.tolist()  # 60 and 24 inputs come in threes
    placed = place(found, 1)
    assert placed is not None
    assert placed.every == 3
    text = core_pages.text(found, bounded(linear()), placed)
    assert "each 3th was followed" in text


def test_more_cores_than_anybody_has_are_not_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MOST", 3)
    monkeypatch.setattr(core_pages, "MOST", 3)
    found = cores_of(linear(), "test", chip_with(neurons=24))
    assert place(found, 1) is None
    text = core_pages.text(found, bounded(linear()))
    assert "more than 3 cores are not put onto chips" in text


def test_an_unknown_chip_places_nothing() -> None:
    found = cores_of(linear(), "test", replace(chip_with(), count=Figure.unknown()))
    assert place(found, 1) is None
    facts = json.loads(json.dumps(core_pages.facts(found, bounded(linear()), None)))
    assert facts["placement"] is None
    assert "how many cores a chip has is unknown" in core_pages.text(found, bounded(linear()))
    dark = replace(found.chip, each=dict.fromkeys(Resource, Figure.unknown()))
    text = core_pages.text(cores_of(linear(), "test", dark), bounded(linear()))
    assert "takes at least 2 cores\n" in text
    assert "no cut takes fewer" not in text


def test_facts_and_systems() -> None:
    found = cores_of(linear(), "test", chip_with(neurons=24))
    placed = place(found, 1)
    assert isinstance(placed, Placement)
    facts = json.loads(json.dumps(core_pages.facts(found, bounded(linear()), placed)))
    assert len(facts["placement"]["chip_of_core"]) == found.cores == 4
    assert facts["systems"]["board"] == {
        "least": 2, "most": 2, "source": "test", "grade": "its own code",
    }  # fmt: skip
    small = replace(chip_with(neurons=1), systems={"board": Figure.known(2, "t", Grade.OWN_CODE)})
    text = core_pages.text(cores_of(linear(), "test", small), bounded(linear()))
    assert "no system that is known has as many, the largest is board with 2" in text
    assert found.chip.each[Resource.NEURONS].high == 24
