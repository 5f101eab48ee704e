"""A scale for each output channel: where it may be, which it is, and that every value is exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, integers, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare_recordings  # noqa: E402
from lapilli.deploy.surveys.coverage import integers as encoded  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import MismatchError, QuantizeError, RecipeError  # noqa: E402
from lapilli.ir.network import Network  # noqa: E402
from lapilli.ir.semantics import State, integrate  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.rule import NeuronRule, StaircaseRule  # noqa: E402
from lapilli.model.trial import SMALL, drawn, trial_images  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.channel_scales import Rows, channel_scales  # noqa: E402
from lapilli.quantize.channels import _holds  # noqa: E402
from lapilli.quantize.neurons import StateFormat, integer_neuron  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402
from lapilli.quantize.staircase import staircase  # noqa: E402
from lapilli.simulators.fast import Fast  # noqa: E402
from lapilli.simulators.onnx import Onnx  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

# Convolutions and linear maps, streams, heads, integer spikes, events, and neurons that stand in.
_FAMILIES = (
    "spikingformer dvs",
    "qkformer channel",
    "e-spikeformer",
)


def _uneven(model: nn.Module) -> nn.Module:
    """The same model, its channels of sizes that differ by up to 30."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d):
                factors = torch.logspace(-0.7, 0.7, len(module.weight), dtype=module.weight.dtype)
                module.weight.mul_(factors.reshape(-1, *[1] * (module.weight.ndim - 1)))
    return model


def _factors(made: Quantized) -> dict[str, tuple[int, ...]]:
    recipe = made.network.recipe
    assert recipe is not None
    return {record.path: record.factors for record in recipe.synapses}


def _again(made: Quantized, model: nn.Module, folder: Path) -> Quantized:
    save_network(made.network, folder / "net.lapilli")
    network = load_network(folder / "net.lapilli")
    return replace(made, network=network, reference=reference_of(network, model))


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("scales", ["channel", "group:2"])
def test_every_value_is_exact_and_comes_back(scales: str, bits: int, tmp_path: Path) -> None:
    model = _uneven(tiny())
    made = quantize(model, images(), weight_bits=bits, scales=scales)
    factors = _factors(made)
    assert {path for path, some in factors.items() if len(set(some)) > 1} >= {"conv", "fc"}
    assert factors["a"] == factors["b"]  # one stream
    assert len(set(factors["head"])) > 1 or scales == "group:2"  # the host multiplies its logits
    if scales == "group:2":
        assert factors["fc"][::2] == factors["fc"][1::2]
    thresholds = [n.op.threshold.shape for n in made.network.graph.nodes
                  if isinstance(n.op, ops.Neuron)]  # fmt: skip
    assert (4, 1, 1) in thresholds
    assert compare(made, images(40, seed=2)) > 1000
    assert compare(_again(made, model, tmp_path), images(40, seed=2)) > 1000


@pytest.mark.parametrize("name", _FAMILIES)
def test_families_are_exact(name: str) -> None:
    config, size = SMALL[name]
    model, given = drawn(config, size, 0), trial_images(config, size)
    events = given.ndim == 5
    layout = "BTCHW" if events else "BCHW"
    made = quantize(model, given, layout=layout, counts=events, scales="channel", weight_bits=4)
    assert sum(len(set(some)) > 1 for some in _factors(made).values()) > 2
    assert _compared(made, given) > 1000


def _compared(made: Quantized, given: Tensor) -> int:
    """Against every simulator that is always there; the number of values."""
    integers = encoded(made.network, given.numpy())
    want = made.reference.run_images(integers)
    graph = made.network.graph
    steps = integers if integers.ndim == 5 else np.broadcast_to(integers[:, None], (
        len(integers), graph.T, *integers.shape[1:]))  # fmt: skip
    inputs = {graph.inputs[0]: np.moveaxis(steps, 1, 0)}
    values = 0
    for simulator in (Reference(), Fast(), Onnx()):
        have = simulator.compile(graph).run(inputs)
        found = compare_recordings(graph, want, have)
        assert found.exact, found
        values += found.compared
    return values


def test_few_bits_lie_nearer_to_uneven_weights() -> None:
    model = _uneven(tiny())
    errors = []
    for scales in ("tensor", "group:2", "channel"):
        made = quantize(model, images(), weight_bits=4, scales=scales)
        held = made.reference.module.get_parameter("fc.weight").detach()
        own = model.get_parameter("fc.weight").detach().double()
        errors.append(float((held - own).square().sum()))
    assert errors[0] > 2 * errors[1] > 2 * errors[2] > 0


@pytest.mark.parametrize("seed", range(4))
def test_no_scale_of_the_channel_lies_nearer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = Rows(rng.standard_t(4, size=(12, 30)) * np.exp(rng.normal(size=(12, 1))), 0.5, 4)
    chosen = channel_scales({"a": rows})
    each = float(chosen.unit) * np.array(chosen.factors, float)
    best = rows.errors(each)
    tried = 0
    for number in range(-160, 80):  # numbers of five bits: none that cuts off more lies nearer
        scale = (16 + number % 16) * 2.0 ** (number // 16)
        cuts = scale < rows.tops()
        assert (best <= rows.errors(np.full(12, scale)) + 1e-12)[cuts].all()
        tried += int(cuts.sum())
    assert tried > 500
    assert max(chosen.factors).bit_length() <= 16
    assert best.sum() < rows.errors(rows.tops()).sum()


def test_scales_of_a_stream_are_its_channels() -> None:
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(size=(9, 1)))
    members = {
        "fine": Rows(rng.normal(size=(9, 30)) * size, 1.0, 4),
        "coarse": Rows(rng.normal(size=(9, 30)) * size * 8, 1.0, 4),
    }
    chosen = channel_scales(members)
    assert chosen.exponents == {"fine": 0, "coarse": 3}
    assert channel_scales({"a": Rows(np.zeros((3, 4)), 1.0, 4)}).factors == (1, 1, 1)
    some = Rows(np.array([[0.0, 0], [4, 1], [1e-9, 0]]), 1.0, 4)
    factors = channel_scales({"a": some}).factors
    assert max(factors) < 1 << 16
    assert min(factors) >= 1


@pytest.mark.parametrize("form", [None, StateFormat(3, loihi_threshold=False)])
def test_a_neuron_in_channels_is_many_neurons(form: StateFormat | None) -> None:
    rule = NeuronRule(decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1))
    factors = IntTensor.of([[1], [3], [20], [31]])
    made = integer_neuron(rule, Fraction(1, 1024), 4, form, factors)
    assert made.exact
    assert isinstance(made.op, ops.Neuron)
    assert made.op.threshold.shape == (4, 1)
    for n, m in enumerate(factors.array.ravel().tolist()):
        alone = integer_neuron(rule, Fraction(m, 1024), 4, form)
        assert isinstance(alone.op, ops.Neuron)
        assert made.op.threshold.array[n, 0] == alone.op.threshold.array[0]
        assert made.op.fraction_bits == alone.op.fraction_bits
    steps = StaircaseRule(levels=4, norm=4)
    together = staircase(steps, Fraction(1, 64), factors).thresholds.array
    assert together.shape == (4, 4, 1)
    for n, m in enumerate(factors.array.ravel().tolist()):
        alone_steps = staircase(steps, Fraction(m, 64)).thresholds.array
        assert np.array_equal(together[:, n, 0], alone_steps)


@pytest.mark.parametrize("form", [None, StateFormat(4, loihi_threshold=False), StateFormat(-1)])
@pytest.mark.parametrize("kept", [Fraction(1, 2), Fraction(1)])
def test_a_soft_reset_takes_its_own_amount_in_each_channel(
    kept: Fraction, form: StateFormat | None
) -> None:
    rule = NeuronRule(
        decay=kept,
        gain=Fraction(1),
        v_threshold=Fraction(1),
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(3, 4),
    )
    factors, T = IntTensor.of([[1], [3], [20], [31]]), 5
    made = integer_neuron(rule, Fraction(1, 1024), T, form, factors)
    assert isinstance(made.op, ops.GeneralNeuron)
    assert not made.exact
    assert "its soft reset takes another number of units in each channel" in made.note
    bits = made.op.fraction_bits
    assert bits == (form.fraction_bits if form else 6 if kept == 1 else 24 - 15)
    x = np.random.default_rng(0).integers(-300, 700, (T, 40, 4, 3)) // factors.array
    state = State.zeros(x.shape[1:])
    alone, fired = [State.zeros(x.shape[1:]) for _ in range(4)], 0
    for current in x:
        got = integrate(made.op, current, state)
        state = got.state
        for n, m in enumerate(factors.array.ravel().tolist()):
            in_state = Fraction(1024, m) * Fraction(2) ** bits
            by_itself = ops.Neuron(
                threshold=IntTensor.of([math.ceil(in_state)]),
                dv=0 if kept == 1 else 2048,
                reset=ops.Reset.BY_SUBTRACTION,
                reset_by=round(in_state * Fraction(3, 4)),
                fraction_bits=bits,
            )
            one = integrate(by_itself, current, alone[n])
            alone[n] = one.state
            assert np.array_equal(one.spikes[:, n], got.spikes[:, n])
            assert np.array_equal(one.membrane[:, n], got.membrane[:, n])
        fired += int(got.spikes.sum())
    assert 0 < fired < x.size


def test_a_soft_reset_of_either_sign_has_one_scale() -> None:
    rule = NeuronRule(
        decay=Fraction(1, 2),
        gain=Fraction(1),
        v_threshold=Fraction(1),
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(1),
        ternary=True,
    )
    resting = replace(rule, v_rest=Fraction(1, 4), ternary=False)
    for odd, why in ((rule, "either sign and a soft reset"), (resting, "a resting potential")):
        assert not _holds(odd)
        with pytest.raises(ValueError, match=f"{why}: one scale for all"):
            integer_neuron(odd, Fraction(1, 64), 4, None, IntTensor.of([1, 3]))
    assert _holds(replace(rule, ternary=False))


class _Elsewhere(nn.Module):
    """A current whose channels a neuron does not know apart."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.lif0, self.lif = LIF(2.0, 0.4), LIF(2.0, 0.4)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(2, 1, 1, 1, 1).flatten(2)
        x = self.fc(self.lif0(x))  # (T, B, 6)
        if self.how == "mixed":
            x = x.reshape(2, -1, 2, 3)
        elif self.how == "summed":
            x = x.reshape(2, -1, 6, 1).sum(2, keepdim=True).expand(2, -1, 6, 1)
        elif self.how == "summed away":  # as many sums as there were channels
            x = x.reshape(2, -1, 6, 1).expand(2, x.shape[1], 6, 6).sum(2)
        elif self.how == "kept":
            x = x.reshape(2, -1, 1, 6, 1).transpose(2, 3)
        logits: Tensor = self.head(self.lif(x).flatten(2)).mean(0)
        return logits


@pytest.mark.parametrize(
    ("how", "apart"), [("mixed", False), ("summed", False), ("summed away", False), ("kept", True)]
)
def test_where_channels_are_known_apart(how: str, apart: bool) -> None:
    torch.manual_seed(0)
    model = _uneven(_Elsewhere(how)).eval()
    calibration = torch.randn(30, 1, 2, 3) * 2
    made = quantize(model, calibration, scales="channel")
    assert bool(_factors(made)["fc"]) is apart


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scales": "row"}, "no scales 'row': tensor, channel or group:N"),
        ({"scales": "group:0"}, "no scales 'group:0'"),
        ({"scales": "channel", "target": "stock"}, "one threshold for all channels"),
    ],
)
def test_what_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuantizeError, match=reason):
        quantize(tiny(), images(), **options)


def _spoiled(made: Quantized, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Network:
    recipe = made.network.recipe
    assert recipe is not None
    records = tuple(
        replace(record, factors=change(record.factors)) if record.path == "fc" else record
        for record in recipe.synapses
    )
    return replace(made.network, recipe=replace(recipe, synapses=records))


def test_planted_factors_are_found() -> None:
    model = _uneven(tiny())
    made = quantize(model, images(), scales="channel")
    wrong = _spoiled(made, lambda factors: (factors[0] * 2, *factors[1:]))
    other = replace(made, reference=reference_of(wrong, model))
    with pytest.raises((AssertionError, MismatchError)):
        compare(other, images(40, seed=2))
    short = _spoiled(made, lambda factors: factors[1:])
    with pytest.raises(RecipeError, match="7 scales of channels of 'fc'"):
        reference_of(short, model)


class _Sliced(nn.Module):
    """Half of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head, self.lif = nn.Linear(6, 6), nn.Linear(3, 3), LIF(2.0, 0.4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc(images.unsqueeze(0).repeat(2, 1, 1, 1, 1).flatten(2))
        logits: Tensor = self.head(self.lif(x[..., 3:])).mean(0)
        return logits


class _Averaged(nn.Module):
    """The mean over nine tokens, in front of the head: its input is in units of 1/9."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head, self.lif = nn.Linear(6, 6), nn.Linear(6, 3), LIF(2.0, 0.4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.unsqueeze(0).repeat(2, 1, 1, 1, 1).flatten(2, 3)
        logits: Tensor = self.head(self.lif(self.fc(tokens)).mean(2)).mean(0)
        return logits


@pytest.mark.parametrize("bits", [3, 8])
def test_classes_behind_a_mean_over_nine_tokens_have_a_scale_each(bits: int) -> None:
    torch.manual_seed(0)
    model, calibration = _uneven(_Averaged()).eval(), torch.randn(30, 1, 9, 6) * 2
    made = quantize(model, calibration, scales="channel", weight_bits=bits)
    assert len(set(_factors(made)["head"])) > 1
    compare(made, torch.randn(20, 1, 9, 6) * 2)


class _Soft(nn.Module):
    """A soft reset, of a neuron that is called once for each step."""

    def __init__(self, *, reads: bool = False) -> None:
        super().__init__()
        import snntorch

        self.fc, self.head, self.reads = nn.Linear(6, 6), nn.Linear(6, 3), reads
        self.soft: Any = snntorch.Leaky(beta=0.5, threshold=0.7, reset_mechanism="subtract")

    def forward(self, images: Tensor) -> Tensor:
        mem, seen = self.soft.init_leaky(), []
        for step in self.fc(images.unsqueeze(0).repeat(4, 1, 1, 1, 1).flatten(2)):
            s, mem = self.soft(step, mem)
            seen.append(mem if self.reads else s)
        logits: Tensor = self.head(torch.stack(seen)).mean(0)
        return logits


def test_what_keeps_one_scale() -> None:
    torch.manual_seed(0)
    pytest.importorskip("snntorch")
    for model in (_Sliced(), _Soft(reads=True)):
        calibration = torch.randn(30, 1, 2, 3) * 2
        made = quantize(_uneven(model).eval(), calibration, scales="channel")
        assert [path for path, some in _factors(made).items() if some] == ["head"]


@pytest.mark.parametrize("bits", [4, 8])
def test_a_soft_reset_keeps_the_scales_of_its_channels(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pytest.importorskip("snntorch")
    model = _uneven(_Soft()).eval()
    calibration = torch.randn(30, 1, 2, 3) * 2
    made = quantize(model, calibration, scales="channel", weight_bits=bits)
    assert len(set(_factors(made)["fc"])) > 2
    (neuron,) = (
        node.op for node in made.network.graph.nodes if node.name in made.network.graph.neurons
    )
    assert isinstance(neuron, ops.GeneralNeuron)
    assert len(set(neuron.reset_by.array.ravel().tolist())) > 2
    given = torch.randn(20, 1, 2, 3) * 2
    compare(made, given)
    save_network(made.network, tmp_path / "soft.lapilli")
    network = load_network(tmp_path / "soft.lapilli")
    assert network == made.network
    compare(replace(made, reference=reference_of(network, model)), given)


class _Cut(nn.Module):
    """Four rows of six channels, read as six rows of four: none of them is a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(24, 3)
        self.lif0, self.lif = LIF(2.0, 0.4), LIF(2.0, 0.4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc(self.lif0(images.unsqueeze(0).repeat(2, 1, 1, 1, 1).flatten(2, 3)))
        x = x.reshape(2, -1, 6, 4)
        logits: Tensor = self.head(self.lif(x).flatten(2)).mean(0)
        return logits


def test_as_many_rows_are_no_channels() -> None:
    torch.manual_seed(0)
    model = _uneven(_Cut()).eval()
    made = quantize(model, torch.randn(30, 1, 4, 6) * 2, scales="channel")
    assert [path for path, some in _factors(made).items() if some] == ["head"]


class _Map(nn.Module):
    """A class for each place, and steps that are all looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 3, 1)
        self.lif = LIF(2.0, 0.4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images).unsqueeze(0).repeat(2, 1, 1, 1, 1)
        maps: Tensor = self.head(self.lif(x).flatten(0, 1)).reshape(2, -1, 3, 2, 3)
        return maps


@pytest.mark.parametrize("over_time", ["mean", "steps", "last"])
def test_classes_of_a_map_have_scales(over_time: str) -> None:
    torch.manual_seed(0)
    model, given = _uneven(_Map()).eval(), torch.randn(30, 1, 2, 3) * 2
    made = quantize(model, given, scales="channel", over_time=over_time, weight_bits=4)
    factors = _factors(made)["head"]
    assert len(set(factors)) == 3
    assert _compared(made, given) > 1000
    (multiplied,) = [
        node.op for node in made.network.graph.nodes
        if isinstance(node.op, ops.Conv2d) and node.op.groups == 3
    ]  # fmt: skip
    assert multiplied.graded
    assert multiplied.weight.array.ravel().tolist() == list(factors)


def test_logits_are_near_floats_in_one_unit() -> None:
    """Of classes whose weights differ in size, a factor for each keeps more of the small ones."""
    model, given = _uneven(tiny()), images(200, seed=5)
    with torch.no_grad():
        model.get_parameter("head.weight")[2].mul_(1 / 16)
        real = model(given).double().numpy()
    errors = {}
    for scales in ("tensor", "channel"):
        made = quantize(model, images(), scales=scales, layer_bits={"head": 4})
        output = made.network.graph.outputs[0]
        logits = made.reference.run_images(integers(made, given)).values[output][-1]
        off = logits * float(made.network.logit_scale) - real
        errors[scales] = float(np.square(off).mean(0)[2] / real.var(0)[2])
    assert errors["tensor"] > 4 * errors["channel"]


def test_a_target_of_few_bits_multiplies_no_logits() -> None:
    made = quantize(_uneven(tiny()), images(), scales="channel", weight_bits=4, target="loihi2")
    assert [path for path, some in _factors(made).items() if not some] == ["head"]
