"""A network fits its target, its file says so, and whoever opens the file proves it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, tiny  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.export.native.writer import file_digest  # noqa: E402
from lapilli.ir import network as networks  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.certificate import check_target, needs, summary  # noqa: E402
from lapilli.ir.errors import FormatError, QuantizeError, RangeError  # noqa: E402
from lapilli.ir.graph import Graph, Node  # noqa: E402
from lapilli.ir.network import Network  # noqa: E402
from lapilli.ir.targets.loihi1 import LOIHI1  # noqa: E402
from lapilli.ir.targets.table import NAMES, TARGETS  # noqa: E402
from lapilli.ir.targets.target import Target  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402

pytestmark = pytest.mark.torch


def _made(target: str = "lava", **options: object) -> Quantized:
    return quantize(tiny(), images(), target=target, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_a_network_for_each_target(target: Target, tmp_path: Path) -> None:
    made = _made(target.name)
    network, recipe = made.network, made.network.recipe
    check_target(network.graph, target)
    assert recipe is not None
    assert recipe.target == target.name
    assert recipe.certificate == summary(network.graph, target)
    assert set(recipe.certificate) == {r.value for r in target.limits}
    assert compare(made, images()) > 1000
    save_network(network, tmp_path / "net.lapilli")
    loaded = load_network(tmp_path / "net.lapilli")
    assert loaded == network
    reference_of(loaded, tiny())


def test_what_loihi1_needs_is_given_up() -> None:
    """Currents behind their shift stay within 21 bits; weights in front of them gave up bits."""
    free, held = _made("stock"), _made("loihi1")
    with pytest.raises(RangeError, match="input of one step"):
        check_target(free.network.graph, LOIHI1)
    assert all(need.holds for need in needs(held.network.graph, LOIHI1))
    for node in held.network.graph.nodes:
        if isinstance(node.op, ops.Neuron):
            current = held.network.graph.types[node.inputs[0]].range.magnitude
            assert current << node.op.fraction_bits < 1 << 21
    why = "conv: weights of 7 bits, so that the input of one step of lif0 fits"
    assert why in map(str, held.notes)
    assert why not in map(str, free.notes)


class Crowd(nn.Module):
    """A neuron that hears every spike of many tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.first, self.last = nn.Linear(1, 16), LIF(), LIF()
        self.fc, self.head = nn.Linear(16, 2), nn.Linear(2, 2)
        nn.init.ones_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1).unsqueeze(2).unsqueeze(0).repeat(4, 1, 1, 1)
        logits: Tensor = self.head(self.last(self.fc(self.first(self.embed(x))).sum(2))).mean(0)
        return logits


def test_what_cannot_be_held_is_refused_with_numbers() -> None:
    torch.manual_seed(0)
    said = r"'last': its input of one step can reach .* needs 2\d bits; registers of loihi1 have 21"
    with pytest.raises(RangeError, match=rf"{said} and a sign; .*too many inputs"):
        quantize(Crowd().eval(), torch.randn(2, 1, 1, 4096), target="loihi1")
    quantize(Crowd().eval(), torch.randn(2, 1, 1, 4096), target="lava")


@pytest.mark.parametrize("target", ["lava", "stock", "loihi1", "loihi2"])
def test_wide_weights_are_for_wide_targets(target: str) -> None:
    with pytest.raises(QuantizeError, match=f"for {target}, weights take 2 to 8 .*target wide"):
        _made(target, weight_bits=9)
    with pytest.raises(QuantizeError, match="there is no target 'loihi3': lava or stock or"):
        _made("loihi3")


def _wider(network: Network) -> Graph:
    """A weight a thousand times as large."""

    def changed(node: Node) -> Node:
        if not isinstance(node.op, ops.Linear):
            return node
        weight = node.op.weight.array.copy()
        weight[0, 0] = 1 << 18
        return replace(node, op=replace(node.op, weight=IntTensor(weight)))

    graph = network.graph
    return Graph(tuple(map(changed, graph.nodes)), graph.outputs, graph.T)


@pytest.fixture(scope="module")
def network() -> Network:
    return _made().network


def test_another_graph_under_the_same_promise_is_refused(network: Network) -> None:
    with pytest.raises(RangeError, match=r"state can reach .* bits; registers of lava have 24"):
        replace(network, graph=_wider(network))
    replace(network, graph=_wider(network), recipe=None)  # promises nothing


def test_a_file_that_breaks_its_promise_is_refused(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, with its right digest, as if another program had written it."""
    path = tmp_path / "wider.lapilli"
    with monkeypatch.context() as writer:
        writer.setattr(networks, "check_promised", lambda *_: None)
        save_network(replace(network, graph=_wider(network)), path)
        load_network(path)
    with pytest.raises(FormatError, match=r"wider\.lapilli: .* bits; registers of lava have 24"):
        load_network(path)


def _rewritten(path: Path, told: object, digest: str) -> None:
    with safe_open(path, "numpy") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    recipe = json.dumps(told, sort_keys=True, separators=(",", ":"))
    metadata |= {"recipe": recipe, "digest": file_digest(digest, recipe)}
    save_file(tensors, path, metadata)


def test_an_older_file_promises_nothing_and_loads(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "older.lapilli"
    save_network(network, path)
    with safe_open(path, "numpy") as file:
        told = json.loads(file.metadata()["recipe"])
    del told["target"], told["certificate"]
    _rewritten(path, told, network.digest)
    loaded = load_network(path)
    assert loaded.recipe is not None
    assert (loaded.recipe.target, loaded.recipe.certificate) == ("", {})
    assert loaded.graph == network.graph


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("target", "loihi3", "was made for 'loihi3', which is no target here"),
        ("certificate", {"state": 3, "value": 32}, r"state needs \d+ bits; its certificate says 3"),
        ("certificate", {"state": 3.5}, "floating-point"),
    ],
)
def test_a_false_promise_is_refused(
    network: Network, tmp_path: Path, key: str, value: object, why: str
) -> None:
    path = tmp_path / "false.lapilli"
    save_network(network, path)
    with safe_open(path, "numpy") as file:
        told = json.loads(file.metadata()["recipe"])
    _rewritten(path, {**told, key: value}, network.digest)
    with pytest.raises(FormatError, match=why):
        load_network(path)


def _fraction_bits(made: Quantized) -> list[int]:
    ops_ = [node.op for node in made.network.graph.nodes]
    return [op.fraction_bits for op in ops_ if isinstance(op, ops.Neuron)]


def test_a_wider_target_takes_finer_states() -> None:
    assert _fraction_bits(_made("lava")) == [6, 9, 9, 9]
    assert _fraction_bits(_made("wide")) == [9, 9, 9, 9]
