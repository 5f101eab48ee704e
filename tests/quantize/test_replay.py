"""The PyTorch side made again from a file: for every option, and never from another model."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import images, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import RecipeError  # noqa: E402
from lapilli.ir.network import Network  # noqa: E402
from lapilli.ir.recipe import Rounding  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.neurons.described import parse_rule, rule_text  # noqa: E402
from lapilli.model.neurons.rule import NeuronRule, StaircaseRule, Thresholds  # noqa: E402
from lapilli.model.trial import SMALL, alive, trial_images  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.image_scale import quantized_images  # noqa: E402
from lapilli.quantize.recipe import parameter_digest  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


def same_runs(made: Quantized, model: nn.Module, x: Tensor, folder: Path) -> int:
    """Replay from a file; both references and the graph agree on every value."""
    save_network(made.network, folder / "net.lapilli")
    network = load_network(folder / "net.lapilli")
    again = reference_of(network, model)
    given = quantized_images(network.input, x)
    want, have = made.reference.run_images(given), again.run_images(given)
    compared = 0
    for kind in ("values", "membranes", "currents"):
        mine, theirs = getattr(have, kind), getattr(want, kind)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert np.array_equal(mine[name], theirs[name]), (kind, name)
            compared += mine[name].size
    return compared


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({}, {}),
        ({}, {"weight_bits": 3}),
        ({}, {"input_bits": 5}),
        ({}, {"input_bits": 12, "weight_bits": 6}),
        ({}, {"classes": ("a", "b", "c")}),
        ({}, {"mean": (0.25,), "std": (1.5,)}),
        ({"tau": 1.5}, {}),
        ({"T": 12}, {}),
        ({"tau": 16.0}, {"weight_bits": 4}),
    ],
)
def test_every_option(model: dict[str, Any], options: dict[str, Any], tmp_path: Path) -> None:
    made = quantize(tiny(**model), images(), **options)
    assert same_runs(made, tiny(**model), images(7, seed=3), tmp_path) > 500


_FAST = ("meta-spikeformer", "bsa", "dvs", "e-spikeformer")  # a part of the name of each


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if any(part in n for part in _FAST) else pytest.mark.slow)
        for n in sorted(SMALL)
    ],
)
def test_every_family(name: str, tmp_path: Path) -> None:
    config, size = SMALL[name]
    x = trial_images(config, size)
    layout = "BTCHW" if x.ndim == 5 else "BCHW"
    model = alive(config, size)
    made = quantize(model, x, layout=layout, counts=x.ndim == 5, examined=1)
    assert same_runs(made, model, x[:2], tmp_path) > 1000


def test_the_spikes_are_not_all_the_same() -> None:
    made = quantize(tiny(), images())
    rates = [np.abs(v).mean() for v in _run(made).values.values() if v.ndim > 3 or v.max() == 1]
    assert rates
    assert all(0 < rate < 1 for rate in rates)


def _run(made: Quantized) -> Any:
    return made.reference.run_images(quantized_images(made.network.input, images(20)))


# ---- another model ------------------------------------------------------------------------------


def _bigger(model: nn.Module) -> None:
    with torch.no_grad():
        next(iter(model.parameters())).mul_(1.5)


def test_other_parameters_are_refused_as_such() -> None:
    made, other = quantize(tiny(), images()), tiny()
    _bigger(other)
    with pytest.raises(RecipeError, match="was made from other parameters than this model's"):
        reference_of(made.network, other)
    wrong = reference_of(made.network, other, other_parameters=True)
    given = quantized_images(made.network.input, images(20))
    right = made.reference.run_images(given)
    assert any(
        not np.array_equal(v, right.values[n]) for n, v in wrong.run_images(given).values.items()
    )


def test_another_threshold_is_refused_as_such() -> None:
    made, other = quantize(tiny(), images()), tiny()
    other.lif1.v_threshold = 0.75
    with pytest.raises(RecipeError, match=r"whose neuron 'lif1' has other constants"):
        reference_of(made.network, other)


def test_no_recipe_is_refused() -> None:
    made = quantize(tiny(), images())
    with pytest.raises(RecipeError, match="holds no recipe"):
        reference_of(replace(made.network, recipe=None), tiny())


def _changed(network: Network, **changes: Any) -> Network:
    assert network.recipe is not None
    return replace(network, recipe=replace(network.recipe, **changes))


def test_a_recipe_of_another_module_is_refused() -> None:
    made = quantize(tiny(), images())
    recipe = made.network.recipe
    assert recipe is not None
    synapses = (replace(recipe.synapses[0], path="elsewhere"), *recipe.synapses[1:])
    with pytest.raises(RecipeError, match="without the linear map"):
        reference_of(_changed(made.network, synapses=synapses), tiny())
    neurons = (replace(recipe.neurons[0], path="elsewhere"), *recipe.neurons[1:])
    with pytest.raises(RecipeError, match=r"with a neuron 'elsewhere'"):
        reference_of(_changed(made.network, neurons=neurons), tiny())
    renamed = (replace(recipe.neurons[0], node="elsewhere"), *recipe.neurons[1:])
    with pytest.raises(RecipeError, match=r"names node 'elsewhere' otherwise"):
        reference_of(_changed(made.network, neurons=renamed), tiny())


def test_a_changed_scale_changes_the_reference() -> None:
    made = quantize(tiny(), images())
    recipe = made.network.recipe
    assert recipe is not None
    first = recipe.synapses[0]
    scales = replace(
        first, weight_scale=first.weight_scale * 2, output_scale=first.output_scale * 2
    )
    coarse = _changed(made.network, synapses=(scales, *recipe.synapses[1:]))
    given = quantized_images(made.network.input, images(20))
    changed = reference_of(coarse, tiny()).run_images(given)
    assert not np.array_equal(
        changed.currents[recipe.neurons[0].node], _run(made).currents[recipe.neurons[0].node]
    )


# ---- integers that are not the nearest ----------------------------------------------------------


def _nudged(network: Network, by: int, bound: Fraction) -> Network:
    """Some weights of the first synapse moved, as a method that looks at more would."""
    assert network.recipe is not None
    node = network.recipe.synapses[0].node
    nodes = []
    for n in network.graph.nodes:
        if n.name == node and isinstance(n.op, ops.Linear | ops.Conv2d):
            weight = np.array(n.op.weight.array)
            flat = weight.reshape(-1)
            flat[:5] += np.where(flat[:5] > 0, -by, by)
            n = replace(n, op=replace(n.op, weight=IntTensor(weight)))
        nodes.append(n)
    changed = replace(network, graph=replace(network.graph, nodes=tuple(nodes)))
    return _changed(changed, rounding=Rounding(method="reconstruction", bound=bound))


def test_integers_of_another_method_are_taken_from_the_file() -> None:
    made = quantize(tiny(), images())
    network = _nudged(made.network, 1, Fraction(3, 2))
    reference = reference_of(network, tiny())
    given = quantized_images(network.input, images(20))
    mine = reference.run_images(given)
    steps = np.broadcast_to(given, (network.graph.T, *given.shape))
    theirs = Reference().compile(network.graph).run({network.graph.inputs[0]: steps})
    assert all(np.array_equal(mine.values[n], theirs.values[n]) for n in network.graph.neurons)
    nearest = _run(made)
    assert any(not np.array_equal(mine.currents[n], nearest.currents[n]) for n in mine.currents)


def test_beyond_the_bound_of_its_method_they_are_refused() -> None:
    network = _nudged(quantize(tiny(), images()).network, 3, Fraction(3, 2))
    with pytest.raises(RecipeError, match=r"from weight / scale; its method allows 1.5"):
        reference_of(network, tiny())


# ---- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        NeuronRule(decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1)),
        NeuronRule(
            decay=Fraction(2, 3),
            gain=Fraction(1),
            v_threshold=Thresholds((Fraction(1, 3), Fraction(2)), (2, 1, 1)),
            strict=True,
            v_rest=Fraction(-1, 5),
        ),
        StaircaseRule(levels=4, norm=8, half_up=True),
    ],
)
def test_rules_survive(rule: Any) -> None:
    assert parse_rule(rule_text(rule)) == rule


def test_the_digest_is_of_values() -> None:
    model = tiny()
    assert parameter_digest(copy.deepcopy(model).double()) == parameter_digest(model)
    _bigger(model)
    assert parameter_digest(model) != parameter_digest(tiny())


# ---- threads ------------------------------------------------------------------------------------


def test_threads_share_a_reference() -> None:
    made = quantize(tiny(), images())
    batches = [quantized_images(made.network.input, images(4, seed=s)) for s in range(8)]
    want = [made.reference.run_images(b) for b in batches]
    got: list[Any] = [None] * 8

    def run(i: int) -> None:
        got[i] = made.reference.run_images(batches[i])

    workers = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for mine, theirs in zip(got, want, strict=True):
        for name in theirs.values:
            assert np.array_equal(mine.values[name], theirs.values[name]), name
