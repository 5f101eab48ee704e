"""Bipolar attention: PyTorch = reference = event-driven, its two roundings on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.certificate import check_target  # noqa: E402
from lapilli.ir.errors import MismatchError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.ir.semantics import evaluate  # noqa: E402
from lapilli.ir.targets.lava import LAVA  # noqa: E402
from lapilli.model.families.lif import LIF, TernaryLIF  # noqa: E402
from lapilli.model.neurons.shiftmax import Shiftmax  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402

pytestmark = pytest.mark.torch

_WIDTH = 12


class Bipolar(nn.Module):
    """One attention over the pixels of an image, two heads, T = 4.

    Options: values of an average over three tokens, whose unit is no power of two; a values'
    weight that is large beside the others; a second linear map of the values, to be merged.
    """

    def __init__(self, *, average: bool = False, large: float = 1.0, merged: bool = False) -> None:
        super().__init__()
        self.embed, self.embed_lif = nn.Linear(1, _WIDTH), LIF(v_threshold=0.4)
        self.q, self.k, self.v = (nn.Linear(_WIDTH, _WIDTH) for _ in range(3))
        self.q_lif, self.k_lif = TernaryLIF(v_threshold=0.15), TernaryLIF(v_threshold=0.15)
        self.shiftmax, self.attn_lif = Shiftmax(), TernaryLIF(v_threshold=0.08)
        self.head, self.average = nn.Linear(_WIDTH, 3), average
        self.after = nn.Linear(_WIDTH, _WIDTH) if merged else nn.Identity()
        with torch.no_grad():
            self.v.weight[0, 0] *= large

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)[None, :, :, None].repeat(4, 1, 1, 1)  # (T, B, N, 1)
        x = self.embed_lif(self.embed(x))
        y = x.unflatten(2, (3, 3)).mean(3) if self.average else x
        q, k, v = (
            z.unflatten(3, (2, -1)).transpose(2, 3)
            for z in (self.q_lif(self.q(x)), self.k_lif(self.k(y)), self.after(self.v(y)))
        )
        y = self.shiftmax(q @ k.mT, v).transpose(2, 3).flatten(3)
        logits: Tensor = self.head(self.attn_lif(y)).mean((0, 2))
        return logits


def made(**options: Any) -> Quantized:
    torch.manual_seed(0)
    model = Bipolar(**options).eval()
    return quantize(model, torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def images() -> Tensor:
    drawn: Tensor = torch.randn(40, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    return drawn * 2


def _node(quantized: Quantized) -> ops.ShiftSum:
    op = quantized.network.graph["shiftmax"].op
    assert isinstance(op, ops.ShiftSum)
    return op


@pytest.mark.parametrize(
    "options", [{}, {"average": True}, {"large": 40.0}, {"merged": True}], ids=str
)
def test_bipolar_attention_is_exact(
    options: dict[str, Any], images: Tensor, exact_on: Callable[..., int]
) -> None:
    quantized = made(**options)
    assert exact_on(quantized, images, live=False) > 40_000
    spikes = quantized.reference.run_images(_integers(quantized, images)).values
    for name in ("q_lif", "k_lif", "attn_lif"):
        assert {-1, 0, 1} == set(np.unique(spikes[name]).tolist()), name
    in_place = NoteKind.CAPTURED_PROGRAM in {note.kind for note in quantized.notes}
    assert in_place == bool(options.get("merged"))
    (note,) = (n for n in quantized.notes if n.kind is NoteKind.SHIFTMAX)
    assert note.path == "shiftmax"
    assert f"weights below 2**-{_node(quantized).reach} are left out" in note.text
    check_target(quantized.network.graph, LAVA)


def _integers(quantized: Quantized, images: Tensor) -> Any:
    source = quantized.network.input
    given = np.rint(images.double().numpy() * 2.0**source.exponent).astype(np.int64)
    return given.clip(source.lo, source.hi)


def test_scores_and_values_of_the_small_model_tell_roundings_apart(images: Tensor) -> None:
    """Not vacuous: sums are truncated in both directions, and shifts of many sizes appear."""
    quantized = made()
    seen: list[tuple[Any, Any]] = []
    own: Any = quantized.reference.module.get_submodule("shiftmax")
    own.register_forward_hook(lambda m, args, y: seen.append((m.weights(args[0]), args)))
    quantized.reference.run_images(_integers(quantized, images))
    ((weights, (_, v)),) = seen
    sums = (weights @ v / own.unit).numpy()
    assert ((sums > 0) & (sums % 1 != 0)).mean() > 0.1
    assert ((sums < 0) & (sums % 1 != 0)).mean() > 0.1
    assert len(weights.unique()) > 5


@pytest.mark.parametrize(
    "fault",
    [
        lambda m: setattr(m, "unit", None),
        lambda m: setattr(m, "unit", m.unit * 2),
        lambda m: setattr(m, "reach", 2),
        lambda m: setattr(m, "weights", lambda x: Shiftmax.weights(m, x) / 2),
    ],
    ids=["not-truncated", "another-unit", "another-reach", "another-exponent"],
)
def test_another_rounding_in_pytorch_is_noticed(
    fault: Callable[[Any], None], images: Tensor, exact_on: Callable[..., int]
) -> None:
    quantized = made()
    fault(quantized.reference.module.get_submodule("shiftmax"))
    with pytest.raises((AssertionError, MismatchError)):
        exact_on(quantized, images, live=False)


@pytest.mark.parametrize("unit", [2.0**-7, 2.0**-7 / 3], ids=["dyadic", "third"])
def test_the_module_is_the_definition(unit: float) -> None:
    rng = np.random.default_rng(0)
    x, v = rng.integers(-50, 51, (200, 5, 7)), rng.integers(-9_000, 9_001, (200, 7, 3))
    x[:100] //= 20  # ties
    own = Shiftmax()
    own.unit, own.reach = unit, 17
    y = own(torch.from_numpy(x).double(), torch.from_numpy(v).double() * unit)
    want = evaluate(ops.ShiftSum(window=Shiftmax.window, reach=17), (x, v))
    assert torch.equal(y, torch.from_numpy(want).double() * unit)


def test_unquantized_nothing_is_rounded() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(-9, 10, (20, 5, 7))).double()
    v = torch.from_numpy(rng.normal(size=(20, 7, 3)))
    assert torch.equal(Shiftmax()(x, v), Shiftmax().weights(x) @ v)


def test_the_model_passed_in_keeps_its_shiftmax() -> None:
    torch.manual_seed(0)
    model = Bipolar().eval()
    quantize(model, torch.randn(4, 1, 3, 3))
    assert (model.shiftmax.unit, model.shiftmax.reach) == (None, 40)


class Heavy(Bipolar):
    """Values that many inputs of equal weight make: their neuron's register is short."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.v = nn.Linear(_WIDTH * tokens, _WIDTH)
        with torch.no_grad():
            self.v.weight.fill_(1.0)
            self.v.weight[::2] = -1.0
        self.attn_lif = TernaryLIF(v_threshold=1.5)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)[None, :, :, None].repeat(4, 1, 1, 1)
        x = self.embed_lif(self.embed(x))
        q, k = (
            z.unflatten(3, (2, -1)).transpose(2, 3)
            for z in (self.q_lif(self.q(x)), self.k_lif(self.k(x)))
        )
        v = self.v(x.repeat(1, 1, 1, self.tokens)).unflatten(3, (2, -1)).transpose(2, 3)
        y = self.shiftmax(q @ k.mT, v).transpose(2, 3).flatten(3)
        logits: Tensor = self.head(self.attn_lif(y)).mean((0, 2))
        return logits


@pytest.mark.parametrize(("tokens", "weight"), [(8, 64), (150, 64), (400, 16)])
def test_a_short_register_takes_fewer_weight_bits(
    tokens: int, weight: int, images: Tensor, exact_on: Callable[..., int]
) -> None:
    torch.manual_seed(0)
    quantized = quantize(Heavy(tokens).eval(), images, target="stock")
    check_target(quantized.network.graph, LAVA)
    v = quantized.network.graph["v"].op
    assert isinstance(v, ops.Linear)
    assert v.weight.range.magnitude == weight
    assert exact_on(quantized, images, live=False) > 40_000
