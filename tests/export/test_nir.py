"""`.nir`: a small Spike-driven network says the same after a trip through the file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.cli.network_tables import network_facts
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.importer import from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.export.nir.read.reader import parse_nir
from lapilli.export.nir.write.placement import positions
from lapilli.ir import ops
from lapilli.ir.answers import Answer
from lapilli.ir.errors import MismatchError, SimulatorUnavailableError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.nir.nirtorch import Nir, load
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")
pytest.importorskip("torch")

from lapilli.export.nir.write.writer import foreseen, save_nir, to_nir  # noqa: E402  (needs nir)

pytestmark = pytest.mark.torch

_T, _C, _HEADS, _SIDE = 4, 8, 2, 3
_N, _D = _SIDE * _SIDE, _C // _HEADS
_IMAGE = TensorType((2, 6, 6), IntRange(-8, 8), Kind.GRADED)


def half_leak(theta: int) -> ops.Neuron:
    """LIF with tau = 2. Whole thresholds, so that the membrane often meets them exactly."""
    return ops.Neuron(threshold=IntTensor.of([64 * theta]), dv=ops.DECAY_ONE // 2)


def no_leak(theta: int) -> ops.Neuron:
    return ops.Neuron(threshold=IntTensor.of([64 * theta]))


def conv(rng: np.random.Generator, out: int, fan_in: int, side: int, **options: Any) -> ops.Conv2d:
    weight = IntTensor.of(rng.integers(-7, 9, (out, fan_in, side, side)))
    return ops.Conv2d(weight=weight, bias=IntTensor.of(rng.integers(-3, 4, out)), **options)


def spike_driven(seed: int = 0) -> Graph:
    """Stem with pool, SDSA over two heads, membrane shortcut, head: every layout at once."""
    rng = np.random.default_rng(seed)
    nodes = [
        Node("image", ops.Input(type=_IMAGE)),
        Node("stem.conv", conv(rng, _C, 2, 3, padding=(1, 1), graded=True), ("image",)),
        Node("stem.lif", half_leak(75), ("stem.conv",)),
        Node(
            "stem.pool", ops.MaxPool2d(kernel=(3, 3), stride=(2, 2), padding=(1, 1)), ("stem.lif",)
        ),
        Node("rpe.conv", conv(rng, _C, _C, 3, padding=(1, 1)), ("stem.pool",)),
        Node("shortcut.lif", half_leak(12), ("rpe.conv",)),
    ]
    for role in ("q", "k", "v"):
        # The head axis is split as the model splits it: (C, H, W) -> (N, C) -> (h, N, d).
        nodes += [
            Node(f"{role}.conv", conv(rng, _C, _C, 1), ("shortcut.lif",)),
            Node(f"{role}.lif", no_leak(12) if role == "v" else half_leak(5), (f"{role}.conv",)),
            Node(f"{role}.flat", ops.Reshape(shape=(_C, _N)), (f"{role}.lif",)),
            Node(f"{role}.tokens", ops.Permute(axes=(1, 0)), (f"{role}.flat",)),
            Node(f"{role}.split", ops.Reshape(shape=(_N, _HEADS, _D)), (f"{role}.tokens",)),
            Node(f"{role}.heads", ops.Permute(axes=(1, 0, 2)), (f"{role}.split",)),
        ]
    nodes += [
        Node("kv", ops.Gate(), ("k.heads", "v.heads")),
        Node("kv.sum-over-tokens", ops.Sum(axes=(1,), keepdims=True), ("kv",)),
        Node("mask", half_leak(1), ("kv.sum-over-tokens",)),
        Node("mask.all", ops.Expand(shape=(_HEADS, _N, _D)), ("mask",)),
        Node("masked", ops.Gate(), ("q.heads", "mask.all")),
        Node("back", ops.Permute(axes=(0, 2, 1)), ("masked",)),
        Node("map", ops.Reshape(shape=(_C, _SIDE, _SIDE)), ("back",)),
        Node("proj", conv(rng, _C, _C, 1), ("map",)),
        Node("stream", ops.Add(), ("rpe.conv", "proj")),
        Node("fc.lif", half_leak(12), ("stream",)),
        Node("fc.flat", ops.Reshape(shape=(_C, _N)), ("fc.lif",)),
        Node("fc.tokens", ops.Permute(axes=(1, 0)), ("fc.flat",)),
        Node("fc", ops.Linear(weight=IntTensor.of(rng.integers(-7, 8, (_C, _C))),
                          bias=IntTensor.of(rng.integers(-3, 4, _C))), ("fc.tokens",)),
        Node("fc.back", ops.Permute(axes=(1, 0)), ("fc",)),
        Node("fc.map", ops.Reshape(shape=(_C, _SIDE, _SIDE)), ("fc.back",)),
        Node("stream.2", ops.Add(), ("stream", "fc.map")),
        Node("pooled", ops.Sum(axes=(1, 2)), ("stream.2",)),
        Node("head.lif", half_leak(250), ("pooled",)),
        Node("head", ops.Linear(weight=IntTensor.of(rng.integers(-7, 8, (3, _C))),
                            bias=IntTensor.of([1, -2, 3])), ("head.lif",)),
        Node("logits", ops.Readout(), ("head",)),
    ]  # fmt: skip
    return Graph(tuple(nodes), ("logits",), _T)


def case(seed: int = 0, batch: int = 3) -> Case:
    image = np.random.default_rng(seed + 1).integers(-8, 9, (batch, 2, 6, 6))
    given = np.broadcast_to(image, (_T, *image.shape))
    return Case(f"spike-driven-{seed}", "the whole way", spike_driven(seed), {"image": given})


def test_every_spike_and_logit_is_that_of_the_graph() -> None:
    tried = case()
    graph = tried.graph

    compared = check(Nir(), tried)

    got = Nir().compile(graph).run(tried.inputs)
    want = Reference().compile(graph).run(tried.inputs)
    names = (*graph.neurons, "stem.pool", "kv", "masked", "logits")
    assert got.values.keys() == set(names)
    assert got.membranes.keys() == got.currents.keys() == set(graph.neurons)
    assert compared == 2 * (
        sum(got.values[n].size for n in names) + 2 * sum(got.values[n].size for n in graph.neurons)
    )
    for name in names[:-1]:
        assert 0 < want.values[name].mean() < 1, name


@pytest.mark.parametrize("seed", [1, 3, 4, 5, 6, 7])
def test_other_weights(seed: int) -> None:
    assert check(Nir(), case(seed)) > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_file_imported_is_the_network_again(seed: int, tmp_path: Path) -> None:
    tried = case(seed)
    nir.write(tmp_path / "x.nir", to_nir(tried.graph))
    back = from_nir(tmp_path / "x.nir", Stated(input_range=(-8, 8)))
    layouts = json.loads(nir.read(tmp_path / "x.nir").metadata["lapilli"])["layouts"]

    want = Reference().compile(tried.graph).run(tried.inputs)
    got = Reference().compile(back).run(tried.inputs)

    assert set(back.neurons) == {*layouts}
    for name in tried.graph.neurons:  # wiring is not in the file, the layouts are
        home = positions(layouts[name]["layout"])
        flat = got.values[name].reshape(_T, 3, -1)
        assert np.array_equal(flat[..., home], want.values[name]), name
        assert 0 < want.values[name].mean() < 1, name
    assert np.array_equal(got.values["logits"], want.values["logits"])


@dataclass(frozen=True)
class Tampered:
    """The NIR simulator on a file that somebody has changed."""

    change: Callable[[Any], None]
    name: str = "tampered nir"

    def compile(self, graph: Graph) -> Any:
        read = _through_a_file(to_nir(graph))
        self.change(read.nodes)
        return load(read, graph)


def _through_a_file(graph: Any) -> Any:
    file = io.BytesIO()
    nir.write(file, graph)
    file.seek(0)
    return nir.read(file)


_NEURONS = ("stem_lif", "stem_pool", "shortcut_lif", "q_lif", "k_lif", "v_lif", "kv", "mask",
            "masked", "fc_lif", "head_lif")  # fmt: skip
_SYNAPSES = ("stem_conv", "rpe_conv", "q_conv", "k_conv", "v_conv", "proj", "fc", "head")


def _half_a_step(node: Any) -> float:
    """From the threshold to the lowest membrane that fires: where > and >= part."""
    leaks = hasattr(node, "tau_mem") and node.tau_mem.flat[0] > 1e-4
    return 2.0**-_T if leaks else 0.5


def test_the_tampering_itself_changes_nothing() -> None:
    assert check(Tampered(lambda nodes: None), case()) > 0


@pytest.mark.parametrize("name", _SYNAPSES)
def test_one_weight_is_caught(name: str) -> None:
    def change(nodes: Any) -> None:
        nodes[name].weight = nodes[name].weight.astype(np.int64)
        nodes[name].weight.flat[1] += 1  # of a channel that is not silent

    with pytest.raises(MismatchError, match="values differ"):
        check(Tampered(change), case(7, batch=64))


@pytest.mark.parametrize("name", _SYNAPSES)
def test_a_lost_bias_is_caught(name: str) -> None:
    def change(nodes: Any) -> None:
        nodes[name].bias = np.zeros_like(nodes[name].bias)

    with pytest.raises(MismatchError, match="values differ"):
        check(Tampered(change), case())


@pytest.mark.parametrize("name", _NEURONS)
@pytest.mark.parametrize("fault", ["tie", "higher", "lower"])
def test_a_threshold_is_caught(name: str, fault: str) -> None:
    def change(nodes: Any) -> None:
        by = {"tie": _half_a_step(nodes[name]), "higher": 1, "lower": -1}[fault]
        nodes[name].v_threshold = nodes[name].v_threshold + by

    with pytest.raises(MismatchError, match="values differ"):
        check(Tampered(change), case(7, batch=64))


def test_a_fraction_is_no_integer() -> None:
    def change(nodes: Any) -> None:
        nodes["head"].bias = nodes["head"].bias + 2.0**-20

    with pytest.raises(MismatchError, match="no integer"):
        check(Tampered(change), case())


def test_a_file_of_another_graph_is_refused() -> None:
    with pytest.raises(MismatchError, match="digests"):
        load(to_nir(spike_driven(0)), spike_driven(1))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nirtorch", None)
    with pytest.raises(
        SimulatorUnavailableError, match=r"needs nirtorch: pip install 'lapilli\[nir\]'"
    ):
        Nir().compile(spike_driven())


def test_what_the_file_holds() -> None:
    read = _through_a_file(to_nir(spike_driven()))

    kinds = {name: type(node).__name__ for name, node in read.nodes.items()}
    assert [k for k in kinds.values() if k in ("Input", "Output")] == ["Input", "Output"]
    assert {n for n, k in kinds.items() if k == "CubaLIF"} == {*_NEURONS} - {"v_lif"}
    assert kinds["v_lif"] == "IF"
    assert {kinds[n] for n in _SYNAPSES[:-1]} == {"Conv2d"}
    assert kinds["head"] == "Affine"
    assert all(name.isidentifier() for name in kinds)
    assert len(set(read.edges)) == len(read.edges)
    assert sum(target == "output" for _, target in read.edges) == 1
    # The membrane stream: whoever needs the sum gets every branch of it.
    assert {s for s, t in read.edges if t == "pooled"} == {"rpe_conv", "proj", "fc"}
    for name in _SYNAPSES:
        assert read.nodes[name].weight.dtype == read.nodes[name].bias.dtype == np.int8
    for name in _NEURONS:
        node = read.nodes[name]
        assert node.v_threshold.dtype == np.float64
        assert tuple(node.v_threshold.shape) == tuple(node.input_type["input"])
        assert not node.v_reset.any()
    assert np.all(read.nodes["kv"].v_threshold == 1.5)  # AND: two spikes, not one
    assert np.all(read.nodes["stem_pool"].v_threshold == 0.5)  # OR


def test_what_the_metadata_says() -> None:
    graph = spike_driven()

    facts = json.loads(_through_a_file(to_nir(graph, {"note": "mine"})).metadata["lapilli"])

    assert facts["format"] == "lapilli-nir/1"
    assert (facts["T"], facts["dt"], facts["digest"]) == (_T, 1e-4, graph.digest)
    assert facts["note"] == "mine"
    assert facts["names"]["kv_sum_over_tokens"] == "kv.sum-over-tokens"
    assert facts["output"] == {
        "name": "logits",
        "layout": {"shape": [3], "offset": 0, "strides": [1]},
        "accumulate": True,
    }
    heads = {"shape": [_HEADS, _N, _D], "offset": 0, "strides": [_D * _N, 1, _N]}
    assert facts["layouts"]["masked"] == {"node": "masked", "layout": heads, "fraction_bits": 6}


def _network() -> Network:
    quantizer = InputQuantizer(
        mean=(Fraction(1, 3),) * 2, std=(Fraction(1, 2),) * 2, exponent=2, lo=-8, hi=8
    )
    return Network(
        graph=spike_driven(), input=quantizer, logit_scale=Fraction(1, 48), classes=("a", "b", "c")
    )


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.nir", "two.nir"):
        save_nir(_network(), tmp_path / name)

    assert (tmp_path / "one.nir").read_bytes() == (tmp_path / "two.nir").read_bytes()
    facts = json.loads(nir.read(tmp_path / "one.nir").metadata["lapilli"])
    assert (facts["logit_scale"], facts["classes"]) == ("1/48", ["a", "b", "c"])
    assert facts["input"] == {
        "mean": ["1/3", "1/3"], "std": ["1/2", "1/2"], "exponent": 2, "lo": -8, "hi": 8,
    }  # fmt: skip


def test_what_reading_a_file_takes_is_known_when_it_is_written(tmp_path: Path) -> None:
    needed = save_nir(_network(), tmp_path / "net.nir")
    data = (tmp_path / "net.nir").read_bytes()
    assert parse_nir(data, needed).facts is not None
    with pytest.raises(MalformedError, match=r"if you trust it: --memory-limit \d+"):
        parse_nir(data, needed - 1)


def test_a_refused_network_leaves_no_file(tmp_path: Path) -> None:
    odd = ops.Neuron(threshold=IntTensor.of([1]), dv=1)
    nodes = (Node("x", ops.Input(type=_IMAGE)), Node("s", odd, ("x",)))
    network = Network(
        graph=Graph(nodes, ("s",), 2),
        input=_network().input,
        logit_scale=Fraction(1),
        classes=(),
    )
    with pytest.raises(UnsupportedError) as caught:
        save_nir(network, tmp_path / "no.nir")
    assert list(tmp_path.iterdir()) == []
    assert foreseen(network) == caught.value.reasons
    told = ["membrane decays by 1/4096; only 0, 2048 and 4096 are exact: s"]
    assert network_facts(network)["nir_refuses"] == told
    several = replace(network, answers=(Answer(scale=Fraction(1), steps=True),))
    with pytest.raises(UnsupportedError) as caught:
        save_nir(several, tmp_path / "no.nir")
    assert foreseen(several) == caught.value.reasons
    assert not foreseen(_network())
    assert "nir_refuses" not in network_facts(_network())
