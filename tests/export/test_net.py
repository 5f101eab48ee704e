"""lava-dl's `.net`: chains of layers come back with every spike; all else is refused by name."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lapilli.deploy.cli.app import app
from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, TensorType
from lapilli.simulators.reference import Reference

h5py = pytest.importorskip("h5py")

from lapilli.export.net.importer import network_from_net  # noqa: E402
from lapilli.export.net.writer import save_net  # noqa: E402  (needs h5py)

Chain = Callable[..., Network]
Drive = Callable[[Graph], IntArray]


def lif(vth: int, **options: Any) -> ops.Neuron:
    return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]), **options)


@pytest.mark.parametrize("encoder", [True, False])
def test_a_chain_says_the_same_after_a_trip_through_the_file(
    net_chain: Chain, net_drive: Drive, encoder: bool, tmp_path: Path
) -> None:
    network = net_chain(encoder=encoder)
    facts = save_net(network, tmp_path / "a.net")
    assert (facts.reset_interval, facts.reset_offset) == (6, 0 if encoder else 1)
    assert facts.reads == "membrane"
    if not encoder:  # the first convolution takes integers, which netx must be told
        assert facts.input_message_bits == 5
        return  # and which a file cannot say: read back, its input is spikes
    again = network_from_net(tmp_path / "a.net")
    assert again.graph.T == 6
    assert (again.input.mean, again.input.std) == (network.input.mean, network.input.std)
    x = net_drive(network.graph)
    ours = Reference().compile(network.graph).run({"x": x}).values
    theirs = Reference().compile(again.graph).run({"input": x}).values
    assert len(facts.layers) == len([*again.graph.neurons, "read-out"])
    for mine, read in zip(
        facts.layers, (*again.graph.neurons, again.graph.outputs[0]), strict=True
    ):
        assert np.array_equal(ours[mine].reshape(-1), theirs[read].reshape(-1)), mine
        if mine != "logits":
            assert 0.03 < ours[mine].mean() < 0.97, mine
    assert len(np.unique(ours["logits"])) > 10


def test_spikes_are_counted_where_nothing_adds_up(net_chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    save_net(net_chain(encoder=True), path)
    with h5py.File(path, "r+") as file:
        for index in "345":
            del file[f"layer/{index}"]
    network = network_from_net(path)
    (output,) = network.graph.outputs
    assert network.graph.types[output].shape == (len(network.classes),) == (6 * 3 * 4,)
    assert network.graph.types[output].range == IntRange(0, 6)
    save_net(network, tmp_path / "again.net")


@pytest.mark.parametrize("exponent", [-2, 0, 3])
def test_the_scale_of_the_input_is_kept(net_chain: Chain, exponent: int, tmp_path: Path) -> None:
    network = net_chain(encoder=True)
    source = replace(network.input, exponent=exponent)
    save_net(replace(network, input=source), tmp_path / "a.net")
    again = network_from_net(tmp_path / "a.net").input
    assert again.mean == source.mean
    assert again.std == tuple(std / Fraction(2) ** exponent for std in source.std)


def test_equal_networks_give_equal_bytes(net_chain: Chain, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_net(net_chain(encoder=True), tmp_path / f"{name}.net")
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def with_op(network: Network, name: str, op: ops.Op) -> Network:
    nodes = tuple(replace(n, op=op) if n.name == name else n for n in network.graph.nodes)
    return replace(network, graph=Graph(nodes, network.graph.outputs, network.graph.T))


@pytest.mark.parametrize(
    ("node", "change", "says"),
    [
        ("n1", {"threshold": IntTensor.of([640])}, "64 * vThMant + 1"),
        ("n1", {"threshold": IntTensor.of(np.full((4, 1, 1), 641))}, "one threshold per neuron"),
        ("n1", {"reset": ops.Reset.BY_SUBTRACTION, "reset_by": 64}, "membrane to zero"),
        ("n1", {"bias": IntTensor.of([1])}, "no multiple of 64"),
        ("n1", {"bias": IntTensor.of(np.arange(80).reshape(4, 4, 5) * 64)}, "for each channel"),
        ("n1", {"du": 2048}, "current that decays"),
        ("n1", {"dv": 4096}, "vDecay 0 to 4095"),
        ("n1", {"ternary": True}, "fires both ways"),
        ("n1", {"fraction_bits": 9, "dv": 1}, "9 fraction bits"),
        ("n1", {"fraction_bits": 9, "dv": 1}, "weights in [-1016, 1016]"),
        ("n1", {"fraction_bits": 9, "dv": 1}, "weights of 6 bits would fit"),
        ("n1", {"fraction_bits": 5, "dv": 1}, "5 fraction bits; Loihi shifts"),
        ("n1", {"bias": IntTensor.of([64 * 5000])}, "13 bits"),
        ("c1", {"weight": IntTensor.of(np.full((4, 2, 3, 2), -129))}, "weights in [-129"),
        ("c1", {"weight": IntTensor.of(np.zeros((4, 2, 3, 2), int))}, "all 0"),
        ("fc", {"weight": IntTensor.of(np.tile([201, -3], (10, 6)))}, "weights in [-3, 201]"),
        ("head", {"bias": IntTensor.of([60_000, 0, 0])}, "13 bits"),
    ],
)
def test_what_a_layer_cannot_hold_is_refused(
    net_chain: Chain, node: str, change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    network = net_chain(encoder=False)
    found: Any = network.graph[node].op
    broken = with_op(network, node, replace(found, **change))
    with pytest.raises(UnsupportedError) as refused:
        save_net(broken, tmp_path / "x.net")
    assert says in str(refused.value)
    assert not (tmp_path / "x.net").exists()


def test_fraction_bits_beyond_six_go_into_the_weights(
    net_chain: Chain, net_drive: Drive, tmp_path: Path
) -> None:
    """Of each layer as many as its threshold needs; the others are free, as no decay truncates."""
    network, path = net_chain(encoder=True, fine=3), tmp_path / "fine.net"
    save_net(network, path)
    with h5py.File(path) as file:
        for index, (name, more) in enumerate((("c1", 0), ("c2", 3)), 1):
            own: Any = network.graph[name].op
            assert np.array_equal(file[f"layer/{index}/weight"], own.weight.array << more), name
    x = net_drive(network.graph)
    ours = Reference().compile(network.graph).run({"x": x}).values
    again = network_from_net(path).graph
    theirs = Reference().compile(again).run({"input": x}).values
    for mine, read in (("n1", "layer.1"), ("n2", "layer.2"), ("n3", "layer.4")):
        assert np.array_equal(ours[mine], theirs[read]), mine
        assert 0.03 < ours[mine].mean() < 0.97, mine


def test_every_node_that_is_no_layer_is_listed(tmp_path: Path) -> None:
    """Attention, a maximum and a shortcut in one graph: each by its name."""
    weight, none = IntTensor.of(np.eye(4, dtype=int)), IntTensor.of([0] * 4)
    graph = Graph(
        (
            Node("x", ops.Input(type=TensorType.spikes(4, 4, 4))),
            Node("pool", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("x",)),
            Node("sum", ops.Sum(axes=(1, 2)), ("pool",)),
            Node("a", lif(1), ("sum",)),
            Node("fc", ops.Linear(weight=weight, bias=none), ("a",)),
            Node("b", lif(0), ("fc",)),
            Node("gated", ops.Gate(), ("a", "b")),
            Node("shortcut", ops.Add(), ("gated", "a")),
            Node("c", lif(1), ("shortcut",)),
        ),
        ("c",),
        4,
    )
    quantizer = InputQuantizer(mean=(Fraction(0),), std=(Fraction(1),), exponent=0, lo=0, hi=1)
    network = Network(graph=graph, input=quantizer, logit_scale=Fraction(1), classes=())
    with pytest.raises(UnsupportedError) as refused:
        save_net(network, tmp_path / "x.net")
    assert [r.node for r in refused.value.reasons] == ["pool", "gated", "c"]
    assert "driven by a, b" in str(refused.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: f["layer"].move("2", "7"), "layers named"),
        (lambda f: f["layer/1"].pop("weight"), "no weight"),
        (lambda f: f["layer/1"].clear(), "/layer/1: empty, as lava-dl writes recurrent"),
        (lambda f: f["layer/1"].create_dataset("more", data=1), "/layer/1/more: not known"),
        (lambda f: put(f, "layer/1/type", np.bytes_("pool")), "'pool'; netx runs"),
        (lambda f: put(f, "layer/1/neuron/type", np.bytes_("SDNN")), "type 'SDNN'"),
        (lambda f: put(f, "layer/1/neuron/refDelay", 2), "refDelay"),
        (lambda f: put(f, "layer/1/neuron/wgtExp", 1), "wgtExp"),
        (lambda f: put(f, "layer/1/neuron/vDecay", 4096), "vDecay 4096"),
        (lambda f: put(f, "layer/1/neuron/vThMant", 1 << 17), "vThMant 131072"),
        (lambda f: put(f, "layer/1/neuron/vThMant", [1, 2]), "expected one"),
        (lambda f: put(f, "layer/1/stride", [0, 1]), "stride"),
        (lambda f: put(f, "layer/1/dilation", [2, 1]), "dilated"),
        (lambda f: put(f, "layer/1/groups", 0), "groups"),
        (lambda f: put(f, "layer/1/groups", 3), "layer.1"),
        (lambda f: put(f, "layer/1/shape", [4, 9, 9]), "not what it makes"),
        (lambda f: put(f, "layer/1/bias", [0.5] * 4), "not whole"),
        (lambda f: put(f, "layer/1/bias", [np.nan] * 4), "not finite"),
        (lambda f: put(f, "layer/2/delay", 3), "delays of a convolution"),
        (lambda f: put(f, "layer/4/delay", 63), "layer.4: delays in [63, 63]"),
        (lambda f: put(f, "layer/4/delay", -1), "delays in [-1, -1]"),
        (lambda f: put(f, "layer/4/delay", np.arange(11)), "delays of shape [11]"),
        (lambda f: put(f, "layer/4/delay", 0.5), "not whole"),
        (lambda f: put(f, "layer/1/bias", np.full(4, -(1 << 63))), "beyond 32 bits"),
        (lambda f: put(f, "layer/1/bias", np.full(4, 0.5, np.float16)), "not whole"),
        (lambda f: put(f, "layer/1/weight", np.full((4, 2, 3, 2), 999)), "weights in"),
        (lambda f: put(f, "simulation/tSample", 0), "0 steps"),
        (lambda f: put(f, "simulation/tSample", "four"), "text"),
        (lambda f: put(f, "layer/0/shape", [2, 7]), "expected (neurons) or (C, H, W)"),
        (lambda f: put(f, "layer/1/more", h5py.ExternalLink("/etc/passwd", "/")), "another file"),
    ],
)
def test_a_damaged_file_is_refused(
    net_chain: Chain, damage: Callable[[Any], None], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.net"
    save_net(net_chain(encoder=True), path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(FormatError) as refused:
        network_from_net(path)
    assert says in str(refused.value)


def test_a_small_file_makes_no_large_graph(net_chain: Chain, tmp_path: Path) -> None:
    """A convolution of nothing but padding, whose every neuron would be an answer."""
    path = tmp_path / "x.net"
    save_net(net_chain(encoder=True), path)
    with h5py.File(path, "r+") as file:
        for index in "2345":
            del file[f"layer/{index}"]
        put(file, "layer/1/padding", [2000, 1000])
        put(file, "layer/1/shape", [4, 2003, 2005])
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"layer.1: 16064060 answers; at most 65536"):
        network_from_net(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def put(file: Any, place: str, value: Any) -> None:
    if place in file:
        del file[place]
    file[place] = value


def test_delays_cannot_ask_for_more_than_there_is(
    net_chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_net(net_chain(encoder=True), tmp_path / "x.net")
    with h5py.File(tmp_path / "x.net", "r+") as file:
        file["layer/4/delay"] = np.arange(10)
    monkeypatch.setattr("lapilli.export.limits.MOST_WEIGHTS", 6 * 720 - 1)
    with pytest.raises(FormatError, match=r"layer\.4: 6 delays of 720 weights"):
        network_from_net(tmp_path / "x.net")


def test_delays_are_those_of_their_synapses(
    net_chain: Chain, net_drive: Drive, tmp_path: Path
) -> None:
    """The current of a delayed layer, added up here from the spikes that drive it."""
    path, rng = tmp_path / "late.net", np.random.default_rng(7)
    save_net(net_chain(encoder=True, T=9), path)
    with h5py.File(path, "r+") as file:
        weight = file["layer/4/weight"][()].astype(np.int64)
        delay = rng.integers(0, 12, weight.shape)  # some beyond the sample
        file["layer/4/delay"], file["layer/5/delay"] = delay, np.arange(3)
    graph = network_from_net(path).graph
    found = Reference().compile(graph).run({"input": net_drive(net_chain(encoder=True, T=9).graph)})
    spikes = found.values["layer.2"].reshape(9, 5, -1)
    assert 0.03 < spikes.mean() < 0.97
    want = np.zeros((9, 5, 10), np.int64)
    for t in range(9):
        for late in range(t + 1):
            want[t] += spikes[t - late] @ np.where(delay == late, weight, 0).T
    assert np.array_equal(found.currents["layer.4"], want)
    waited = found.values["layer.5.synapse.late2.spike"][..., 0]
    assert np.array_equal(waited[2:], found.values["layer.4"][:-2])
    assert not waited[:2].any()


@pytest.mark.parametrize(
    ("place", "value"),
    [("layer/2/neuron/vThMant", 13), ("layer/2/neuron/iDecay", 900), ("layer/4/bias", [9] * 10)],
)
def test_a_planted_error_changes_spikes(
    net_chain: Chain, net_drive: Drive, place: str, value: Any, tmp_path: Path
) -> None:
    network, path = net_chain(encoder=True), tmp_path / "x.net"
    save_net(network, path)
    with h5py.File(path, "r+") as file:
        put(file, place, value)
    x = net_drive(network.graph)
    want = Reference().compile(network.graph).run({"x": x}).values["n3"]
    read = network_from_net(path)
    got = Reference().compile(read.graph).run({"input": x}).values["layer.4"]
    assert not np.array_equal(got, want)


def test_on_the_command_line(net_chain: Chain, tmp_path: Path) -> None:
    ours, theirs, back = (tmp_path / n for n in ("a.lapilli", "a.net", "b.lapilli"))
    save_network(net_chain(encoder=True), ours)
    run = CliRunner().invoke
    done = run(app, ["export", str(ours), "--net", str(theirs)])
    assert done.exit_code == 0, done.output
    assert "reset offset 0" in done.output
    shutil.copy(theirs, tmp_path / "copy.net")
    done = run(app, ["import", str(tmp_path / "copy.net"), "-o", str(back), "--T", "4"])
    assert done.exit_code == 0, done.output
    assert load_network(back).graph.T == 4
    assert run(app, ["import", str(theirs), "-o", str(back), "--dt", "1"]).exit_code == 2


def dense_first(network: Network, path: Path) -> None:
    """Its last two layers alone, which are dense: spikes are what they are fed with."""
    save_net(network, path)
    with h5py.File(path, "r+") as file:
        for index in "0123":
            del file[f"layer/{index}"]
        for index in "45":
            file["layer"].move(index, str(int(index) - 4))


def test_a_first_layer_that_is_dense_is_fed_with_spikes(net_chain: Chain, tmp_path: Path) -> None:
    """As behind an input layer without neurons; the current is added up here, from the weights."""
    alone, behind = tmp_path / "alone.net", tmp_path / "behind.net"
    dense_first(net_chain(encoder=True, T=9), alone)
    dense_first(net_chain(encoder=True, T=9), behind)
    with h5py.File(behind, "r+") as file:
        for index in "10":
            file["layer"].move(index, str(int(index) + 1))
        file["layer/0/type"], file["layer/0/shape"] = np.bytes_("input"), [72]
        weight = file["layer/1/weight"][()].astype(np.int64)
    spikes = np.random.default_rng(8).integers(0, 2, (9, 5, 1, 1, 72))

    def run(path: Path, weight: IntArray) -> list[IntArray]:
        network = network_from_net(path)
        assert network.graph.types["input"] == TensorType.spikes(1, 1, 72)
        assert (network.input.mean, network.input.std) == ((Fraction(0),), (Fraction(1),))
        found = Reference().compile(network.graph).run({"input": spikes})
        (fired,), (answer,) = network.graph.neurons, network.graph.outputs
        assert np.array_equal(found.currents[fired], spikes.reshape(9, 5, 72) @ weight.T)
        return [found.values[fired], found.values[answer]]

    for one, other in zip(run(alone, weight), run(behind, weight), strict=True):
        assert np.array_equal(one, other)
        assert len(np.unique(one)) > 1
    assert 0.03 < run(alone, weight)[0].mean() < 0.97
    want = run(alone, weight)[0]
    with h5py.File(alone, "r+") as file:  # a planted error
        file["layer/0/weight"][0] *= -1
    weight[0] *= -1
    assert not np.array_equal(run(alone, weight)[0], want)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: f["layer/0"].pop("weight"), "layer.0: no weight for each of its neurons"),
        (lambda f: put(f, "layer/0/shape", [11]), "layer.0: weight [10, 72] for 11 neurons"),
        (lambda f: put(f, "layer/0/shape", [10_000]), "layer.0: no weight for each of its neurons"),
        (lambda f: put(f, "layer/0/type", np.bytes_("conv")), "'conv' is first, which must be"),
        (lambda f: put(f, "layer/0/delay", 63), "layer.0: delays in [63, 63]"),
    ],
)
def test_a_first_layer_that_cannot_be_fed_is_refused(
    net_chain: Chain, damage: Callable[[Any], None], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.net"
    dense_first(net_chain(encoder=True), path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(FormatError) as refused:
        network_from_net(path)
    assert says in str(refused.value)
