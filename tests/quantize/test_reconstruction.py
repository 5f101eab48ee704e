"""Weights of a layer rounded together, and thresholds that move: what they hear, what comes out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, integers, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.cli import frame  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import InputError, QuantizeError, RecipeError  # noqa: E402
from lapilli.ir.network import Network  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.finetuning.tuning import finetune  # noqa: E402
from lapilli.quantize.fit import Fitted, Scaling, fit  # noqa: E402
from lapilli.quantize.pipeline import Begun, begin  # noqa: E402
from lapilli.quantize.pytorch.exact_map import applied  # noqa: E402
from lapilli.quantize.reconstruction.layers import layer_by_layer  # noqa: E402
from lapilli.quantize.reconstruction.moments import moments  # noqa: E402
from lapilli.quantize.reconstruction.rounding import BOUND, reconstructed  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.quantize.weights import Folded, IntegerUnit, distances, least_squares  # noqa: E402

pytestmark = pytest.mark.torch


def _synapse(space: int, **more: Any) -> program.Synapse:
    return program.Synapse(weight="w", bias="b", space=space, **more)


# ---- what a map hears ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "heard", "weight"),
    [
        (_synapse(0), (2, 3, 5, 4), (6, 4)),
        (_synapse(1, stride=(2, 1), padding=(1, 0)), (2, 3, 4, 9), (6, 4, 3)),
        (_synapse(2, stride=(2, 1), padding=(0, 2)), (2, 3, 4, 7, 6), (6, 4, 2, 3)),
        (_synapse(2, dilation=(2, 1), groups=2), (2, 3, 4, 7, 6), (6, 2, 3, 3)),
        (_synapse(2, padding=(1, 1), groups=4), (2, 3, 4, 5, 5), (4, 1, 3, 3)),
    ],
)
@pytest.mark.parametrize("fraction", [1, 3])
def test_moments_are_those_of_the_currents(
    op: program.Synapse,
    heard: tuple[int, ...],
    weight: tuple[int, ...],
    fraction: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From them follows what any weights give: sums of squares of the currents."""
    monkeypatch.setattr("lapilli.quantize.reconstruction.moments._AT_A_TIME", 400)
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, heard, generator=random).double() / fraction
    w, b = (torch.randint(-9, 10, s, generator=random).double() for s in (weight, weight[:1]))
    y = applied(op, x.flatten(0, 1) if op.space else x, w, b)
    found = moments(op, weight[2:], x)
    rows = weight[0] // op.groups
    each = [w.numpy().reshape(op.groups, rows, -1), b.numpy().reshape(op.groups, rows, 1)]
    whole = np.concatenate(each, axis=2)
    square = np.einsum("gri,gij,grj->gr", whole, found, whole).ravel()
    wanted = y.movedim(1 if op.space else -1, 0).flatten(1).square().sum(1).numpy()
    assert np.array_equal(square, wanted) if fraction == 1 else np.allclose(square, wanted)


# ---- one map ------------------------------------------------------------------------------------


def _heard(x: np.ndarray, real: Folded) -> tuple[np.ndarray, Any]:
    """Moments of what a linear map hears, and a measure of integers."""
    whole = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    wanted = x @ real.weight.T + real.bias

    def off(unit: IntegerUnit) -> float:
        return float(np.square(x @ unit.real_weight.T + unit.real_bias - wanted).mean())

    return (whole.T @ whole)[None], off


def _nearest(real: Folded, bits: int, exponent: int = 0, factors: tuple[int, ...] = ()) -> Any:
    scale = least_squares(real.weight, bits) / 2**exponent
    each = np.array(factors or [1]).reshape(-1, 1)
    most = (1 << (bits - 1)) - 1
    weight = np.rint(real.weight / each / float(scale) / 2**exponent).clip(-most, most)
    return IntegerUnit(
        IntTensor(weight.astype(np.int64) << exponent),
        IntTensor(np.rint(real.bias / each[:, 0] / float(scale)).astype(np.int64)),
        scale, scale, exponent, bits, factors,
    )  # fmt: skip


def _case(seed: int) -> tuple[np.ndarray, Folded]:
    """Spikes of which many go together, and weights."""
    rng = np.random.default_rng(seed)
    together = rng.random((400, 6)) @ rng.random((6, 20))
    x = (together + 0.5 * rng.normal(size=(400, 20)) > np.median(together)).astype(float)
    return x, Folded(rng.normal(size=(8, 20)), rng.normal(size=8))


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("exponent", [0, 2])
def test_currents_are_nearer_than_those_of_the_nearest_weights(bits: int, exponent: int) -> None:
    for seed in range(6):
        x, real = _case(seed)
        factors = (1, 2, 1, 1, 3, 1, 1, 2)
        nearest = _nearest(real, bits, exponent, factors)
        heard, off = _heard(x, real)
        unit = reconstructed(real, nearest, heard)
        assert off(unit) < 0.8 * off(nearest)
        most = (1 << (bits - 1)) - 1
        assert np.abs(unit.weight.array).max() <= most << exponent
        assert not (unit.weight.array % (1 << exponent)).any()
        assert Fraction(1, 2) < distances(real, unit)[0] <= BOUND
        weights, biases = distances(real, nearest)
        assert weights <= Fraction(1, 2) >= biases


def test_a_map_that_hears_nothing_keeps_the_nearest() -> None:
    _, real = _case(0)
    nearest = _nearest(real, 4)
    heard, _ = _heard(np.zeros((50, 20)), real)
    unit = reconstructed(real, nearest, heard)
    assert np.array_equal(unit.weight.array, nearest.weight.array)
    assert np.array_equal(unit.bias.array, nearest.bias.array)


# ---- networks -----------------------------------------------------------------------------------


def _fitted(begun: Begun, bits: int) -> Fitted:
    prepared = begun.prepared
    each = dict.fromkeys(prepared.plan.units, bits)
    scaling = Scaling(chosen=least_squares)
    return fit(prepared.merged, prepared.plan, begun.image, each, scaling)


def _again(made: Quantized, model: nn.Module, folder: Path) -> Quantized:
    save_network(made.network, folder / "net.lapilli")
    network = load_network(folder / "net.lapilli")
    return replace(made, network=network, reference=reference_of(network, model))


@pytest.mark.parametrize("scales", ["tensor", "channel"])
@pytest.mark.parametrize(
    "options",
    [{"rounding": "reconstruction"}, {"thresholds": "rates"},
     {"rounding": "reconstruction", "thresholds": "rates"}],
    ids=lambda o: " ".join(o.values()),
)  # fmt: skip
def test_every_value_is_exact_and_comes_back(
    options: dict[str, Any], scales: str, tmp_path: Path
) -> None:
    made = quantize(tiny(), images(), weight_bits=3, scales=scales, **options)
    plain = quantize(tiny(), images(), weight_bits=3, scales=scales)
    assert made.network.graph != plain.network.graph
    assert compare(made, images(40, seed=2)) > 1000
    assert compare(_again(made, tiny(), tmp_path), images(40, seed=2)) > 1000
    recipe = made.network.recipe
    assert recipe is not None
    assert recipe.rounding.method == options.get("rounding", "nearest")
    moved = [record for record in recipe.neurons if record.moved is not None]
    assert bool(moved) is ("thresholds" in options)


def _off(made: Quantized, given: Tensor) -> float:
    """Mean squared error of the currents of `fc`, beside those of its real weights."""
    trace = made.reference.run_images(integers(made, given))
    layer: Any = tiny().fc
    spikes = torch.from_numpy(trace.values["lif0"]).flatten(2).float()
    with torch.no_grad():
        real = layer(spikes).double().numpy()
    recipe = made.network.recipe
    assert recipe is not None
    (scale,) = [record.scale for record in recipe.neurons if record.node == "lif1"]
    return float(np.square(trace.currents["lif1"] * float(scale) - real).mean())


def test_currents_of_a_network_are_nearer() -> None:
    many = images(300, seed=3)
    off = {
        rounding: _off(quantize(tiny(), many, weight_bits=3, rounding=rounding), many)
        for rounding in ("nearest", "reconstruction")
    }
    assert off["reconstruction"] < 0.8 * off["nearest"]


def test_layers_fire_as_often_as_in_float() -> None:
    far = {}
    for thresholds in ("trained", "rates"):
        made = quantize(tiny(), images(300, seed=3), weight_bits=2, thresholds=thresholds,
                        examined=300)  # fmt: skip
        rates = made.health.rates.values()
        far[thresholds] = max(abs(r.in_float - r.in_integers) for r in rates)
    assert far["rates"] < 0.5 * far["trained"]


def test_a_moved_threshold_is_told_and_the_authors() -> None:
    made = quantize(tiny(), images(), weight_bits=3, thresholds="rates")
    recipe = made.network.recipe
    assert recipe is not None
    moved = {r.path: r for r in recipe.neurons if r.moved is not None}
    for path, record in moved.items():
        assert record.exact  # the author's own neuron, which compares with it
        neuron: Any = made.reference.module.get_submodule(path)
        assert neuron.v_threshold == float(record.moved or 0)
        assert any(n.path == path and "fires as often" in n.text for n in made.notes)
    forgotten = replace(
        recipe, neurons=tuple(replace(record, moved=None) for record in recipe.neurons)
    )
    other = replace(made, reference=reference_of(replace(made.network, recipe=forgotten), tiny()))
    with pytest.raises(AssertionError):
        compare(other, images(40, seed=2))


@pytest.mark.parametrize("what", ["weight", "bias"])
def test_integers_that_no_such_rounding_gives_are_refused(what: str) -> None:
    made = quantize(tiny(), images(), weight_bits=4, rounding="reconstruction")
    with pytest.raises(RecipeError, match=f"from {what} / scale; its method allows"):
        reference_of(_moved(made.network, what), tiny())


def _moved(network: Network, what: str) -> Network:
    nodes = []
    for node in network.graph.nodes:
        if node.name == "fc" and isinstance(node.op, ops.Linear):
            held = np.array(getattr(node.op, what).array)
            held.reshape(-1)[0] += (
                3 * (-1 if held.reshape(-1)[0] > 0 else 1) * (100 if what == "bias" else 1)
            )
            changed: Any = {what: IntTensor(held)}
            node = replace(node, op=replace(node.op, **changed))
        nodes.append(node)
    return replace(network, graph=replace(network.graph, nodes=tuple(nodes)))


def test_what_no_longer_fits_is_chosen_again() -> None:
    """A group gives up a bit once: its integers are then reconstructed on the coarser scale."""
    begun = begin(tiny(), images(), {})
    fitted = _fitted(begun, 4)
    prepared = begun.prepared
    group = next(iter(prepared.plan.groups.values()))
    calls: list[Fitted] = []

    def refit(merged: program.Captured, start: Fitted) -> Fitted:
        if not calls:
            given = replace(start.given_up, bits={group: 1}, needed_by={group: "it fits"})
            start = replace(start, given_up=given)
        each = dict.fromkeys(prepared.plan.units, 4)
        made = fit(merged, prepared.plan, begun.image, each, Scaling(chosen=least_squares), start)
        calls.append(made)
        return made

    _, made = layer_by_layer(
        prepared, begun.source, images(), fitted, refit, weights=True, rates=False
    )
    assert len(calls) == 2
    assert made is calls[1]
    assert made.units[group].weight_scale == 2 * fitted.units[group].weight_scale
    for name, unit in made.units.items():
        far, _ = distances(made.folded[name], unit)
        assert far <= BOUND
    assert not np.array_equal(made.units[group].weight.array, calls[0].units[group].weight.array)


def test_what_is_refused() -> None:
    with pytest.raises(QuantizeError, match="no rounding 'up': nearest or reconstruction"):
        quantize(tiny(), images(), rounding="up")
    with pytest.raises(QuantizeError, match="no thresholds 'mean': trained or rates"):
        quantize(tiny(), images(), thresholds="mean")
    pixels = np.zeros((4, 1, 4, 4), np.uint8)
    each: list[Any] = [{"rounding": "reconstruction"}, {"thresholds": "rates"}]
    for options in each:
        with pytest.raises(InputError, match="trained as the nearest"):
            finetune(tiny(), pixels, np.zeros(4, np.int64), **options)


_NET = """
import sys
sys.path.insert(0, {tests!r})
from networks.tiny import tiny as Net
"""


def test_the_command_takes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(_NET.format(tests=str(Path(__file__).parents[1])))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 1, 4, 4), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels)
    net = tmp_path / "net.lapilli"
    words = [
        *("quantize", f"{tmp_path}/net.py:Net", "--calibration", f"{tmp_path}/images.npz"),
        *("--mean", "0.5", "--std", "0.25", "--bits", "3", "-o", str(net)),
    ]
    both = ["--rounding", "reconstruction", "--thresholds", "rates"]
    assert frame.run(app, [*words, *both]) == 0
    recipe = load_network(net).recipe
    assert recipe is not None
    assert (recipe.options["rounding"], recipe.options["thresholds"]) == ("reconstruction", "rates")
    assert recipe.rounding.method == "reconstruction"
    assert any(record.moved for record in recipe.neurons)
    compared = ["compare", str(net), "--module", f"{tmp_path}/net.py:Net"]
    assert frame.run(app, [*compared, "--images", f"{tmp_path}/images.npz"]) == 0
    capsys.readouterr()
    assert frame.run(app, [*words, "--rounding", "up"]) == 2
    assert "there is no rounding 'up'" in capsys.readouterr().err
