"""Wide integers: of short binary fractions, every spike is the float module's, in float64.

Nothing is calibrated here, nothing stands in and nothing is near: parameters and images are
multiples of powers of two, so that neither floats nor 52-bit integers round anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import images as tiny_images  # noqa: E402
from networks.tiny import tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.deploy.surveys.coverage import integers  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import LapilliError, QuantizeError, UnsupportedError  # noqa: E402
from lapilli.ir.graph import Graph, Node  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.ir.recording import Recording  # noqa: E402
from lapilli.ir.tensor import IntArray, IntTensor  # noqa: E402
from lapilli.model.trial import SMALL, alive, trial_images  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.pytorch import agreement  # noqa: E402
from lapilli.quantize.pytorch.float_module import FloatModule, FloatRun  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

# `make test-long` looks at all of them.
QUICK = ("spikformer imagenet",)
FAMILIES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
BITS = 16  # of a weight: those of four bits, and the finer biases, need no more,
MERGED = 20  # but for products of three of them, where linear maps are merged
# A decay of 1/3 is no short binary fraction: there the integer neuron stands on both sides.
NOT_BINARY = ("spikingformer dvs",)
# Their 24-bit weights meet a membrane, or more steps, than 52 bits hold.
REFUSED = {
    "spikingformer imagenet": r"'head': its value can reach .* needs 60 bits; .* wide have 52;",
    "semm spikingformer": r"needs 65 bits and leaves 64-bit integers",
    "spike-driven gesture": r"shortcut_lif': its state can grow to 53 bits; .* takes 52",
    "qkformer dvs": r"proj_lif': its state can grow to 54 bits; .* takes 52",
}


@dataclass(frozen=True, slots=True)
class Exact:
    """A module of short binary fractions beside its integers, on the same images."""

    made: Quantized
    floats: FloatRun
    steps: IntArray
    got: Recording

    def differ(self) -> dict[str, int]:
        """Of each node that fires, how many spikes differ."""
        found = {
            node: int(np.count_nonzero(spikes != self.got.values[node]))
            for node, spikes in self.floats.spikes.items()
        }
        return {node: count for node, count in found.items() if count}

    def logits(self) -> tuple[list[Fraction], list[Fraction]]:
        """The float module's, as the rationals that they are, and the graph's."""
        network = self.made.network
        last = self.got.values[network.graph.outputs[0]][-1]
        ours = [int(n) * network.logit_scale for n in last.ravel()]
        return [Fraction(float(x)) for x in self.floats.logits.ravel()], ours


def _beside(module: nn.Module, images: Tensor, weight_bits: int, input_bits: int = 8) -> Exact:
    events = images.ndim == 5
    made = quantize(
        module, images, target="wide", weight_bits=weight_bits, input_bits=input_bits,
        layout="BTCHW" if events else "BCHW", counts=events,
    )  # fmt: skip
    graph = made.network.graph
    given = integers(made.network, images.numpy())
    steps = np.moveaxis(given, 1, 0) if events else np.broadcast_to(given, (graph.T, *given.shape))
    got = Reference().compile(graph).run({graph.inputs[0]: steps})
    floats = FloatModule.beside(made.reference, module, lambda _: images)
    return Exact(made, floats.run(images.numpy().astype(np.uint8)), steps, got)


def _family(name: str, weight_bits: int) -> Exact:
    config, size = SMALL[name]
    images = trial_images(config, size).double()
    if images.ndim == 4:
        images = (images * 16).round().clamp(-127, 127) / 16
    return _beside(agreement._coarse(alive(config, size)), images, weight_bits)


def _tiny(weight_bits: int = 24) -> Exact:
    images = (tiny_images() * 16).round().double() / 16
    return _beside(agreement._coarse(tiny()), images, weight_bits)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_spike_is_the_float_modules(name: str) -> None:
    found = _family(name, MERGED if name.startswith("meta") else BITS)
    kinds = {note.kind for note in found.made.notes}
    assert NoteKind.WEIGHT_BITS not in kinds  # nothing was rounded
    if name in NOT_BINARY:
        assert NoteKind.INTEGER_NEURON in kinds
        return
    assert found.differ() == {}
    alive_ = [0 < np.count_nonzero(s) < s.size for s in found.floats.spikes.values()]
    assert all(alive_)
    theirs, ours = found.logits()
    if found.made.network.logit_scale.denominator.bit_count() == 1:
        assert theirs == ours
    for a, b in zip(theirs, ours, strict=True):
        assert abs(a - b) <= abs(a) * Fraction(1, 10**9)
    # And the PyTorch side, with the same integers, says so as well.
    images = np.moveaxis(found.steps, 0, 1) if "dvs" in name or "gesture" in name else None
    run = found.made.reference.run_images(found.steps[0] if images is None else images)
    for node in found.floats.spikes:
        assert np.array_equal(run.values[node], found.got.values[node])


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in REFUSED])
def test_what_52_bits_do_not_hold_is_refused_with_the_bits(name: str) -> None:
    with pytest.raises(LapilliError, match=REFUSED[name]):
        _family(name, 24)


def test_wide_weights_are_needed_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_LARGEST", 2047)  # parameters of 12 bits
    wide, narrow = _tiny(), _tiny(8)
    assert wide.differ() == {}
    assert NoteKind.WEIGHT_BITS not in {note.kind for note in wide.made.notes}
    theirs, ours = wide.logits()
    assert theirs == ours
    recipe = wide.made.network.recipe
    assert recipe is not None
    assert 40 < int(str(recipe.certificate["state"])) <= 52
    # With the default's 8 bits weights are rounded; it shows, and notes say where.
    told = {note.path for note in narrow.made.notes if note.kind is NoteKind.WEIGHT_BITS}
    assert {"conv", "fc", "a", "b", "head"} <= told
    theirs, ours = narrow.logits()
    assert theirs != ours
    assert narrow.differ()


def test_fine_images_need_wide_pixels() -> None:
    images = (tiny_images() * 4096).round().double() / 4096
    exact, rounded = (_beside(agreement._coarse(tiny()), images, 16, bits) for bits in (16, 8))
    theirs, ours = exact.logits()
    assert theirs == ours
    assert exact.differ() == {}
    theirs, ours = rounded.logits()
    assert rounded.differ() or theirs != ours


def test_parameters_that_are_no_binary_fractions_are_told() -> None:
    made = quantize(tiny(), tiny_images(), target="wide", weight_bits=24)
    told = {n.path for n in made.notes if n.kind is NoteKind.WEIGHT_BITS}
    assert {"conv", "a"} <= told  # with a batch norm behind them


def test_a_state_that_does_not_fit_gives_nothing_up() -> None:
    said = "'lif0': its state can grow to 59 bits; 64-bit arithmetic takes 52: take fewer bits"
    with pytest.raises(QuantizeError, match=said):
        quantize(
            agreement._coarse(tiny()), tiny_images(), target="wide", weight_bits=24, input_bits=24
        )


def test_one_unit_in_one_weight_is_seen() -> None:
    found = _tiny()
    graph = found.made.network.graph

    def changed(node: Node) -> Node:
        if node.name != "fc" or not isinstance(node.op, ops.Linear):
            return node
        weight = node.op.weight.array.copy()
        weight[:, 0] += 1 << 20
        return replace(node, op=replace(node.op, weight=IntTensor(weight)))

    other = Graph(tuple(map(changed, graph.nodes)), graph.outputs, graph.T)
    got = Reference().compile(other).run({graph.inputs[0]: found.steps})
    assert replace(found, got=got).differ()


def test_a_file_of_wide_integers_is_opened_and_compared(tmp_path: Path) -> None:
    found = _tiny()
    path = tmp_path / "wide.lapilli"
    save_network(found.made.network, path)
    network = load_network(path)
    assert network == found.made.network
    run = reference_of(network, agreement._coarse(tiny())).run_images(found.steps[0])
    for node in network.graph.neurons:
        assert np.array_equal(run.membranes[node], found.got.membranes[node])


@pytest.mark.parametrize(
    ("name", "package"),
    [("event-driven", "numpy"), ("fast", "numba"), ("onnx", "onnxruntime"), ("nir", "nirtorch")],
)
def test_simulators_that_run_wide_integers(name: str, package: str) -> None:
    pytest.importorskip(package)
    found = _tiny()
    graph = found.made.network.graph
    got = target(name).compile(graph).run({graph.inputs[0]: found.steps})
    for node in (*graph.neurons, *graph.outputs):
        assert np.array_equal(got.values[node], found.got.values[node]), node


@pytest.mark.parametrize(
    ("name", "package", "why"),
    [
        ("lava", "numpy", "conv: value in .*; messages have 32 bits"),
        ("lava-stock", "numpy", "lif0: state needs 43 bits, there are 24"),
        ("snntorch", "snntorch", "conv: its sums can need 32 bits; float32 is exact up to 24"),
        ("nirtorch", "nirtorch", "conv: its sums can need 32 bits; float32 is exact up to 24"),
    ],
)
def test_simulators_that_refuse_them_by_name(name: str, package: str, why: str) -> None:
    pytest.importorskip(package)
    with pytest.raises(UnsupportedError, match=why):
        target(name).compile(_tiny().made.network.graph)
