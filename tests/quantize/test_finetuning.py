"""Fine-tuning in integers: what is trained is what `quantize` makes, integer by integer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.bright_sides import KNOWN, Merged, require_equal_spikes, split  # noqa: E402
from networks.tiny import Tiny, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import (  # noqa: E402
    InputError,
    LapilliError,
    MismatchError,
    QuantizeError,
)
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.fit import Options, Split, count_right, fit  # noqa: E402
from lapilli.model.neurons.adapters import NeuronRule  # noqa: E402
from lapilli.model.neurons.rule import StaircaseRule  # noqa: E402
from lapilli.model.trial import SMALL, alive, trial_images  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.finetuning import finetune  # noqa: E402
from lapilli.quantize.finetuning.fake_quantized import FakeQuantized  # noqa: E402
from lapilli.quantize.finetuning.neurons import surrogate_spikes  # noqa: E402
from lapilli.quantize.finetuning.straight_through import straight_through  # noqa: E402
from lapilli.quantize.finetuning.tuning import require_trained  # noqa: E402
from lapilli.quantize.options import QuantizeOptions  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def tune(model: nn.Module, epochs: int = 2, given: Split | None = None, **more: Any) -> Any:
    images = given or split()
    options = {"mean": KNOWN.mean, "std": KNOWN.std, "weight_bits": 3, **more}
    training = options.pop("training", Options(epochs=epochs, batch=32, warmup=1))
    return finetune(model, images.images, images.labels, training=training, **options)


def fake(model: nn.Module, **options: Any) -> FakeQuantized:
    shown = options.pop("shown", None)
    shown = KNOWN.normalise(split().images) if shown is None else shown
    given: Any = {"weight_bits": 3, **options}
    return FakeQuantized(model, shown, given)


@pytest.mark.parametrize("scales", ["tensor", "channel"])
def test_what_was_trained_is_what_quantize_makes_of_the_parameters(scales: str) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = tune(model, calibration=40, scales=scales)

    assert [epoch.number for epoch in done.epochs] == [1, 2]
    again = Tiny().eval()
    again.load_state_dict(done.module.state_dict())  # the author's class, the author's names
    options = QuantizeOptions(mean=KNOWN.mean, std=KNOWN.std, weight_bits=3, scales=scales)
    made = quantize(again, KNOWN.normalise(split().images[:40]), **options)
    trained = FakeQuantized(again, KNOWN.normalise(split().images[:40]), options)
    units = trained._fitted.units
    names = trained._fitted.lowered.synapses
    compared = 0
    for node, name in names.items():
        op = made.network.graph[node].op
        assert isinstance(op, ops.Linear | ops.Conv2d)
        assert np.array_equal(op.weight.array, units[name].weight.array)
        assert np.array_equal(op.bias.array, units[name].bias.array)
        assert np.abs(op.weight.mantissa.array).max() <= 3
        compared += op.weight.array.size
    assert compared == 36 + 512 + 64 + 64 + 24
    assert made.network.graph.digest == done.quantized.network.graph.digest
    assert require_equal_spikes(trained, KNOWN.normalise(split().images[:8])) == 4

    now = done.module.state_dict()
    assert {name for name in now if not torch.equal(now[name], before[name])} == {
        f"{layer}.{kind}" for layer in ("bn", "fc", "a", "a_bn", "b", "head")
        for kind in ("weight", "bias")
    } - {"a.bias"} | {"conv.weight", "a.bias"}  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_learns_what_rounding_had_lost() -> None:
    model = tiny()
    training, held_out = split(400).without_last(100)
    for _ in fit(model, training, KNOWN.normalise, Options(epochs=12, batch=32, warmup=1)):
        pass
    floats = count_right(model, held_out, KNOWN.normalise)
    start = count_right(fake(model, weight_bits=2), held_out, KNOWN.normalise)
    done = tune(model, 6, training, weight_bits=2, held_out=held_out)
    right = done.epochs[-1].right
    assert floats >= 95
    assert start <= floats - 10
    assert right >= floats - 5
    pixels = done.quantized.network.encode(held_out.images)
    graph = done.quantized.network.graph
    logits = Reference().compile(graph).run(pixels).values[graph.outputs[0]][-1]
    assert int((logits.argmax(-1) == held_out.labels).sum()) == right


@pytest.mark.parametrize(
    "name",
    ["spikformer dvs", "e-spikeformer bsa", "meta-spikeformer"],
)
def test_the_forward_is_that_of_the_graph_and_every_family_learns(name: str) -> None:
    """Integer neurons that stand in, ternary ones, levels, a Shiftmax, frames, merged layers."""
    config, size = SMALL[name]
    images = trial_images(config, size)
    layout = "BTCHW" if images.ndim == 5 else "BCHW"
    options = {"weight_bits": 4, "layout": layout, "counts": images.ndim == 5}
    made = fake(alive(config, size), shown=images, **options)
    assert require_equal_spikes(made, images) > 5
    made(images).square().sum().backward()
    learned = [n for n, p in made.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(learned) == len(list(made.parameters()))


class Net(nn.Module):
    """A convolution, a neuron of the caller's, a head."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.lif = neuron
        self.head = nn.Linear(8 * 16, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 4, 4) -> (B, 3)."""
        spikes = self.lif(self.norm(self.conv(x)).expand(4, -1, -1, -1, -1))
        logits: Tensor = self.head(spikes.mean(0).flatten(1))
        return logits


class Blind(nn.Module):
    """A LIF without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor = torch.zeros_like(x[0])
        spikes: Tensor = torch.zeros_like(x)
        for t, current in enumerate(x):
            v = v + (current - v) / 2
            spikes[t] = v >= 0.25
            v = v * (1 - spikes[t])
        return spikes


_RULE = NeuronRule(decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1, 4))


def spikingjelly() -> nn.Module:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    lif: nn.Module = neuron.LIFNode(tau=2.0, v_threshold=0.25, step_mode="m")
    return lif


@pytest.mark.parametrize(
    ("neuron", "options"),
    [
        (spikingjelly, {}),  # its own surrogate
        (Blind, {"neurons": {"Blind": _RULE}}),  # none: ours
        (lambda: LIF(tau=1.5, v_threshold=0.25), {}),  # an integer neuron stands in
        (lambda: LIF(tau=1.5, v_threshold=0.25), {"scales": "channel"}),
    ],
    ids=["surrogate of a framework", "none", "integer neuron", "scales of channels"],
)
def test_neurons_with_and_without_a_gradient(
    neuron: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    net = Net(neuron()).eval()
    made = fake(net, **options)
    require_equal_spikes(made, KNOWN.normalise(split().images[:6]))
    before = net.conv.weight.detach().clone()
    done = tune(net, 3, **options)
    assert not torch.equal(done.module.conv.weight, before)
    assert done.epochs[-1].loss < done.epochs[0].loss


def test_an_integer_neuron_fires_whatever_the_float_one_inside_does() -> None:
    made = fake(Net(LIF(tau=1.5, v_threshold=0.25)).eval())
    inside = made.running.get_submodule("lif.own.module")
    assert isinstance(inside, LIF)
    inside.v_threshold = 100.0
    require_equal_spikes(made, KNOWN.normalise(split().images[:6]))


def test_a_step_has_the_gradient_of_a_sigmoid() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[None].requires_grad_()
    rule = replace(_RULE, v_threshold=Fraction(1, 2))
    spikes = surrogate_spikes(rule, x)
    assert spikes.tolist() == [[float(v >= 1) for v in x[0].tolist()]]
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    soft = torch.sigmoid(4 * (x - 1))
    assert torch.allclose(grad, 4 * soft * (1 - soft))
    ternary = surrogate_spikes(replace(rule, ternary=True), x)
    assert ternary.tolist() == [[float(v >= 1) - float(v <= -1) for v in x[0].tolist()]]
    levels = surrogate_spikes(StaircaseRule(levels=1, norm=1), x)
    (grad,) = torch.autograd.grad(levels.sum(), x)
    assert grad.tolist() == [[float(0 <= v <= 1) for v in x[0].tolist()]]


def test_a_gradient_goes_straight_through_where_it_passes() -> None:
    real = torch.tensor([0.1, 0.6, 3.0], requires_grad=True)
    whole = torch.tensor([0.0, 1.0, 1.0])
    given = straight_through(real, whole, torch.tensor([True, True, False]))
    assert torch.equal(given, whole)
    (given * torch.tensor([2.0, 3.0, 4.0])).sum().backward()
    assert real.grad is not None
    assert real.grad.tolist() == [2.0, 3.0, 0.0]


def test_weights_beyond_the_largest_integer_do_not_grow() -> None:
    model = tiny()
    made = fake(model)
    with torch.no_grad():
        model.fc.weight[0, 0] *= 1000  # after the scale was chosen
    made(KNOWN.normalise(split().images[:32])).square().sum().backward()
    assert model.fc.weight.grad is not None
    assert float(model.fc.weight.grad[0, 0]) == 0
    assert float(model.fc.weight.grad[0].abs().max()) > 0


def test_the_same_seed_the_same_parameters_and_a_cut_run_goes_on() -> None:
    training = Options(epochs=2, batch=32, warmup=1, shift=1)
    whole, again = tune(tiny(), training=training), tune(tiny(), training=training)
    first, second = (done.module.state_dict() for done in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept: list[dict[str, Tensor]] = []

    def cut(module: nn.Module, epoch: Any) -> None:
        kept.append({name: value.clone() for name, value in module.state_dict().items()})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tiny(), training=training, after=cut)
    resumed = tiny()
    resumed.load_state_dict(kept[0])
    done = tune(tiny(), training=training, resumed=resumed, done=1)
    assert [epoch.number for epoch in done.epochs] == [2]
    assert not torch.equal(done.module.fc.weight, resumed.fc.weight)
    ended = tune(tiny(), training=training, resumed=done.module, done=2)
    assert ended.epochs == ()
    assert ended.quantized.network.graph.digest == done.quantized.network.graph.digest


def test_planted_an_integer_off_by_one_is_caught() -> None:
    made = fake(tiny())
    quantized = quantize(made.module, KNOWN.normalise(split().images), weight_bits=3)
    require_trained(made, quantized)
    graph = quantized.network.graph
    op = graph["fc"].op
    assert isinstance(op, ops.Linear)
    wrong = op.bias.array.copy()
    wrong[3] += 1
    nodes = tuple(
        replace(n, op=replace(op, bias=IntTensor(wrong))) if n.name == "fc" else n
        for n in graph.nodes
    )
    network = replace(quantized.network, graph=replace(graph, nodes=nodes))
    with pytest.raises(MismatchError, match="node 'fc' is not what was trained"):
        require_trained(made, replace(quantized, network=network))


def test_planted_a_batch_norm_that_is_not_frozen_is_caught() -> None:
    model = tiny()
    made = fake(model)
    model.bn.train()
    with torch.no_grad():
        model.bn(torch.randn(8, 4, 4, 4))
    quantized = quantize(model.eval(), KNOWN.normalise(split().images), weight_bits=3)
    with pytest.raises(MismatchError, match="node 'conv' is not what was trained"):
        require_trained(made, quantized)


def test_planted_a_weight_that_moves_after_the_last_look_is_caught() -> None:
    model = tiny()
    made = fake(model)
    with torch.no_grad():
        model.fc.weight += 0.2
    quantized = quantize(model, KNOWN.normalise(split().images), weight_bits=3)
    with pytest.raises(MismatchError, match="node 'fc'"):
        require_trained(made, quantized)


class Computed(Merged):
    """A weight that is computed from a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(x.flatten(1), 2 * self.one.weight).expand(4, -1, -1)
        y: Tensor = self.head(self.lif(x).mean(0))
        return y


@pytest.mark.parametrize("norm", [False, True])
def test_linear_maps_in_a_row_learn_as_the_one_that_they_become(norm: bool) -> None:
    model = Merged(norm).eval()
    made = fake(model)
    require_equal_spikes(made, KNOWN.normalise(split().images[:8]))
    done = tune(model, 4)
    assert not torch.equal(done.module.one.weight, model.one.weight)
    assert not torch.equal(done.module.two.weight, model.two.weight)
    assert done.epochs[-1].loss < done.epochs[0].loss
    merged = [n.op for n in done.quantized.network.graph.nodes if isinstance(n.op, ops.Linear)]
    assert [op.weight.shape for op in merged] == [(8, 16), (3, 8)]


def test_planted_layers_that_are_not_their_map_are_caught() -> None:
    made = fake(Merged().eval())
    (chain,) = made._running_chains.values()
    chain.exact = chain.weight, chain.bias + 0.1
    with pytest.raises(QuantizeError, match="layer 'one': its layers alone are not"):
        made(KNOWN.normalise(split().images[:8]))


class Steps(nn.Module):
    """A neuron that runs step by step, which floats cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        self.one, self.lif = nn.Linear(16, 8), neuron.LIFNode(tau=1.5, v_threshold=0.25)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x.flatten(1))
        y: Tensor = torch.stack([self.head(self.lif(x)) for _ in range(3)]).mean(0)
        return y


def images(count: int, **more: Any) -> Split:
    given = split(count)
    return Split(more.get("images", given.images), more.get("labels", given.labels))


_NEGATIVE = np.array([0, 1, -1, 2])


@pytest.mark.parametrize(
    ("given", "options", "error", "reason"),
    [
        (images(0), {}, InputError, "images must be bytes"),
        (images(4, images=np.zeros((4, 1, 4, 4), np.float32)), {}, InputError, "float32"),
        (images(4, labels=np.zeros(3, np.int64)), {}, InputError, "as many whole numbers as"),
        (images(4, labels=np.zeros(4)), {}, InputError, "as many whole numbers as labels"),
        (images(4, labels=np.arange(4)), {}, InputError, "label 3 is none of the model's"),
        (images(4, labels=_NEGATIVE), {}, InputError, "label -1 is none"),
        (split(4), {"held_out": images(4, labels=np.arange(4))}, InputError, "held_out: label 3"),
        (split(4), {"weight_scale": "spikes"}, InputError, "by weights alone"),
        (split(4), {"weight_bits": 1}, QuantizeError, "weights take 2 to 8 bits"),
        (split(4), {"layer_bits": {"nowhere": 3}}, QuantizeError, "is no linear map"),
        (split(4), {"mean": (0.1, 0.2)}, InputError, "one mean and one std"),
        (split(4), {"training": Options(epochs=1, bfloat16=True)}, InputError, "bfloat16 would"),
    ],
)
def test_refusals_before_any_time_is_spent(
    monkeypatch: pytest.MonkeyPatch,
    given: Split,
    options: dict[str, Any],
    error: type[LapilliError],
    reason: str,
) -> None:
    monkeypatch.setattr("lapilli.model.fit.fit", None)
    with pytest.raises(error, match=reason):
        tune(tiny(), 1, given, **options)


@pytest.mark.parametrize(
    ("model", "error", "reason"),
    [
        (Computed, QuantizeError, "its weights are computed from parameters"),
        (Steps, QuantizeError, "layer 'lif'.*runs step by step"),
        (lambda: tiny().to(torch.bfloat16), QuantizeError, "call .float"),
    ],
)
def test_models_that_cannot_learn_so_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[[], nn.Module],
    error: type[LapilliError],
    reason: str,
) -> None:
    monkeypatch.setattr("lapilli.model.fit.fit", None)
    with pytest.raises(error, match=reason):
        tune(model().eval(), 1)
