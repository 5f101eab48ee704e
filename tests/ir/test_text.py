"""The text form: one stable line per node."""

from __future__ import annotations

from pathlib import Path

import pytest

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.text import dumps
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, attention_block

_GOLDEN = Path(__file__).parent / "golden" / "attention_block.txt"


def test_the_attention_block_reads_as_it_did() -> None:
    assert dumps(attention_block(2, 4, 2)) == _GOLDEN.read_text()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_node_has_one_line(case: Case) -> None:
    lines = dumps(case.graph).splitlines()
    assert [line.split(" = ")[0] for line in lines[:-1]] == [f"%{n.name}" for n in case.graph.nodes]
    assert lines[-1].startswith("return %")
    assert lines[-1].endswith(f"after T={case.graph.T}")


_MAP = TensorType((1, 2, 2), IntRange(-9, 9), Kind.GRADED)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (ops.Sum(axes=(0, 2)), "Sum(%x) {axes=(0,2)} : graded[-18,18][2]"),
        (
            ops.Sum(axes=(0,), keepdims=True),
            "Sum(%x) {axes=(0,) keepdims=True} : graded[-9,9][1,2,2]",
        ),
        (ops.Permute(axes=(2, 0, 1)), "Permute(%x) {axes=(2,0,1)} : graded[-9,9][2,1,2]"),
        (
            ops.Slice(axis=1, start=0, stop=1),
            "Slice(%x) {axis=1 start=0 stop=1} : graded[-9,9][1,1,2]",
        ),
        (
            ops.MaxPool2d(kernel=(2, 2), stride=(1, 1), padding=(1, 0)),
            "MaxPool2d(%x) {kernel=(2,2) stride=(1,1) padding=(1,0)} : graded[-9,9][1,3,1]",
        ),
        (
            ops.Linear(weight=IntTensor.of([[1, -2]]), bias=IntTensor.of([7]), graded=True),
            "Linear(%x) {weight=i2[1,2]#ccc8c196 bias=7 graded=True} : graded[-20,34][1,2,1]",
        ),
        (
            ops.Conv2d(weight=IntTensor.of([[[[3]]]]), bias=IntTensor.of([0]), graded=True),
            "Conv2d(%x) {weight=3 bias=0 graded=True} : graded[-27,27][1,2,2]",
        ),
        (
            ops.Neuron(threshold=IntTensor.of([65]), dv=2048),
            "Neuron(%x) {threshold=65 dv=2048} : spikes[1,2,2]",
        ),
        (
            ops.Neuron(threshold=IntTensor.of([65, 1]), reset=ops.Reset.NONE, ternary=True),
            "Neuron(%x) {threshold=i7[2]#77080a3a reset=none ternary=True} : spikes[-1,1][1,2,2]",
        ),
    ],
)
def test_attributes_that_are_not_the_default_are_shown(op: ops.Op, text: str) -> None:
    graph = Graph((Node("x", ops.Input(type=_MAP)), Node("y", op, ("x",))), ("y", "x"), 1)
    assert dumps(graph).splitlines() == [
        "%x = Input() : graded[-9,9][1,2,2]",
        f"%y = {text}",
        "return %y, %x after T=1",
    ]
