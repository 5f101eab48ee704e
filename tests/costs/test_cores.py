"""Cuts onto cores: what a block hears, found again by impulses; bounds; chips of one's own."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.on_cores import chip_with, convolution, linear

from lapilli.costs import core_pages
from lapilli.costs.chips import CHIPS, chip
from lapilli.costs.cores import Cut, cores_of
from lapilli.costs.obstacles import Obstacle
from lapilli.costs.on_cores import put_on_cores
from lapilli.costs.populations import Block
from lapilli.costs.report import bounded
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, InputError, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.passes.binary import size, unsupported
from lapilli.ir.semantics import evaluate
from lapilli.ir.targets.target import Resource

LOIHI1, LOIHI2 = (chip(name)[1] for name in ("loihi1", "loihi2"))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("most", [{"neurons": 40}, {"axons_in": 60}, {"synapses": 60}])
def test_what_a_block_hears(groups: int, stride: tuple[int, int], most: dict[str, int]) -> None:
    """Each impulse is followed to the outputs that it moves; the fullest block hears that many."""
    graph, op = convolution(groups, stride)
    found = cores_of(graph, "test", chip_with(**most))
    cut = next(c for c in found.cuts if c.name == "second")
    assert not found.misfits
    impulses = np.eye(4 * 9 * 8, dtype=np.int64).reshape(-1, 4, 9, 8)
    moved = evaluate(op, (impulses,)) != 0  # (source, C, H, W)
    heard, cores = [], 0
    for block in _blocks_of(moved.shape[1:], cut.block):
        heard.append(int(moved[:, block[0], block[1], block[2]].any(axis=(1, 2, 3)).sum()))
        cores += 1
    assert cores == cut.cores
    assert max(heard) == cut.use[Resource.AXONS_IN]
    assert cut.use[Resource.NEURONS] == cut.block.neurons
    assert cut.use[Resource.SYNAPSES] == cut.block.features * 4 // groups * 6 * 2  # of two bits
    first = next(c for c in found.cuts if c.name == "first")
    assert sum(heard) <= first.hearers * first.neurons  # alike blocks: those at edges hear less


def _blocks_of(shape: tuple[int, ...], block: Block) -> Any:
    """Slices of features, rows and columns."""
    steps = (block.features, block.rows, block.columns)
    axes = [range(0, n, step) for n, step in zip(shape, steps, strict=True)]
    for starts in itertools.product(*axes):
        yield tuple(slice(a, a + n) for a, n in zip(starts, steps, strict=True))


def test_tokens_share_weights_in_a_core_and_repeat_them_in_others() -> None:
    found = cores_of(linear(), "test", chip_with(neurons=24))
    lif, logits = found.cuts
    # 100 = 25 * 4: a weight takes 6 bits beside the power of two that all share.
    assert (lif.block, lif.cores) == (Block(2, 1, 12), 3)
    assert lif.use[Resource.SYNAPSES] == 12 * 8 * 6
    assert lif.use[Resource.AXONS_IN] == 2 * 8
    assert logits.use[Resource.AXONS_IN] == 60
    assert lif.use[Resource.AXONS_OUT] == 24
    assert found.bound[Resource.NEURONS] == math.ceil((60 + 12) / 24) == found.lowest
    assert (found.chips, found.system) == ((2, 2), "board")
    assert found.neurons == 72


def test_what_does_not_fit_is_named() -> None:
    found = cores_of(linear(), "test", chip_with(axons_in=7))
    lif, *_ = found.misfits
    assert lif.beyond == (Resource.AXONS_IN,)
    assert lif.use[Resource.AXONS_IN] == 8
    on = put_on_cores(linear(), "test", chip_with(axons_in=7))
    assert on.obstacles[0] == Obstacle("lif", "one neuron takes 8 input axons of 7")
    text = core_pages.against_text(on)
    assert "lif: one neuron takes 8 input axons of 7\n" in text
    assert text.endswith("\ntest cannot hold it: 1 layer stands against it\n")
    assert core_pages.against_facts(on)["fits"] is False


def test_out_axons_bind_too() -> None:
    """Every neuron is heard by as many cores as its readers are cut into."""
    graph, _ = convolution(1, (1, 1))
    loose = cores_of(graph, "test", chip_with(neurons=36))
    first = loose.cuts[0]
    assert first.hearers > 1
    tight = cores_of(graph, "test", chip_with(neurons=36, axons_out=40))
    assert tight.cuts[0].use[Resource.AXONS_OUT] <= 40
    assert tight.cuts[0].cores > first.cores


def test_no_cut_goes_below_the_bound(graphs: st.SearchStrategy[Graph]) -> None:
    """Of random graphs that binary neurons can say, on small cores."""
    cut: list[Cut] = []

    @settings(max_examples=150)
    @given(graphs, st.sampled_from([4, 9, 40]), st.sampled_from([30, 200]))
    def holds(graph: Graph, neurons: int, axons: int) -> None:
        if unsupported(graph):
            return
        try:
            small = size(graph)
            found = cores_of(graph, "test", chip_with(neurons=neurons, axons_in=axons))
        except UnsupportedError:  # a value too wide to be lowered
            return
        readouts = [n for n in graph.nodes if isinstance(n.op, ops.Readout)]
        sums = sum(math.prod(graph.types[n.name].shape) for n in readouts)
        assert found.neurons == sum(c.neurons for c in found.cuts)
        assert small.neurons <= found.neurons <= small.neurons + sums
        for one in found.cuts:
            assert one.beyond or all(
                one.use[r] <= (figure.high or 0) for r, figure in found.chip.each.items()
            )
            assert one.cores * one.block.neurons >= one.neurons
        if not found.misfits:
            assert found.lowest <= found.cores
        cut.extend(found.cuts)

    holds()
    assert sum(one.cores > 1 for one in cut) > 50


def test_unknown_figures_leave_a_range(net_chain: Callable[..., Network]) -> None:
    graph = net_chain(encoder=True).graph
    found = cores_of(graph, "loihi2", LOIHI2)
    assert found.chips == (1, None)
    assert found.unknown == (Resource.AXONS_IN, Resource.AXONS_OUT, Resource.SYNAPSES)
    assert found.system == "Oheo Gulch"
    text = core_pages.text(found, bounded(graph))
    assert "at least" in text
    assert "1 to unknown" in text
    on = put_on_cores(graph, "loihi2", LOIHI2)
    unknown = "input of one step, threshold, bias, input axons, output axons, bits of synapses"
    assert f"; of {unknown} nobody knows\n" in core_pages.against_text(on)
    facts = json.loads(json.dumps(core_pages.facts(found, bounded(graph))))
    assert facts["each"]["input axons"]["most"] is None
    assert cores_of(graph, "loihi1", LOIHI1).chips == (1, 1)


_OWN: dict[str, Any] = {
    "name": "mine",
    "cores": {"value": 4, "source": "me", "grade": "second hand"},
    "neurons": {"value": 100, "most": 120, "source": "me", "grade": "second hand"},
    "input axons": None,
    "output axons": None,
    "bits of synapses": {"value": 4096, "source": "me", "grade": "its own code"},
    "systems": {"rack": 8, "board": 1},
}


def test_a_chip_of_ones_own(tmp_path: Path) -> None:
    assert CHIPS == ("loihi1", "loihi2")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(_OWN))
    name, cores = chip(str(path))
    assert name == "mine"
    assert list(cores.systems) == ["board", "rack"]
    assert str(cores.each[Resource.NEURONS]) == "100 to 120"
    assert str(cores.each[Resource.AXONS_IN]) == "unknown"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"neurons": {**_OWN["neurons"], "most": 90}}, "at most 90, and at least 100: which is it"),
        ({"neurons": {**_OWN["neurons"], "value": 0}}, "neurons: 0 to 120 is no count of 1 to"),
        (
            {"neurons": {**_OWN["neurons"], "most": 10**30}},
            "neurons: 100 to 1000000000000000000000",
        ),
        ({"neurons": 100}, "neurons: is no value with a source"),
        ({"neurons": {"value": 1}}, "needs a source, and a grade: its own code"),
        ({"neurones": None}, "'neurones' is nothing that a chip has"),
        ({"systems": {"rack": "8"}}, '"systems" names none'),
        ({"name": 3}, "describes no chip"),
    ],
)
def test_a_wrong_chip_is_named(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**_OWN, **wrong}))
    with pytest.raises(FormatError, match=said):
        chip(str(path))


def test_chips_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chip 'moon' is none of loihi1, loihi2, speck, xylo-"):
        chip("moon")
    path = tmp_path / "mine.json"
    with pytest.raises(FormatError, match="cannot be read"):
        chip(str(path))
    path.write_text("[")
    with pytest.raises(FormatError, match="is no JSON"):
        chip(str(path))
    path.write_text('{"name": "a", "cores": 1, "cores": 2}')
    with pytest.raises(FormatError, match="says 'cores' twice: which is it"):
        chip(str(path))
    path.write_text('{"name": "a", "cores": null}')
    with pytest.raises(FormatError, match="does not say bits of synapses, input axons, neurons"):
        chip(str(path))
