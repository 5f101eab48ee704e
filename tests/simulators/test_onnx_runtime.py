"""onnxruntime on our models: exact on any graph, and able to tell a wrong file from a right one."""

from __future__ import annotations

import bisect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from onnx import numpy_helper

from lapilli.deploy.comparison.compare import compare_recordings
from lapilli.export.onnx import windows
from lapilli.export.onnx import writer as exporter
from lapilli.export.onnx.writer import to_onnx
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, RangeError, SimulatorUnavailableError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, attention_block, check
from lapilli.simulators.onnx import Onnx, load
from lapilli.simulators.reference import Reference

Feed = Callable[[Graph, int], dict[str, IntArray]]
VARIANTS = tuple(Onnx(step=s, inlined=i) for s in (False, True) for i in (False, True))
BLOCK = attention_block()


@hypothesis_settings(max_examples=100)
@given(data=st.data())
def test_any_graph_is_exact(
    graphs: st.SearchStrategy[Graph], feed: Feed, data: st.DataObject
) -> None:
    graph = data.draw(graphs)
    case = Case(
        "random", "any op after any other", graph, feed(graph, data.draw(st.integers(0, 99)))
    )
    assert check(data.draw(st.sampled_from(VARIANTS)), case) > 0


@pytest.mark.parametrize("simulator", VARIANTS, ids=str)
def test_a_general_neuron_of_no_axis(simulator: Onnx) -> None:
    op = ops.GeneralNeuron(
        threshold=IntTensor.of([[[3]]]), bias=IntTensor.of([[1]]), taps=IntTensor.of([[[1], [1]]])
    )
    nodes = (Node("x", ops.Input(type=value(0, 3))), Node("y", op, ("x",)))
    given = {"x": np.array([0, 1, 0, 2], np.int64)[:, None]}
    assert (
        check(
            simulator, Case("alone", "constants have an axis more", Graph(nodes, ("y",), 4), given)
        )
        > 0
    )


def ints(*shape: int, most: int = 127, seed: int = 0) -> IntTensor:
    return IntTensor.of(np.random.default_rng(seed).integers(-most, most + 1, shape))


def value(lo: int, hi: int, *shape: int, kind: Kind = Kind.GRADED) -> TensorType:
    return TensorType(shape, IntRange(lo, hi), kind)


# Beyond one byte, 24 bits and 32 bits; negative; at both ends of every range.
WIDE: dict[str, tuple[ops.Op, tuple[TensorType, ...]]] = {
    "an image of signed bytes": (
        ops.Conv2d(weight=ints(5, 3, 3, 3), bias=ints(5), padding=(1, 1), graded=True),
        (value(-127, 127, 3, 6, 6),),
    ),
    "counts beyond a byte, depthwise": (
        ops.Conv2d(weight=ints(4, 1, 3, 3), bias=ints(4), padding=(1, 1), groups=4),
        (value(0, 1000, 4, 5, 5, kind=Kind.COUNTS),),
    ),
    "counts of a byte, above 128": (
        ops.Linear(weight=ints(5, 40), bias=ints(5)),
        (value(0, 255, 3, 40, kind=Kind.COUNTS),),
    ),
    "weights of 20 bits": (
        ops.Linear(weight=ints(5, 40, most=1 << 19), bias=ints(5, most=1 << 30)),
        (value(-1, 1, 3, 40, kind=Kind.SPIKES),),
    ),
    "sums of 40 bits": (
        ops.Linear(weight=ints(5, 40, most=1 << 19), bias=ints(5), graded=True),
        (value(-70_000, 50_000, 3, 40),),
    ),
    "spikes by values of 30 bits": (
        ops.SpikeMatmul(),
        (value(0, 1, 2, 4, 9, kind=Kind.SPIKES), value(-(1 << 29), 1 << 29, 2, 9, 5)),
    ),
    "values by ternary spikes": (
        ops.SpikeMatmul(),
        (value(-300, 300, 4, 9), value(-1, 1, 9, 5, kind=Kind.SPIKES)),
    ),
    "ternary by ternary": (
        ops.SpikeMatmul(),
        (value(-1, 1, 4, 9, kind=Kind.SPIKES), value(-1, 1, 9, 5, kind=Kind.SPIKES)),
    ),
    "a gate on 40 bits": (
        ops.Gate(),
        (value(-1, 1, 9, kind=Kind.SPIKES), value(-(1 << 40), 1 << 40, 9)),
    ),
    "a pool of 20 bits": (
        ops.MaxPool2d(kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
        (value(-(1 << 19), 0, 2, 5, 5),),
    ),
    "a pool of 34 bits": (
        ops.MaxPool2d(kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        (value(-(1 << 33), 99, 2, 6, 6),),
    ),
    "the positive of 34 bits": (ops.Relu(), (value(-(1 << 33), 1 << 33, 50),)),
    "a sum of 34 bits": (ops.Sum(axes=(0,)), (value(-(1 << 31), 1 << 31, 6, 5),)),
    "steps of 34 bits": (
        ops.Staircase(thresholds=ints(7, 50, most=1 << 33)),
        (value(-(1 << 33), 1 << 33, 50),),
    ),
    "more steps than a byte counts": (
        ops.Staircase(thresholds=ints(300, 1, most=99)),
        (value(-99, 99, 50),),
    ),
    "bytes of two kinds in a row": (ops.Concat(axis=0), (value(0, 255, 4), value(-128, 5, 4))),
    "a neuron of 40 bits": (
        ops.Neuron(
            threshold=IntTensor.of([1 << 33]),
            dv=1000,
            du=2000,
            bias=ints(1, most=1 << 20),
            reset=ops.Reset.BY_SUBTRACTION,
            reset_by=1 << 32,
            ternary=True,
        ),
        (value(-(1 << 30), 1 << 30, 50),),
    ),
    "a neuron whose products alone pass 32 bits": (
        ops.Neuron(threshold=IntTensor.of([1 << 20]), dv=1365, fraction_bits=0),
        (value(-(1 << 22), 1 << 22, 50),),
    ),
}


@pytest.mark.parametrize("simulator", VARIANTS, ids=repr)
@pytest.mark.parametrize("name", WIDE)
def test_wide_and_negative_values(name: str, simulator: Onnx, feed: Feed) -> None:
    op, kinds = WIDE[name]
    given = tuple(f"x{i}" for i in range(len(kinds)))
    nodes = [Node(n, ops.Input(type=kind)) for n, kind in zip(given, kinds, strict=True)]
    graph = Graph((*nodes, Node("y", op, given)), ("y",), T=4)
    case = Case(name, "no carrier is too narrow", graph, feed(graph, 1))
    assert check(simulator, case) > 0
    assert len(np.unique(Reference().compile(graph).run(case.inputs).values["y"])) > 1


@pytest.fixture
def always_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions and pools become rows of bytes however few channels they have."""
    for threshold in ("CHANNELS", "TERMS", "POOLED_CHANNELS"):
        monkeypatch.setattr(windows, threshold, 1)


@pytest.mark.usefixtures("always_rows")
@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_graph_is_exact_in_rows(
    graphs: st.SearchStrategy[Graph], feed: Feed, data: st.DataObject
) -> None:
    graph = data.draw(graphs)
    case = Case("random", "small maps, too", graph, feed(graph, data.draw(st.integers(0, 99))))
    assert check(data.draw(st.sampled_from(VARIANTS)), case) > 0


# Maps that are not square; every way to lie over the edge; both ends of a byte.
ROWS: dict[str, tuple[ops.Op, TensorType]] = {
    "a kernel, a stride and a padding with two sides": (
        ops.Conv2d(weight=ints(5, 3, 3, 2), bias=ints(5), stride=(2, 1), padding=(1, 2)),
        value(0, 1, 3, 7, 5, kind=Kind.SPIKES),
    ),
    "a window that is all padding": (
        ops.Conv2d(weight=ints(4, 2, 1, 1), bias=ints(4), padding=(1, 1)),
        value(0, 3, 2, 2, 3, kind=Kind.COUNTS),
    ),
    "a point": (
        ops.Conv2d(weight=ints(5, 3, 1, 1), bias=ints(5)),
        value(0, 1, 3, 4, 6, kind=Kind.SPIKES),
    ),
    "a point with a stride": (
        ops.Conv2d(weight=ints(5, 3, 1, 1), bias=ints(5), stride=(2, 3)),
        value(0, 1, 3, 4, 6, kind=Kind.SPIKES),
    ),
    "the largest that no pair of products saturates": (
        ops.Conv2d(weight=IntTensor.of(np.full((3, 40, 3, 3), -128)), bias=IntTensor.of([0] * 3)),
        value(0, 128, 40, 4, 4, kind=Kind.COUNTS),
    ),
    "a bias beyond 32 bits": (
        ops.Conv2d(weight=ints(2, 3, 2, 2), bias=IntTensor.of([1 << 40, -(1 << 40)])),
        value(0, 1, 3, 4, 4, kind=Kind.SPIKES),
    ),
    "a pool of negative bytes": (
        ops.MaxPool2d(kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
        value(-128, -5, 2, 5, 4),
    ),
    "a pool of unsigned bytes": (
        ops.MaxPool2d(kernel=(2, 3), stride=(1, 2), padding=(1, 0)),
        value(0, 255, 2, 4, 7),
    ),
}


@pytest.mark.usefixtures("always_rows")
@pytest.mark.parametrize("simulator", VARIANTS, ids=repr)
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_bytes(name: str, simulator: Onnx, feed: Feed) -> None:
    op, kind = ROWS[name]
    graph = Graph((Node("x", ops.Input(type=kind)), Node("y", op, ("x",))), ("y",), T=2)
    used = {n.op_type for b in bodies(to_onnx(graph)) for n in b.node}
    assert not used & {"ConvInteger", "MaxPool"}
    assert check(simulator, Case(name, "rows", graph, feed(graph, 1))) > 0


def remembering(d: int, most: int, bits: int, *, current: bool) -> Graph:
    """A neuron whose second step shows what a decay leaves of its first input."""
    fire = ops.Neuron(
        threshold=IntTensor.of([max(1, most // 2)]),
        dv=ops.DECAY_ONE if current else d,
        du=d if current else ops.DECAY_ONE,
        fraction_bits=bits,
        reset=ops.Reset.NONE,
        ternary=True,
    )
    source = ops.Input(type=value(-most, most, 400))
    return Graph((Node("x", source), Node("y", fire, ("x",))), ("y",), T=2)


NARROW, WIDE_STATE = ((1 << 31) - 1) // 4095, (1 << 50) - 1  # all d in int32; all that is held


@hypothesis_settings(max_examples=60)
@given(
    d=st.one_of(st.sampled_from([0, 1, 1365, 2047, 2048, 3072, 4095]), st.integers(0, 4095)),
    most=st.one_of(
        st.sampled_from([1, NARROW // 2, NARROW, NARROW + 1, (1 << 23) - 1, 1 << 29, WIDE_STATE]),
        st.integers(1, WIDE_STATE),
    ),
    bits=st.sampled_from([0, 0, -1, -6]),
    current=st.booleans(),
    simulator=st.sampled_from(VARIANTS),
)
def test_a_decay_is_exact_at_the_ends_and_around_zero(
    d: int, most: int, bits: int, current: bool, simulator: Onnx
) -> None:
    graph = remembering(d, most, bits, current=current)
    ends = [*range(-most, -most + 66), *range(most - 66, most + 1), *range(-33, 34)]
    drawn = np.random.default_rng(d).integers(-most, most + 1, 400 - len(ends))
    first = np.clip(np.concatenate([np.array(ends), drawn]), -most, most)
    x = np.zeros((2, 1, 400), np.int64)
    x[0, 0] = first
    case = Case("decay", f"{d} of {most}, {bits} bits", graph, {"x": x})
    assert check(simulator, case) > 0


@pytest.mark.parametrize(("d", "factor"), [(1, 4095), (1365, 2731), (3072, 1)])
def test_a_decay_leaves_int32_where_a_product_could(d: int, factor: int) -> None:
    """What the bounds prove decides, to a unit; in int64 there is no `Sign` to trust."""

    def product(most: int) -> int:  # of what the second step's current can be
        return (most + (most * (ops.DECAY_ONE - d) >> 12)) * factor

    last = bisect.bisect_right(range(1 << 30), (1 << 31) - 1, key=product) - 1
    for most, operator in ((last, "Div"), (last + 1, "BitShift"), (1 << 32, "Div")):
        if factor == 1 and operator == "BitShift":
            continue  # no product: the state itself is what int32 holds
        model = to_onnx(remembering(d, most, 0, current=True), inlined=True)
        used = {n.op_type for b in bodies(model) for n in b.node}
        assert used & {"Div", "BitShift"} == {operator}, most


def test_an_input_shift_beyond_int32_needs_an_int64_state(feed: Feed) -> None:
    """The number 2**32 itself is one of the function's lines."""
    for bits in (-32, -31, 31, 32):
        fire = ops.Neuron(threshold=IntTensor.of([1]), dv=2048, fraction_bits=bits)
        nodes = (Node("x", ops.Input(type=value(-1, 1, 50))), Node("y", fire, ("x",)))
        graph = Graph(nodes, ("y",), T=2)
        case = Case("shift", "beyond a carrier", graph, feed(graph, 1))
        assert check(Onnx(), case) > 0


def test_which_states_are_int64_is_declared() -> None:
    nodes = [Node("x", ops.Input(type=value(-(1 << 20), 1 << 20, 3)))]
    for name, bits in (("narrow", 6), ("wide", 12)):
        op = ops.Neuron(threshold=IntTensor.of([1]), fraction_bits=bits)
        nodes.append(Node(name, op, ("x",)))
    props = to_onnx(Graph(tuple(nodes), ("narrow", "wide"), T=3)).metadata_props
    assert {p.key: p.value for p in props}["lapilli.int64_states"] == '["wide"]'


def bodies(model: onnx.ModelProto) -> list[Any]:
    """Everything in a model that holds nodes."""
    scans = [n for n in model.graph.node if n.op_type == "Scan"]
    steps = [a.g for n in scans for a in n.attribute if a.name == "body"]
    return [model.graph, *steps, *model.functions]


def one_weight(model: onnx.ModelProto) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == "k.linear/weight")
    array = numpy_helper.to_array(tensor).copy()
    array[2, 3] += 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def one_threshold(model: onnx.ModelProto) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == "v/threshold")
    array = numpy_helper.to_array(tensor) - 64 * 8
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def a_strict_comparison(model: onnx.ModelProto) -> None:
    found = [n for b in bodies(model) for n in b.node if n.op_type == "GreaterOrEqual"]
    assert found
    for node in found:
        node.op_type = "Greater"


def no_reset(model: onnx.ModelProto) -> None:
    """Take the factor out that says who was silent: `Mul` by the `Cast` of a `Not`."""
    planted = 0
    for body in bodies(model):
        nots = {n.output[0] for n in body.node if n.op_type == "Not"}
        silent = {n.output[0] for n in body.node if n.op_type == "Cast" and n.input[0] in nots}
        for node in body.node:
            if node.op_type == "Mul" and node.input[1] in silent:
                del node.input[1:]
                node.op_type = "Identity"
                planted += 1
    assert planted


PLANTED = (
    (one_weight, "k", "current"),
    (one_threshold, "v", "spikes"),
    (a_strict_comparison, "q", "spikes"),
    (no_reset, "q", "membrane"),
)


def ties() -> Graph:
    """The block with thresholds that membranes meet exactly."""
    nodes = []
    for n in BLOCK.nodes:
        op = n.op
        if isinstance(op, ops.Neuron):
            op = ops.Neuron(
                threshold=IntTensor.of([64 * 8]), dv=op.dv, fraction_bits=op.fraction_bits
            )
        nodes.append(Node(n.name, op, n.inputs))
    return Graph(tuple(nodes), BLOCK.outputs, BLOCK.T)


@pytest.mark.parametrize("simulator", VARIANTS, ids=repr)
@pytest.mark.parametrize(("plant", "node", "kind"), PLANTED)
def test_a_planted_error_in_the_file_is_caught(
    plant: Callable[[onnx.ModelProto], None], node: str, kind: str, simulator: Onnx
) -> None:
    graph = ties()
    x = {"x": (np.random.default_rng(1).random((8, 3, 4, 6)) < 0.4).astype(np.int64)}
    want = Reference().compile(graph).run(x)
    model = to_onnx(graph, step=simulator.step, inlined=simulator.inlined)
    right = compare_recordings(graph, want, load(model, graph).run(x))
    assert right.exact, str(right)
    again = to_onnx(graph, step=simulator.step, inlined=simulator.inlined)
    plant(again)
    found = compare_recordings(graph, want, load(again, graph).run(x))
    assert found.mismatches > 0
    assert found.first is not None
    assert (found.first.node, found.first.kind) == (node, kind), str(found)


def test_a_model_of_another_graph_is_refused() -> None:
    with pytest.raises(MismatchError, match="another graph"):
        load(to_onnx(BLOCK), ties())


def test_an_input_that_its_type_cannot_carry_is_refused() -> None:
    x = np.full((8, 1, 4, 6), 256)
    with pytest.raises(RangeError, match=r"node 'x': given \[256, 256\], takes \[0, 1\]"):
        Onnx().compile(BLOCK).run({"x": x})


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        SimulatorUnavailableError, match=rf"{package}: pip install 'lapilli\[onnx\]'"
    ):
        Onnx().compile(BLOCK)


def test_an_onnxruntime_that_lacks_the_opset_says_so() -> None:
    model = to_onnx(BLOCK)
    for opset in model.opset_import:
        if not opset.domain:
            opset.version = 99
    with pytest.raises(SimulatorUnavailableError, match=r"cannot run .*ai.onnx 99.*--upgrade"):
        load(model, BLOCK)


def test_an_onnxruntime_that_lacks_an_operator_says_so() -> None:
    model = to_onnx(BLOCK, inlined=True)
    for body in bodies(model):
        for node in body.node:
            if node.op_type == "MatMulInteger":
                node.op_type = "MatMulOfTomorrow"
    with pytest.raises(SimulatorUnavailableError, match="MatMulOfTomorrow") as caught:
        load(model, BLOCK)
    assert "\n" not in str(caught.value)


def test_an_answer_in_floats_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    executable = Onnx().compile(BLOCK)
    once = type(executable)._once

    def rounded(self: Any, given: Any) -> dict[str, Any]:
        return {name: array.astype(np.float32) for name, array in once(self, given).items()}

    monkeypatch.setattr(type(executable), "_once", rounded)
    with pytest.raises(MismatchError, match="float32, not in integers"):
        executable.run({"x": np.zeros((8, 1, 4, 6), np.int64)})


def test_the_checker_sees_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that breaks ONNX's own rules never reaches the runtime."""
    right = exporter.to_onnx

    def broken(*arguments: Any, **options: Any) -> onnx.ModelProto:
        model = right(*arguments, **options)
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        return model

    monkeypatch.setattr(exporter, "to_onnx", broken)
    with pytest.raises(onnx.shape_inference.InferenceError, match="elem type differs"):
        Onnx().compile(BLOCK)
