"""Where PyTorch's side computes in float32, and that nothing can be rounded there unseen."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import compare, images, integers, tiny  # noqa: E402
from torch import nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare_recordings  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import MismatchError  # noqa: E402
from lapilli.ir.graph import Graph, Node  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.ir.types import IntRange, Kind, TensorType  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.pytorch import narrow, precision  # noqa: E402
from lapilli.quantize.pytorch.narrow import NarrowLayer  # noqa: E402
from lapilli.quantize.pytorch.precision import narrow_nodes  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

TOO_LARGE = (1 << 24) + 1  # the first integer that float32 does not hold


def layers(made: Quantized) -> dict[str, Any]:
    """Path -> what computes in the place of its forward."""
    named = made.reference.module.named_modules()
    return {path: vars(m)["forward"] for path, m in named if "forward" in vars(m)}


def test_every_layer_of_a_small_network_is_narrow_and_exact() -> None:
    made = quantize(tiny(), images())
    found = layers(made)
    synapses = {"conv", "bn", "fc", "a", "a_bn", "b", "head"}
    assert {p for p, f in found.items() if isinstance(f, NarrowLayer)} == synapses
    with torch.no_grad():
        x = torch.from_numpy(integers(made, images()).astype(np.float64))
        assert made.reference.module(x * float(made.reference.image_scale)).dtype == torch.float32
    assert compare(made, images()) > 1000


def one_layer(weight: list[int], bias: int, *, T: int = 1) -> Graph:
    """Spikes 0..1, a linear map, its read-out."""
    nodes = (
        Node("image", ops.Input(type=TensorType((len(weight),), IntRange(0, 1), Kind.SPIKES))),
        Node(
            "map",
            ops.Linear(weight=IntTensor.of([weight]), bias=IntTensor.of([bias])),
            ("image",),
        ),
        Node("logits", ops.Readout(), ("map",)),
    )
    return Graph(nodes, ("logits",), T)


@pytest.mark.parametrize(
    ("weight", "bias", "T", "fits"),
    [
        ([1 << 23, 1 << 22], 1 << 22, 1, True),
        ([1 << 23, 1 << 22], (1 << 22) + 1, 1, False),
        ([1 << 23, -(1 << 23)], 0, 1, True),
        ([1 << 23, -(1 << 23)], 1, 1, False),  # no sum is so large, but a sum of magnitudes
        ([1 << 22], 0, 4, True),  # an average over time adds the steps
        ([(1 << 22) + 1], 0, 4, False),
    ],
)
def test_the_bound_is_of_every_partial_sum(
    weight: list[int], bias: int, T: int, fits: bool
) -> None:
    found = narrow_nodes(one_layer(weight, bias, T=T), {"map"})
    assert ("map" in found) is fits
    assert "image" not in found


def test_values_that_meet_have_one_precision() -> None:
    image = ops.Input(type=TensorType((1,), IntRange(0, 1), Kind.SPIKES))

    def scaled(by: int) -> ops.Linear:
        return ops.Linear(weight=IntTensor.of([[by]]), bias=IntTensor.of([0]))

    neuron = ops.Neuron(
        threshold=IntTensor.of([1]), dv=4096, du=4096, bias=IntTensor.of([0]), fraction_bits=0
    )
    nodes = (
        Node("image", image),
        Node("small", scaled(1), ("image",)),
        Node("large", scaled(1 << 24), ("image",)),
        Node("other", scaled(1), ("image",)),
        Node("sum", ops.Add(), ("small", "large")),
        Node("lif", neuron, ("sum",)),
        Node("lif2", neuron, ("other",)),
        Node("both", ops.Add(), ("lif", "lif2")),
        Node("logits", ops.Readout(), ("both",)),
    )
    graph = Graph(nodes, ("logits",), 1)
    modules = {"small", "large", "other", "lif", "lif2"}
    assert narrow_nodes(graph, modules) == {"other", "lif", "lif2", "both", "logits"}


def linear(*weight: float) -> Any:
    layer = nn.Linear(len(weight), 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weight]))
    return layer


def test_a_sum_of_2_24_plus_1_is_caught_where_float32_is_forced() -> None:
    layer = NarrowLayer("fc", linear(4096.0, 1.0), {"weight": Fraction(1)})
    with torch.no_grad():
        assert layer(torch.tensor([[4096.0, 0.0]])).item() == TOO_LARGE - 1
        with pytest.raises(MismatchError, match="fc: PyTorch's float32 rounds"):
            NarrowLayer("fc", layer.own, layer.grids)(torch.tensor([[4096.0, 1.0]]))


class _Everything:
    """Holds every shape: no result is compared with that of float64."""

    def __contains__(self, shape: object) -> bool:
        return True


def test_logits_beyond_2_24_are_caught_where_float32_is_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the bound, by the first result, and by the comparison with a simulator."""
    model: Any = tiny()
    with torch.no_grad():
        model.head.bias += 80_000.3
    made = quantize(model, images())
    assert isinstance(layers(made)["fc"], NarrowLayer)
    assert "head" not in layers(made)
    graph = made.network.graph
    given = {graph.inputs[0]: integers(made, images())[None].repeat(graph.T, axis=0)}
    want = Reference().compile(graph).run(given)
    assert want.values["logits"].max() > TOO_LARGE * graph.T
    assert compare_recordings(graph, made.reference.run(given), want).exact

    monkeypatch.setattr(precision, "LARGEST", 1 << 40)
    with pytest.raises(MismatchError, match="head: PyTorch's float32 rounds"):
        quantize(model, images())
    monkeypatch.setattr(narrow, "set", _Everything, raising=False)
    forced = quantize(model, images())
    assert isinstance(layers(forced)["head"], NarrowLayer)
    got = compare_recordings(graph, forced.reference.run(given), want)
    assert got.mismatches
    assert got.first is not None
    assert got.first.kind == "logits"


def test_a_transform_is_caught() -> None:
    """NNPACK convolves large batches by Winograd's transform; here, it would be the only one."""
    torch.manual_seed(0)
    own: Any = nn.Conv2d(16, 16, 3, padding=1, bias=False).double()
    with torch.no_grad():
        own.weight.copy_(torch.randint(-127, 128, own.weight.shape))
    x = torch.randint(0, 2, (32, 16, 16, 16)).double()
    with torch.no_grad():
        layer = NarrowLayer("conv", own, {"weight": Fraction(1)})
        assert torch.equal(layer(x).double(), own(x))
        other: Any = _Transformed(16, 16, 3, padding=1, bias=False).double()
        other.weight.copy_(own.weight)
        layer = NarrowLayer("conv", other, {"weight": Fraction(1)})
        with pytest.raises(MismatchError, match="conv: PyTorch's float32 rounds"):
            layer(x)


class _Transformed(nn.Conv2d):
    """Convolves through the frequencies, as float32 does in a transform: near, and rounded."""

    def forward(self, input: Any) -> Any:  # noqa: A002
        size = [n + 2 for n in input.shape[-2:]]
        frequencies = torch.fft.rfft2(input, s=size)
        kernel = torch.fft.rfft2(self.weight.flip(-1, -2), s=size)
        product = torch.einsum("bixy,oixy->boxy", frequencies, kernel)
        return torch.fft.irfft2(product, s=size)[..., 1:-1, 1:-1]


def test_a_parameter_that_float32_does_not_hold_is_named() -> None:
    own = linear(1.0, 2.0)
    layer = NarrowLayer("fc", own, {"weight": Fraction(1)})
    with torch.no_grad():
        own.weight[0, 1] += 2.0**-40
        with pytest.raises(MismatchError, match=r"fc\.weight: .* is no multiple of 1 "):
            layer(torch.ones(1, 2))


@pytest.mark.parametrize("options", [{"tau": 1.5}, {"T": 3}], ids=str)
def test_a_network_of_other_constants_is_exact(options: dict[str, Any]) -> None:
    assert compare(quantize(tiny(**options), images()), images()) > 500


def test_a_layer_beyond_the_bound_runs_in_float64_among_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "LARGEST", 3000)
    made = quantize(tiny(), images())
    found = {p for p, f in layers(made).items() if isinstance(f, narrow.NarrowLayer)}
    assert found
    assert not {"conv", "fc", "a", "b", "head"} <= found
    assert compare(made, images()) > 1000
