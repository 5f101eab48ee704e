"""`.onnx`: what the file says, that anybody can run it, and what is refused."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lapilli.export.onnx import windows
from lapilli.export.onnx import writer as exporter
from lapilli.export.onnx.function import OPSET
from lapilli.export.onnx.writer import save_onnx, to_onnx
from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import attention_block
from lapilli.simulators.reference import Reference

VARIANTS = [(step, inlined) for step in (False, True) for inlined in (False, True)]
BLOCK = attention_block()


@pytest.fixture(scope="module")
def network() -> Network:
    source = InputQuantizer(mean=(Fraction(1, 2),), std=(Fraction(1, 3),), exponent=5, lo=-9, hi=9)
    return Network(
        graph=BLOCK, input=source, logit_scale=Fraction(1, 64), classes=("cat", "dog", "eel")
    )


def spikes(shape: tuple[int, ...], seed: int = 0) -> IntArray:
    return (np.random.default_rng(seed).random(shape) < 0.4).astype(np.int64)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Of the graph, the step inside it, and the functions."""
    todo = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while todo:
        node = todo.pop()
        yield node
        todo += [n for a in node.attribute if a.HasField("g") for n in a.g.node]


def step_of(model: onnx.ModelProto) -> onnx.GraphProto:
    scans = [n for n in model.graph.node if n.op_type == "Scan"]
    return next(a.g for a in scans[0].attribute if a.name == "body") if scans else model.graph


def facts(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}


def session(file: Path | bytes) -> Any:
    return onnxruntime.InferenceSession(
        file if isinstance(file, bytes) else str(file), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_scan_file_is_one_call_for_anybody(
    network: Network, tmp_path: Path, batch: int
) -> None:
    """No lapilli at run time: what the documents tell a user to write."""
    save_onnx(network, tmp_path / "net.onnx")
    x = spikes((8, batch, 4, 6))
    want = Reference().compile(BLOCK).run({"x": x}).values["logits"]
    (logits,) = session(tmp_path / "net.onnx").run(None, {"x": x.astype(np.uint8)})
    assert np.array_equal(logits, want)
    assert len(np.unique(want[-1])) > 2


def test_the_step_file_is_a_loop_for_anybody(network: Network, tmp_path: Path) -> None:
    save_onnx(network, tmp_path / "step.onnx", step=True)
    x = spikes((8, 3, 4, 6))
    want = Reference().compile(BLOCK).run({"x": x}).values["logits"]
    loop = session(tmp_path / "step.onnx")
    names = [o.name for o in loop.get_outputs()]
    types = {"tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}
    fed = [i for i in loop.get_inputs() if i.name != "x"]
    state = {i.name: np.zeros((3, *i.shape[1:]), types[i.type]) for i in fed}
    for t in range(8):
        out = dict(zip(names, loop.run(None, {"x": x[t].astype(np.uint8), **state}), strict=True))
        state = {name: out[f"{name}/next"] for name in state}
        assert np.array_equal(out["logits"], want[t])


@pytest.mark.parametrize(("step", "inlined"), VARIANTS)
def test_the_file_is_valid_and_says_what_it_is(
    network: Network, tmp_path: Path, step: bool, inlined: bool
) -> None:
    save_onnx(network, tmp_path / "net.onnx", step=step, inlined=inlined)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert {o.version for o in model.opset_import if o.domain == ""} == {21}
    told = facts(model)
    assert told["lapilli.format"] == "lapilli-onnx/1"
    assert told["lapilli.digest"] == BLOCK.digest
    assert told["lapilli.T"] == "8"
    assert told["lapilli.logit_scale"] == "1/64"
    assert json.loads(told["lapilli.classes"]) == ["cat", "dog", "eel"]
    assert json.loads(told["lapilli.input"])["std"] == ["1/3"]
    assert json.loads(told["lapilli.values"])["attn.fire"]["current"].startswith("attn")
    assert json.loads(told["lapilli.int64_states"]) == []
    ours = [n for n in all_nodes(model) if n.domain == "org.lapilli"]
    assert [bool(ours), bool(model.functions)] == [not inlined, not inlined]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [*([] if step else [8]), "batch", 4, 6]


def test_equal_networks_give_equal_bytes(network: Network, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_onnx(network, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("step", "inlined"), VARIANTS)
def test_no_value_is_a_float(step: bool, inlined: bool) -> None:
    model = to_onnx(BLOCK, step=step, inlined=inlined)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    body = step_of(inferred)
    infos = [*inferred.graph.input, *inferred.graph.output, *body.input, *body.output]
    found = {i.type.tensor_type.elem_type for i in (*infos, *body.value_info)}
    found |= {t.data_type for t in inferred.graph.initializer}
    integers = {getattr(onnx.TensorProto, t) for t in ("UINT8", "INT8", "INT32", "INT64", "BOOL")}
    assert found <= integers
    assert len(body.value_info) > 20
    casts = [a.i for n in all_nodes(model) if n.op_type == "Cast" for a in n.attribute]
    assert set(casts) <= integers


def test_names_keep_the_hierarchy() -> None:
    model = to_onnx(BLOCK)
    names = {n.name for n in step_of(model).node}
    assert {"q.linear/MatMulInteger", "q.linear/Add", "q/LIF_1", "head/MatMulInteger"} <= names
    assert {"q.linear/weight", "q/threshold"} <= {t.name for t in model.graph.initializer}
    assert "q[t]" in {o for n in step_of(model).node for o in n.output}


def names_stand_once(model: onnx.ModelProto, graph: Graph) -> list[str]:
    """Each operator is called `<node>/<operator>`, and no value has another's name: all values."""
    inner = step_of(model)
    bodies = [model.graph] if inner is model.graph else [model.graph, inner]
    for body in bodies:
        operators = [n.name for n in body.node]
        assert len(set(operators)) == len(operators)
        assert all(operators)
    for name in (n.name for n in inner.node):
        node, operator = name.rsplit("/", 1)
        assert node in graph.types, name
        assert re.fullmatch(r"[A-Z][A-Za-z]+(_\d+)*", operator), name
    values = [o for body in bodies for n in body.node for o in n.output]
    values += [i.name for body in bodies for i in body.input]
    values += [t.name for t in model.graph.initializer]
    assert len(set(values)) == len(values)
    return values


@pytest.mark.parametrize(("step", "inlined"), VARIANTS)
def test_every_name_is_readable_and_stands_once(step: bool, inlined: bool) -> None:
    """What a viewer shows: `<node of the graph>/<operator>`, and no bare counters."""
    model = to_onnx(BLOCK, step=step, inlined=inlined)
    values = names_stand_once(model, BLOCK)
    assert len(values) > 40
    roots = {*BLOCK.types, "steps", "batch", *(np.dtype(t).name for t in (np.int32, np.int64))}
    for value in values:
        assert re.split(r"/|\[t\]", value)[0] in roots, value
    for function in model.functions:
        assert all(n.name for n in function.node)
        assert function.doc_string


def test_the_page_states_the_versions() -> None:
    root = Path(__file__).resolve().parents[2]
    page, pins = (root / "docs" / "onnx.md").read_text(), (root / "constraints.txt").read_text()
    pinned = dict(re.findall(r"^(onnx|onnxruntime)==(\S+)$", pins, re.MULTILINE))
    assert f"Opset {OPSET}, IR {exporter.IR_VERSION} " in page
    assert f"tested with onnx {pinned['onnx']} and onnxruntime {pinned['onnxruntime']} " in page


def test_inlined_lines_keep_away_from_names_of_the_graph() -> None:
    fire = ops.Neuron(threshold=IntTensor.of([64]), dv=2048)
    odd = ("y/Cast", "y/Where", "y/v", "y/membrane", "y")
    nodes = [Node("x", ops.Input(type=TensorType.spikes(2)))]
    nodes += [Node(name, fire, ("x",)) for name in odd]
    graph = Graph(tuple(nodes), odd, T=3)
    x = spikes((3, 2, 2))
    want = Reference().compile(graph).run({"x": x}).values
    for step in (False, True):
        onnx.checker.check_model(to_onnx(graph, step=step, inlined=True), full_check=True)
    made = session(to_onnx(graph, inlined=True).SerializeToString())
    for name, got in zip(odd, made.run(None, {"x": x.astype(np.uint8)}), strict=True):
        assert np.array_equal(got, want[name]), name
    assert 0 < want["y"].mean() < 1


def test_a_name_of_the_graph_is_never_taken() -> None:
    """Modules may be called what helpers are called."""
    linear = ops.Linear(weight=IntTensor.of([[3, -2]]), bias=IntTensor.of([1]))
    odd = ("y/MatMulInteger", "y/weight", "int64/0x2", "y[t]", "batch", "y")
    nodes = [Node("x", ops.Input(type=TensorType.spikes(2)))]
    nodes += [Node(name, linear, ("x",)) for name in odd]
    nodes += [Node("sum/total", ops.Readout(), ("y",)), Node("sum", ops.Readout(), ("y",))]
    graph = Graph(tuple(nodes), (*odd, "sum/total", "sum", "x"), T=2)
    x = spikes((2, 3, 2))
    want = Reference().compile(graph).run({"x": x}).values
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    made = session(model.SerializeToString())
    outputs = json.loads(facts(model)["lapilli.outputs"])
    got = dict(
        zip(outputs, made.run(list(outputs.values()), {"x": x.astype(np.uint8)}), strict=True)
    )
    for name in graph.outputs:
        assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("least", [1, windows.CHANNELS])
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_graphs_are_valid_models(
    graphs: st.SearchStrategy[Graph],
    data: st.DataObject,
    least: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where small maps are cut into windows, as large ones are."""
    for threshold in ("CHANNELS", "TERMS", "POOLED_CHANNELS"):
        monkeypatch.setattr(windows, threshold, least)
    graph = data.draw(graphs)
    step, inlined = data.draw(st.sampled_from(VARIANTS))
    model = to_onnx(graph, step=step, inlined=inlined)
    onnx.checker.check_model(model, full_check=True)
    names_stand_once(model, graph)


def test_signed_weights_meet_small_activations_alone() -> None:
    """Unsigned by signed products saturate without VNNI where the unsigned one is above 128."""
    # Two products are added in 16 bits: of a weight of -128 and an activation a, the least is
    # -2 * 128 * a, which 16 bits hold up to a = 128 and no further.
    most = max(a for a in range(1, 256) if -2 * 128 * a >= np.iinfo(np.int16).min)
    assert most == 128
    rng = np.random.default_rng(0)
    linear = ops.Linear(
        weight=IntTensor.of(rng.integers(-127, 128, (4, 6))), bias=IntTensor.of([0] * 4),
        graded=True,
    )  # fmt: skip
    kinds = [(0, 1), (0, most), (0, most + 1), (-1, 1), (-127, 127), (0, 1000)]
    signed = []
    for lo, hi in kinds:
        source = ops.Input(type=TensorType((6,), IntRange(lo, hi), Kind.GRADED))
        graph = Graph((Node("x", source), Node("y", linear, ("x",))), ("y",), T=1)
        types = {t.name: t.data_type for t in to_onnx(graph).graph.initializer}
        signed.append(types["y/weight"] == onnx.TensorProto.INT8)
    assert signed == [True, True, False, False, False, False]


RULE = [(0, 1), (0, 128), (0, 129), (-1, 1), (0, 1000)]


@pytest.mark.parametrize(("lo", "hi"), RULE)
def test_the_rule_holds_for_convolutions_and_values(lo: int, hi: int) -> None:
    """Signed bytes on the right only where what they meet is proved to lie in 0..128."""
    weight = np.random.default_rng(0).integers(-127, 128, (4, 32, 3, 3))
    convolution = ops.Conv2d(weight=IntTensor.of(weight), bias=IntTensor.of([0] * 4), graded=True)
    x, v = TensorType((32, 4, 4), IntRange(lo, hi), Kind.GRADED), TensorType.spikes(32, 4, 3)
    nodes = (
        Node("x", ops.Input(type=x)),
        Node("v", ops.Input(type=v)),
        Node("y", convolution, ("x",)),
        Node("z", ops.SpikeMatmul(), ("x", "v")),
    )
    model = to_onnx(Graph(nodes, ("y", "z"), T=1), step=True)
    signed = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8}
    casts = [n for n in model.graph.node if n.op_type == "Cast"]
    signed |= {n.output[0] for n in casts if n.attribute[0].i == onnx.TensorProto.INT8}
    products = [n for n in model.graph.node if n.op_type in ("MatMulInteger", "ConvInteger")]
    assert {n.name.split("/")[0] for n in products} == {"y", "z"}
    for product in products:
        assert (product.input[1] in signed) == (lo >= 0 and hi <= 128), product.name


@pytest.mark.parametrize(
    ("channels", "kernel", "groups", "operator"),
    [
        (32, 3, 1, "MatMulInteger"),
        (31, 3, 1, "ConvInteger"),
        (256, 1, 1, "MatMulInteger"),
        (255, 1, 1, "ConvInteger"),
        (64, 3, 2, "ConvInteger"),
    ],
)
def test_convolutions_become_rows_where_that_is_faster(
    channels: int, kernel: int, groups: int, operator: str
) -> None:
    weight = np.ones((2, channels // groups, kernel, kernel), np.int64)
    op = ops.Conv2d(weight=IntTensor.of(weight), bias=IntTensor.of([0, 0]), groups=groups)
    source = ops.Input(type=TensorType.spikes(channels, 4, 4))
    graph = Graph((Node("x", source), Node("y", op, ("x",))), ("y",), T=1)
    used = {n.op_type for n in all_nodes(to_onnx(graph))}
    assert used & {"ConvInteger", "MatMulInteger"} == {operator}


def test_where_windows_lie_is_written_once() -> None:
    """However many nodes have maps, kernels, strides and paddings of a kind."""
    pool = ops.MaxPool2d(kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    nodes = [Node("x", ops.Input(type=TensorType.spikes(16, 5, 5)))]
    nodes += [Node(f"y{i}", pool, ("x",)) for i in range(3)]
    model = to_onnx(Graph(tuple(nodes), ("y0", "y1", "y2"), T=1))
    (places,) = (t for t in model.graph.initializer if t.name.startswith("int32/windows"))
    assert list(places.dims) == [25, 9]


def wide(name: str, terms: int, hi: int) -> tuple[Node, Node]:
    source = ops.Input(type=TensorType((terms,), IntRange(0, hi), Kind.COUNTS))
    weight = IntTensor.of(np.ones((1, terms), np.int64))
    return Node(f"{name}.in", source), Node(name, ops.Linear(weight=weight, bias=IntTensor.of([0])),
                                            (f"{name}.in",))  # fmt: skip


def test_sums_beyond_32_bits_are_refused_all_at_once() -> None:
    """16 513 products of 255 by 255, zero points aside, pass 2**31; with spikes they do not."""
    nodes = (*wide("a", 16_513, 255), *wide("b", 16_512, 255), *wide("c", 50_000, 200),
             *wide("d", 40_000, 1))  # fmt: skip
    graph = Graph(nodes, ("a", "b", "c", "d"), T=1)
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(graph)
    assert [r.node for r in caught.value.reasons] == ["a", "c"]
    assert "33 bits; MatMulInteger and ConvInteger have 32" in caught.value.reasons[0].reason
    kept = Graph(nodes[2:4], ("b",), T=1)
    full = np.full((1, 1, 16_512), 255, np.uint8)
    ones = session(to_onnx(kept).SerializeToString()).run(None, {"b.in": full})[0]
    assert ones.tolist() == [[[16_512 * 255]]]


@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("w", [-128, 127])
def test_the_longest_sum_that_is_taken_does_not_wrap(x: int, w: int) -> None:
    """Zero points on both sides, every product at its end."""
    terms = 16_512
    source = ops.Input(type=TensorType((terms,), IntRange(-128, 127), Kind.GRADED))
    weight = np.full((1, terms), w)
    linear = ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of([0]), graded=True)
    graph = Graph((Node("x", source), Node("y", linear, ("x",))), ("y",), T=1)
    given = np.full((1, 1, terms), x, np.int8)
    (y,) = session(to_onnx(graph).SerializeToString()).run(None, {"x": given})
    assert y.tolist() == [[[terms * x * w]]]


def test_sums_beyond_64_bits_are_refused() -> None:
    source = TensorType((2, 2), IntRange(-(1 << 55), 1 << 55), Kind.GRADED)
    gate = TensorType((2, 2), IntRange(0, 16), Kind.COUNTS)
    nodes = (
        Node("v", ops.Input(type=source)),
        Node("g", ops.Input(type=gate)),
        Node("y", ops.SpikeMatmul(), ("g", "v")),
    )
    with pytest.raises(UnsupportedError, match=r"y: its sum can need \d+ bits; int64 has 64"):
        to_onnx(Graph(nodes, ("y",), T=1))


def test_more_weights_than_a_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "LARGEST", (1 << 24) + 100)
    with pytest.raises(UnsupportedError, match=r"q.linear: .* weights of 126 bytes; .* holds 100"):
        to_onnx(BLOCK)


def test_a_graph_without_outputs_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="outputs: there is none"):
        to_onnx(Graph((Node("x", ops.Input(type=TensorType.spikes(2))),), (), T=1))


def test_an_output_may_be_an_input_or_stand_twice() -> None:
    nodes = (Node("x", ops.Input(type=TensorType.spikes(2))), Node("y", ops.Add(), ("x", "x")))
    for step in (False, True):
        model = to_onnx(Graph(nodes, ("x", "y", "y"), T=2), step=step)
        onnx.checker.check_model(model, full_check=True)
        x = spikes((3, 2) if step else (2, 3, 2)).astype(np.uint8)
        once, twice, again = session(model.SerializeToString()).run(None, {"x": x})
        assert np.array_equal(once, x)
        assert np.array_equal(twice, 2 * x)
        assert np.array_equal(twice, again)


def _imagenet_sized() -> Graph:
    """Layers with the weights of Spikformer-8-768 for 224 x 224 images, on a small map."""
    rng = np.random.default_rng(0)
    dim, hidden, side = 768, 3072, 2
    nodes = [Node("image", ops.Input(type=TensorType((3, 4, 4), IntRange(-127, 127), Kind.GRADED)))]
    fire = ops.Neuron(threshold=IntTensor.of([64 * 40 + 1]), dv=2048)

    def add(name: str, op: Any, *sources: str) -> str:
        nodes.append(Node(name, op, sources))
        return name

    def weights(*shape: int) -> tuple[IntTensor, IntTensor]:
        return (IntTensor.of(rng.integers(-127, 128, shape, np.int64)),
                IntTensor.of(rng.integers(-99, 100, shape[0])))  # fmt: skip

    x, channels = "image", 3
    for stage, out in enumerate((96, 192, 384, dim, dim)):
        w, b = weights(out, channels, 3, 3)
        stride = (2, 2) if stage == 0 else (1, 1)
        op = ops.Conv2d(weight=w, bias=b, padding=(1, 1), stride=stride, graded=stage == 0)
        x = add(f"sps.{stage}.lif", fire, add(f"sps.{stage}.conv", op, x))
        channels = out
    x = add("tokens", ops.Reshape(shape=(dim, side * side)), x)
    x = add("tokens.last", ops.Permute(axes=(1, 0)), x)
    for block in range(8):
        for role, (rows, columns) in {
            "q": (dim, dim), "k": (dim, dim), "v": (dim, dim), "proj": (dim, dim),
            "fc1": (hidden, dim), "fc2": (dim, hidden),
        }.items():  # fmt: skip
            w, b = weights(rows, columns)
            linear = add(f"block.{block}.{role}", ops.Linear(weight=w, bias=b), x)
            fired = add(f"block.{block}.{role}_lif", fire, linear)
            x = x if role in ("q", "k") else fired
    w, b = weights(1000, dim)
    add("logits", ops.Readout(), add("head", ops.Linear(weight=w, bias=b), x))
    return Graph(tuple(nodes), ("logits",), T=4)


@pytest.mark.slow
def test_66_million_weights_take_a_byte_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = _imagenet_sized()
    weights = sum(
        math.prod(n.op.weight.shape)
        for n in graph.nodes
        if isinstance(n.op, ops.Linear | ops.Conv2d)
    )
    assert weights > 66_000_000
    source = InputQuantizer(mean=(Fraction(0),) * 3, std=(Fraction(1),) * 3, exponent=6, lo=-127,
                            hi=127)  # fmt: skip
    network = Network(graph=graph, input=source, logit_scale=Fraction(1), classes=())
    for step in (False, True):
        start = time.perf_counter()
        save_onnx(network, tmp_path / "large.onnx", step=step)
        seconds = time.perf_counter() - start
        size = (tmp_path / "large.onnx").stat().st_size
        with capsys.disabled():
            print(f"\n{weights} weights, {size / weights:.3f} bytes each, {seconds:.1f} s")  # noqa: T201
        assert weights < size <= 1.2 * weights
        assert seconds < 30
    onnx.checker.check_model(str(tmp_path / "large.onnx"), full_check=True)
