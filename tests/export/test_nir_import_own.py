"""Files of `lapilli export --nir`, imported: every spike, the input and the answers come back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.importer import from_nir, network_from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")

from lapilli.export.nir.write.writer import save_nir, to_nir  # noqa: E402  (needs nir)

pytestmark = pytest.mark.usefixtures("nir_in_process")

_IMAGE = TensorType((2, 4, 4), IntRange(-8, 8), Kind.GRADED)


def _own(seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)

    def conv(out: int, fan_in: int, side: int, **options: Any) -> ops.Conv2d:
        weight = IntTensor.of(rng.integers(-7, 9, (out, fan_in, side, side)))
        return ops.Conv2d(weight=weight, bias=IntTensor.of(rng.integers(-3, 4, out)), **options)

    leaky = ops.Neuron(threshold=IntTensor.of([64 * 20]), dv=ops.DECAY_ONE // 2)
    whole = ops.Neuron(threshold=IntTensor.of(64 * rng.integers(5, 30, (4, 1, 1))))
    weight = IntTensor.of(rng.integers(-7, 8, (3, 4)))
    nodes = (
        Node("image", ops.Input(type=_IMAGE)),
        Node("a.conv", conv(4, 2, 3, padding=(1, 1), graded=True), ("image",)),
        Node("a.lif", leaky, ("a.conv",)),
        Node("b.conv", conv(4, 4, 1), ("a.lif",)),
        Node("sum", ops.Add(), ("a.conv", "b.conv")),
        Node("b.if", whole, ("sum",)),
        Node("c", ops.Linear(weight=weight, bias=IntTensor.of([1, -2, 3])), ("turned",)),
        Node("logits", ops.Readout(), ("c.back",)),
    )
    wired = (
        Node("turned", ops.Permute(axes=(1, 2, 0)), ("b.if",)),
        nodes[6],
        Node("c.back", ops.Permute(axes=(2, 0, 1)), ("c",)),
        nodes[7],
    )
    return Graph((*nodes[:6], *wired), ("logits",), 4)


def _given(graph: Graph, seed: int) -> dict[str, IntArray]:
    shape = (graph.T, 8, *_IMAGE.shape)
    return {"image": np.random.default_rng(seed).integers(-8, 9, shape)}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_file_of_ours_comes_back_spike_for_spike(seed: int, tmp_path: Path) -> None:
    graph = _own(seed)
    nir.write(tmp_path / "own.nir", to_nir(graph))

    back = from_nir(tmp_path / "own.nir", Stated(input_range=(-8, 8)))

    assert back.T == graph.T
    assert set(back.neurons) == set(graph.neurons)
    given = _given(graph, seed)
    want, got = (Reference().compile(g).run(given) for g in (graph, back))
    for name in (*graph.neurons, "logits"):
        assert np.array_equal(got.values[name], want.values[name]), name
    for name in graph.neurons:
        assert 0 < want.values[name].mean() < 1, name


def _network(graph: Graph) -> Network:
    quantizer = InputQuantizer(
        mean=(Fraction(1, 3),) * 2, std=(Fraction(1, 2),) * 2, exponent=2, lo=-8, hi=8
    )
    return Network(
        graph=graph, input=quantizer, logit_scale=Fraction(1, 48), classes=("a", "b", "c")
    )


def test_a_network_of_ours_comes_back_with_its_input_and_answers(tmp_path: Path) -> None:
    before = _network(_own())
    save_nir(before, tmp_path / "own.nir")
    after = network_from_nir(tmp_path / "own.nir")
    assert (after.input, after.logit_scale, after.classes) == (
        before.input, before.logit_scale, before.classes,
    )  # fmt: skip
    assert after.graph.types["image"] == _IMAGE


def test_weights_that_are_all_even_keep_the_scale_of_logits(tmp_path: Path) -> None:
    """They are read as integers of twice the unit, which the scale takes up."""
    own = _own()
    even = []
    for node in own.nodes:
        op: ops.Op = node.op
        if isinstance(op, ops.Linear):
            weight, bias = (IntTensor.of(2 * each.array) for each in (op.weight, op.bias))
            op = replace(op, weight=weight, bias=bias)
        even.append(replace(node, op=op))
    before = _network(Graph(tuple(even), own.outputs, own.T))
    save_nir(before, tmp_path / "own.nir")
    after = network_from_nir(tmp_path / "own.nir")
    assert after.logit_scale == 2 * before.logit_scale
    given = _given(before.graph, 0)
    want, got = (Reference().compile(n.graph).run(given).values["logits"] for n in (before, after))
    assert np.array_equal(2 * got, want)
    assert want.any()


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (Stated(dt=1e-3), "its metadata says dt 0.0001, and 0.001 is stated"),
        (Stated(T=5), "its metadata says T 4, and 5 is stated"),
        (Stated(reading=Reading.NORSE), "its metadata says reading"),
        (Stated(input_range=(0, 1)), "its metadata says inputs"),
        (Stated(reset=ops.Reset.BY_SUBTRACTION), "a file of euler has hard resets"),
    ],
)  # fmt: skip
def test_the_metadata_is_not_overruled(stated: Stated, sentence: str, tmp_path: Path) -> None:
    save_nir(_network(_own()), tmp_path / "own.nir")
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "own.nir", stated)
