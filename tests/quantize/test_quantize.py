"""Integers from a trained module: exact on both sides, small enough, and nobody else's data."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from lapilli.ir.certificate import check_registers  # noqa: E402
from lapilli.ir.errors import MismatchError, QuantizeError, RangeError  # noqa: E402
from lapilli.ir.ops import Conv2d, Linear, Neuron  # noqa: E402
from lapilli.ir.tensor import IntArray  # noqa: E402
from lapilli.model.capture import capture  # noqa: E402
from lapilli.model.checkpoint import Checkpoint, build  # noqa: E402
from lapilli.model.digits import PREPROCESSING, Split  # noqa: E402
from lapilli.model.neuron import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.plan import plan  # noqa: E402
from lapilli.quantize.stand_in import on_grid  # noqa: E402
from lapilli.quantize.weights import fold, round_units  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


class Tiny(nn.Module):
    """Convolution with norm, a biased linear map without, and a membrane shortcut."""

    def __init__(self, T: int = 4, tau: float = 2.0, affine: bool = True) -> None:
        super().__init__()
        self.T = T
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4, affine=affine)
        self.fc = nn.Linear(64, 8)
        self.a, self.a_bn = nn.Linear(8, 8), nn.BatchNorm1d(8, affine=affine)
        self.b = nn.Linear(8, 8)
        self.lif0, self.lif1, self.lif2, self.lif3 = (LIF(tau, 0.8 / tau) for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.bn(self.conv(x.flatten(0, 1))).reshape(self.T, -1, 4, 4, 4)
        s = self.lif1(self.fc(self.lif0(x).flatten(2)))
        x = self.a_bn(self.a(s.flatten(0, 1))).reshape(self.T, -1, 8)
        x = x + self.b(self.lif2(x))
        logits: Tensor = self.head(self.lif3(x)).mean(0)
        return logits


def tiny(seed: int = 0, **options: Any) -> Tiny:
    """Weights and statistics of a plausible training; half of the gammas are negative."""
    torch.manual_seed(seed)
    model = Tiny(**options).eval()
    with torch.no_grad():
        for norm in (model.bn, model.a_bn):
            norm.running_mean.copy_(torch.randn_like(norm.running_mean) * 0.1)  # type: ignore[union-attr]
            norm.running_var.copy_(torch.rand_like(norm.running_var) + 0.1)  # type: ignore[union-attr]
            if norm.affine:
                norm.weight.copy_(torch.randn_like(norm.weight) + 0.3)
                norm.bias.copy_(torch.randn_like(norm.bias) * 0.5)
        model.fc.weight.mul_(3)
        model.b.weight.mul_(3)
    return model


def images(count: int = 24, seed: int = 1) -> Tensor:
    made: Tensor = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return made


def integers(made: Quantized, x: Tensor) -> IntArray:
    source = made.network.input
    scaled = np.rint(x.double().numpy() * 2.0**source.exponent).astype(np.int64)
    return scaled.clip(source.lo, source.hi)


def compare(made: Quantized, x: Tensor) -> int:
    """PyTorch and the graph agree on everything; the number of values."""
    given = integers(made, x)
    graph = made.network.graph
    trace = made.reference.run(given)
    got = (
        Reference()
        .compile(graph)
        .run({graph.inputs[0]: np.broadcast_to(given, (graph.T, *given.shape))})
    )
    assert trace.spikes.keys() == trace.membranes.keys() == set(graph.neurons)
    compared = 0
    for name in graph.neurons:
        for mine, theirs in (
            (got.values[name], trace.spikes[name]),
            (got.membranes[name], trace.membranes[name]),
            (got.currents[name], trace.currents[name]),
        ):
            assert np.array_equal(mine, theirs), name
            compared += mine.size
        assert 0 < got.values[name].mean() < 1, name
    (output,) = graph.outputs
    assert np.array_equal(got.values[output][-1], trace.logits)
    assert len(np.unique(trace.logits)) > 5
    return compared + trace.logits.size


@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"T": 2}, {"T": 10}, {"tau": 1.0}, {"tau": 4.0}, {"seed": 5}],
    ids=str,
)
def test_pytorch_is_the_graph(options: dict[str, Any]) -> None:
    made = quantize(tiny(**options), images())
    assert compare(made, images(40, seed=2)) > 1000
    assert not any("integer neuron" in note for note in made.notes)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tau": 1.5}, "decay 0.333333 is no multiple of 1/4096"),
        ({"T": 12}, "its decay moves 11 bits below the unit"),
        ({"tau": 16.0}, "its decay moves 12 bits below the unit"),
    ],
)
def test_an_inexact_neuron_is_replaced_on_both_sides(options: dict[str, Any], why: str) -> None:
    made = quantize(tiny(**options), images())
    assert compare(made, images(40, seed=2)) > 1000
    want = f"the integer neuron stands on both sides: {why}"
    assert len(made.notes) == 4
    for i, note in enumerate(made.notes):  # one of them also says that its state had no room
        assert note.startswith(f"lif{i}: {want}")


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_keep_to_their_bits(bits: int) -> None:
    made = quantize(tiny(), images(), weight_bits=bits)
    most = [int(np.abs(w).max()) for w in _integer_weights(made).values()]
    top = (1 << (bits - 1)) - 1
    assert len(most) == 5
    assert max(most) <= top
    assert sum(m > top // 2 for m in most) >= 3  # and use them
    given = integers(made, images(8))
    assert made.reference.run(given).logits.shape == (8, 3)


@pytest.mark.parametrize("bits", [2, 4, 8, 10])
def test_the_input_keeps_to_its_bits(bits: int) -> None:
    x = images()
    made = quantize(tiny(), x, input_bits=bits)
    source, top = made.network.input, (1 << (bits - 1)) - 1
    assert (source.lo, source.hi) == (-top, top)
    largest = float(x.abs().max()) * 2.0**source.exponent
    assert top / 2 < largest <= top
    if bits > 2:  # with three levels some neurons are silent
        assert compare(made, x) > 1000


# ---- folding ----------------------------------------------------------------------------


def _parameters(model: nn.Module) -> tuple[Any, Any, Any]:
    """Plan, folded units and captured program."""
    captured = capture(model, (1, 4, 4))
    made = plan(captured, Fraction(1, 16))
    return captured, made, {n: fold(captured, u) for n, u in made.units.items()}


def _unit(made: Any, path: str) -> str:
    (name,) = (n for n, u in made.units.items() if u.path == path)
    return str(name)


@pytest.mark.parametrize("gamma", [0.5, -0.5, 0.0])
def test_a_norm_is_folded_exactly(gamma: float) -> None:
    """With dyadic parameters nothing rounds: both sides are the same numbers."""
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 64) / 64)
        for norm in (model.bn, model.a_bn):
            norm.eps = 0.0
            norm.running_var.fill_(0.25)  # type: ignore[union-attr]
            norm.running_mean.copy_(torch.arange(len(norm.running_mean)) / 8 - 0.25)  # type: ignore[union-attr,arg-type]
            norm.weight.fill_(gamma)
    _, made, folded = _parameters(model)
    exact: Any = model.double()
    x = torch.randint(-16, 17, (9, 1, 4, 4)).double() / 8
    s = torch.randint(0, 2, (9, 8)).double()
    with torch.no_grad():
        wants = {"conv": exact.bn(exact.conv(x)), "a": exact.a_bn(exact.a(s)), "b": exact.b(s)}
    for path, want in wants.items():
        unit = folded[_unit(made, path)]
        weight, bias = torch.from_numpy(unit.weight), torch.from_numpy(unit.bias)
        got = (
            functional.conv2d(x, weight, bias, padding=1)
            if path == "conv"
            else functional.linear(s, weight, bias)
        )
        assert torch.equal(got, want), path
        assert want.unique().numel() > (1 if gamma or path == "b" else 0)


def test_a_negative_gamma_turns_the_weights() -> None:
    model = tiny()
    with torch.no_grad():
        model.bn.weight.copy_(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    made = quantize(model, images())
    op = made.network.graph["conv"].op
    assert isinstance(op, Conv2d)
    own, turned = np.sign(model.conv.weight.detach().numpy()), np.sign(op.weight.array)
    assert np.array_equal(np.where(turned[::2] == 0, own[::2], turned[::2]), own[::2])
    assert np.array_equal(np.where(turned[1::2] == 0, -own[1::2], turned[1::2]), -own[1::2])
    assert compare(made, images(seed=3)) > 1000


def test_a_residual_group_shares_its_scale() -> None:
    captured, made, folded = _parameters(tiny())
    units = round_units(made, folded, 8, {})
    a, b, conv, fc, head = (_unit(made, p) for p in ("a", "b", "conv", "fc", "head"))
    assert made.groups[a] == made.groups[b] == a
    assert {made.groups[n] for n in (conv, fc, head)} == {conv, fc, head}
    assert units[a].output_scale == units[b].output_scale
    lif2, lif3 = (
        next(c.name for c in captured.calls.values() if c.path == p) for p in ("lif2", "lif3")
    )
    assert made.feeds[lif2] == {a}
    assert made.feeds[lif3] == {a, b}
    for name, unit in units.items():
        assert unit.weight_scale * made.units[name].input_scale == unit.output_scale
        real = folded[name].weight / float(unit.weight_scale)
        assert np.array_equal(np.rint(real), unit.weight.array)


# ---- the reference ----------------------------------------------------------------------


def _integer_weights(made: Quantized) -> dict[str, npt.NDArray[np.int64]]:
    return {
        n.name: n.op.weight.array
        for n in made.network.graph.nodes
        if isinstance(n.op, Linear | Conv2d)
    }


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"tau": 1.5}], ids=str)
def test_the_reference_has_the_authors_keys_on_grids(options: dict[str, Any]) -> None:
    model = tiny(**options)
    made = quantize(model, images())
    module: Any = made.reference.module

    assert module.state_dict().keys() == model.state_dict().keys()
    assert type(made.reference.module) is Tiny
    assert not module.training
    for path, whole in _integer_weights(made).items():
        weight = module.get_submodule(path).weight
        assert weight.dtype == torch.float64
        ratio = set((weight.detach().numpy()[whole != 0] / whole[whole != 0]).tolist())
        assert len(ratio) == 1, path
        mantissa, _ = np.frexp(ratio.pop())
        assert mantissa == 0.5  # a power of two
        assert not weight.detach().numpy()[whole == 0].any()
    for norm in (module.bn, module.a_bn):
        assert norm.eps == 0
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
        shift = -norm.running_mean
        if norm.affine:
            assert torch.equal(norm.weight, torch.ones_like(norm.weight))
            assert not norm.running_mean.any()
            shift = norm.bias
        assert shift.any()
        assert torch.equal(torch.round(shift * 2**20), shift * 2**20)
    assert not module.a.bias.any()  # it is in the norm's shift
    assert module.b.bias.any()


def test_values_on_the_grid_are_read_exactly() -> None:
    for scale in (Fraction(1, 64), Fraction(5, 48), Fraction(3)):
        whole = np.arange(-5000, 5000, 7)
        real = np.float64(scale.numerator) * whole / np.float64(scale.denominator)
        assert np.array_equal(on_grid("n", real, scale), whole)


@pytest.mark.parametrize("off", [1e-9, -1e-12, 0.5, float("nan"), float("inf")])
def test_a_value_off_the_grid_is_named(off: float) -> None:
    values = np.array([1.0, 2.0, 3.0]) / 64
    values[1] += off / 64
    problem = "is no multiple of 1/64" if np.isfinite(off) else "NaN or infinity"
    with pytest.raises(MismatchError, match=rf"layer\.lif:.*{problem}"):
        on_grid("layer.lif", values, Fraction(1, 64))


@pytest.mark.parametrize(
    ("parameter", "node"),
    [
        ("conv.weight", "lif0"), ("bn.bias", "lif0"), ("fc.bias", "lif1"), ("a.weight", "lif2"),
        ("a_bn.running_mean", "lif2"), ("b.weight", "lif3"), ("head.bias", "logits"),
    ],
)  # fmt: skip
def test_a_parameter_off_its_grid_is_noticed(parameter: str, node: str) -> None:
    made = quantize(tiny(), images())
    value = made.reference.module.state_dict()[parameter]
    value += 2.0**-30
    with pytest.raises(MismatchError, match=rf"^{node}: .* is no multiple of"):
        made.reference.run(integers(made, images()))


# ---- nobody else's data -----------------------------------------------------------------


def test_the_model_passed_in_is_not_changed() -> None:
    model = tiny()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modules = dict(model.named_modules())

    made = quantize(model, images())
    made.reference.run(integers(made, images()))

    assert dict(model.named_modules()) == modules
    assert not any(m._forward_hooks or m.training for m in modules.values())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(v.dtype == before[k].dtype for k, v in model.state_dict().items())
    assert {m.v_threshold for m in modules.values() if isinstance(m, LIF)} == {0.4}
    assert model.bn.eps == 1e-5


def test_a_run_changes_neither_answer_nor_memory() -> None:
    made = quantize(tiny(), images())
    given = integers(made, images())
    first, second = made.reference.run(given), made.reference.run(given)
    alone = made.reference.run(given[3:4])
    assert np.array_equal(first.logits, second.logits)
    assert np.array_equal(first.logits[3:4], alone.logits)


def test_nothing_but_model_and_calibration_counts() -> None:
    want = quantize(tiny(), images()).network
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    try:
        other = quantize(tiny_as_float32(), images().float()).network
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.initial_seed() == 0  # of `tiny`: quantize draws and seeds nothing
    assert other == want
    assert other.graph.digest == want.graph.digest
    model, given = tiny(), images()
    state = torch.get_rng_state()
    assert quantize(model, given).network == want
    assert torch.equal(torch.get_rng_state(), state)


def tiny_as_float32() -> Tiny:
    torch.set_default_dtype(torch.float32)
    model = tiny()
    torch.set_default_dtype(torch.float64)
    return model


def test_only_calibration_images_are_seen(
    checkpoint: Callable[[str], Checkpoint],
    spike_driven: Quantized,
    training: Split,
    test_split: Split,
) -> None:
    """The splits share no image, and test images of another world change nothing."""
    assert not {x.tobytes() for x in training.images} & {x.tobytes() for x in test_split.images}
    assert len(training.images) + len(test_split.images) == 1797
    kept = test_split.images.copy()
    try:
        test_split.images[...] = 255 - test_split.images
        again = quantize(
            build(checkpoint("spike_driven")),
            PREPROCESSING.normalise(training.images[:256]),
            mean=PREPROCESSING.mean,
            std=PREPROCESSING.std,
            classes=PREPROCESSING.classes,
        )
    finally:
        test_split.images[...] = kept
    assert again.network == spike_driven.network


def test_calibration_chooses_the_input_scale() -> None:
    x = images()
    near, far = (quantize(tiny(), x * k).network.input for k in (1, 5))
    assert near.exponent - far.exponent in (2, 3)
    # A single image at the end of the range decides; the others do not.
    x[1:] = 0
    assert quantize(tiny(), x).network.input.exponent >= near.exponent


def test_pixels_beyond_calibration_are_clipped_on_both_sides() -> None:
    made = quantize(tiny(), images() / 4)
    given = integers(made, images() * 4)
    assert given.max() == made.network.input.hi
    assert compare(made, images() * 4) > 1000


# ---- registers --------------------------------------------------------------------------


class Wide(nn.Module):
    """One neuron that hears `tokens` * 16 spikes, each with weight 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.embed_lif = nn.Linear(1, 16), LIF()
        self.fc, self.wide_lif, self.head = nn.Linear(16, 2), LIF(v_threshold=1.5), nn.Linear(2, 2)
        with torch.no_grad():
            self.fc.weight.fill_(1.0)
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1).unsqueeze(2).unsqueeze(0).repeat(4, 1, 1, 1)
        x = self.fc(self.embed_lif(self.embed(x))).sum(2)
        logits: Tensor = self.head(self.wide_lif(x)).mean(0)
        return logits


def _wide(tokens: int) -> Quantized:
    torch.manual_seed(0)
    return quantize(Wide().eval(), torch.randn(2, 1, 1, tokens))


@pytest.mark.parametrize(
    ("tokens", "weight", "fraction_bits", "rounded"),
    [(2, 64, 9, False), (16, 64, 6, True), (150, 32, 6, True), (300, 16, 6, True)],
)
def test_a_wide_layer_is_made_to_fit(
    tokens: int, weight: int, fraction_bits: int, rounded: bool
) -> None:
    made = _wide(tokens)
    check_registers(made.network.graph)
    fc, lif = (made.network.graph[n].op for n in ("fc", "wide_lif"))
    assert isinstance(fc, Linear)
    assert isinstance(lif, Neuron)
    assert (fc.weight.range.hi, lif.fraction_bits) == (weight, fraction_bits)
    assert any(n.startswith("wide_lif: v_threshold 1.5 rounded by") for n in made.notes) == rounded
    head = made.network.graph["head"].op
    assert isinstance(head, Linear)
    assert head.weight.range.magnitude > 63  # others give nothing up


def test_the_rounded_threshold_stands_on_both_sides() -> None:
    made = _wide(16)
    given = integers(made, torch.randn(200, 1, 1, 16) * 2)
    trace = made.reference.run(given)
    shown = np.broadcast_to(given, (4, *given.shape))
    got = Reference().compile(made.network.graph).run({"image": shown})
    assert np.array_equal(got.values["wide_lif"], trace.spikes["wide_lif"])
    assert np.array_equal(got.membranes["wide_lif"], trace.membranes["wide_lif"])
    assert np.array_equal(got.values["logits"][-1], trace.logits)
    lif = made.reference.module.get_submodule("wide_lif")
    assert lif.v_threshold != 1.5


def test_what_cannot_fit_is_refused_with_numbers() -> None:
    with pytest.raises(RangeError, match=r"wide_lif.*needs 25 bits; .* have 24") as caught:
        _wide(8192)
    assert caught.value.node == "wide_lif"


# ---- refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calibration", "problem"),
    [
        (torch.zeros(0, 1, 4, 4), r"calibration must be \(count, C, H, W\), got .*0, 1, 4, 4"),
        (torch.zeros(1, 4, 4), "calibration must be"),
        (torch.zeros(5, 1, 4, 4), r"calibration images reach 0\.0; are they images"),
        (torch.full((5, 1, 4, 4), torch.nan), "calibration images reach nan"),
        (torch.full((5, 1, 4, 4), -torch.inf), "calibration images reach inf"),
    ],
)
def test_calibration_that_says_nothing(calibration: Tensor, problem: str) -> None:
    with pytest.raises(QuantizeError, match=problem) as caught:
        quantize(tiny(), calibration)
    assert caught.value.layer == "image"


@pytest.mark.parametrize(
    "options", [{"weight_bits": 1}, {"weight_bits": 9}, {"input_bits": 1}, {"input_bits": 17}]
)
def test_bits_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(QuantizeError, match="weights take 2 to 8 bits, the input 2 to 16"):
        quantize(tiny(), images(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"mean": (0.1, 0.2)}, {"std": (0.5, 0.5)}, {"std": (0.0,)}])
def test_normalisation_that_does_not_fit(options: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(QuantizeError, match="one mean and one positive std"):
        quantize(tiny(), images(), **options)  # type: ignore[arg-type]


def test_one_name_for_each_answer() -> None:
    with pytest.raises(QuantizeError, match="2 class names for 3 logits"):
        quantize(tiny(), images(), classes=("a", "b"))
    assert quantize(tiny(), images(), classes="abc").network.classes == ("a", "b", "c")


def _broken(change: Callable[[Tiny], object]) -> Tiny:
    model = tiny()
    with torch.no_grad():
        change(model)
    return model


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (lambda m: m.fc.weight.fill_(torch.nan), "fc"),
        (lambda m: m.b.bias.fill_(torch.inf), "b"),
        (lambda m: m.bn.running_var.fill_(-1.0), "conv"),
    ],
)
def test_parameters_that_are_no_numbers(change: Callable[[Tiny], object], layer: str) -> None:
    with pytest.raises(QuantizeError, match="holds NaN or infinity") as caught:
        quantize(_broken(change), images())
    assert caught.value.layer == layer


class Ends(nn.Module):
    """Tiny's stem, and a layer that has no integer form here."""

    def __init__(self, rule: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.fc, self.lif = nn.Linear(16, 8), LIF()
        self.one, self.two, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, self.lif(self.fc(x.flatten(1)[None].repeat(4, 1, 1))))


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (lambda m, x: m.head(m.lif(m.two(m.one(x) + m.one(m.lif(m.two(x)))))).mean(0),
         "'two': is a linear map of a real current"),
        (lambda m, x: m.head(m.lif(m.one(x) * m.two(x))).mean(0), "multiplies two real currents"),
        (lambda m, x: m.head(m.lif(m.norm((m.one(x) + m.two(m.lif(x))).flatten(0, 1))
                                   .view(*x.shape))).mean(0),
         "'norm': is a batch norm that does not follow a linear map of its own"),
        (lambda m, x: m.head(m.lif((y := m.one(x)) + y * 0.5)).mean(0), "times itself"),
        (lambda m, x: m.head(x.mean(0) + x.mean(0) / 99), "scales differ by 99"),
],
)  # fmt: skip
def test_what_has_no_integer_form_is_named(
    rule: Callable[[Any, Tensor], Tensor], problem: str
) -> None:
    with pytest.raises(QuantizeError, match=problem):
        quantize(Ends(rule).eval(), images())


# ---- the digits -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_trained_networks_are_exact(
    quantized: Callable[[str], Quantized], name: str, test_split: Split
) -> None:
    made = quantized(name)
    assert compare_digits(made, test_split.images[:24]) > 100_000
    assert made.network.input.mean == (Fraction(3, 10),)
    assert made.network.input.std == (Fraction(2, 5),)
    assert all(np.abs(w).max() <= 127 for w in _integer_weights(made).values())
    assert {b.name for b in made.bounds} == set(made.network.graph.neurons)


def compare_digits(made: Quantized, pixels: npt.NDArray[np.uint8]) -> int:
    (given,) = made.network.encode(pixels).values()
    trace = made.reference.run(given[0])
    got = Reference().compile(made.network.graph).run({"image": given})
    compared = 0
    for name in made.network.graph.neurons:
        assert np.array_equal(got.values[name], trace.spikes[name]), name
        assert np.array_equal(got.membranes[name], trace.membranes[name]), name
        assert 0 < got.values[name].mean() < 1, name
        compared += got.values[name].size
    assert np.array_equal(got.values["logits"][-1], trace.logits)
    return compared
