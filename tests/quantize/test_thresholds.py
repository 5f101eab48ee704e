"""A threshold for each neuron or channel, as snnTorch learns them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
snn = pytest.importorskip("snntorch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, MismatchError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.capture.probe import probe  # noqa: E402
from lapilli.model.neurons.adapters import GeneralRule, NeuronRule, Thresholds, rule_of  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.neurons import StateFormat, integer_neuron, next_coarser  # noqa: E402
from lapilli.simulators.lava.shared.legality import unsupported_by_lif  # noqa: E402

pytestmark = pytest.mark.torch

_T = 4


def _leaky(shape: tuple[int, ...], beta: float = 0.5, mechanism: str = "zero") -> Any:
    """Learned thresholds, all different."""
    count = int(np.prod(shape))
    thresholds = torch.linspace(0.11, 0.83, count).reshape(shape)
    return snn.Leaky(
        beta=beta, threshold=thresholds, learn_threshold=True, reset_mechanism=mechanism
    )


class Net(nn.Module):
    """Of maps, then of features: thresholds for each channel, then for each neuron."""

    def __init__(self, beta: float = 0.5, mechanism: str = "zero") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.first = nn.Conv2d(1, 6, 3, padding=1), _leaky((6, 1, 1), beta, mechanism)
        self.fc, self.second = nn.Linear(54, 10), _leaky((10,), beta, mechanism)
        self.head = nn.Linear(10, 3)

    def forward(self, images: Tensor) -> Tensor:
        u, v, out = self.first.init_leaky(), self.second.init_leaky(), []
        for _ in range(_T):
            s, u = self.first(self.conv(images), u)
            s, v = self.second(self.fc(s.flatten(1)), v)
            out.append(self.head(s))
        logits: Tensor = torch.stack(out).mean(0)
        return logits


def _quantized(
    beta: float = 0.5, mechanism: str = "zero", bits: int = 5
) -> tuple[Quantized, Tensor]:
    images = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    return quantize(Net(beta, mechanism).eval(), images, input_bits=bits), images


def _thresholds(made: Quantized) -> list[Any]:
    used = [node.op for node in made.network.graph.nodes]
    return [op.threshold.array for op in used if isinstance(op, ops.Neuron)]


# Of 8-bit pixels, the first layer's state is too fine for 24 bits, and takes the small one.
@pytest.mark.parametrize(("beta", "bits", "both_sides"), [(0.5, 5, 0), (0.5, 8, 0), (0.9, 8, 2)])
@pytest.mark.parametrize("mechanism", ["zero", "none"])
def test_learned_thresholds_are_exact(
    beta: float, bits: int, both_sides: int, mechanism: str, exact_on: Callable[..., int]
) -> None:
    made, images = _quantized(beta, mechanism, bits)
    first, second = _thresholds(made)
    assert (first.shape, second.shape) == ((6, 1, 1), (10,))
    assert len(np.unique(first)) == 6
    assert len(np.unique(second)) == 10
    assert [n.kind for n in made.notes].count(NoteKind.INTEGER_NEURON) == both_sides
    assert exact_on(made, images) > 7_000


def test_one_wrong_threshold_is_caught(exact_on: Callable[..., int]) -> None:
    made, images = _quantized()
    with torch.no_grad():
        made.reference.module.get_parameter("second.threshold")[3] *= 0.5
    with pytest.raises((AssertionError, MismatchError)):
        exact_on(made, images)


@pytest.mark.lava
def test_learned_thresholds_are_exact_on_lava() -> None:
    from lapilli.deploy.comparison.compare import compare_recordings

    made, images = _quantized()
    network = made.network
    scale = 2.0**network.input.exponent
    integers = np.rint(images.double().numpy() * scale).clip(-15, 15).astype(np.int64)
    expected = made.reference.run_images(integers)
    steps = np.broadcast_to(integers, (_T, *integers.shape))
    got = target("lava").compile(network.graph).run({network.graph.inputs[0]: steps})
    found = compare_recordings(network.graph, expected, got)
    assert found.exact, str(found)
    reasons = unsupported_by_lif(network.graph)
    several = {f.node for f in reasons if f.reason.startswith("one threshold per neuron")}
    assert several == set(network.graph.neurons)


def test_equal_thresholds_are_one() -> None:
    assert Thresholds.of(torch.full((3, 1, 1), 0.5)) == Fraction(1, 2)
    assert Thresholds.of(torch.tensor([[1.0, 2.0]])) == Thresholds((Fraction(1), Fraction(2)), (2,))


def test_a_wrong_rule_for_one_neuron_is_found() -> None:
    module = _leaky((5,))
    rule = rule_of(module, "lif")
    assert isinstance(rule, NeuronRule)
    assert isinstance(rule.v_threshold, Thresholds)
    assert probe(module, "lif") > 4_000
    values = (*rule.v_threshold.values[:4], rule.v_threshold.values[4] * 2)
    wrong = replace(rule, v_threshold=Thresholds(values, (5,)))
    with pytest.raises(CaptureError, match="is not what its rule says: after currents"):
        probe(module, "lif", wrong)


def test_each_neuron_subtracts_its_own_amount(exact_on: Callable[..., int]) -> None:
    rule = rule_of(_leaky((5,), mechanism="subtract"), "lif")
    assert isinstance(rule, GeneralRule)
    assert rule.reset_by.array.tolist() == [[2 * theta for theta in rule.thresholds.values]]
    made, images = _quantized(mechanism="subtract")
    assert exact_on(made, images) > 1000


def test_a_state_that_does_not_fit_takes_the_integer_neuron() -> None:
    each = Thresholds((Fraction(1), Fraction(3)), (2,))
    rule = NeuronRule(decay=Fraction(1, 2), gain=Fraction(1), v_threshold=each)
    fine = integer_neuron(rule, Fraction(1, 64), _T)
    assert fine.exact
    assert next_coarser(fine, rule, _T, stock=True) == StateFormat(6)
    form = next_coarser(fine, rule, _T)
    assert form == StateFormat(_T - 1, loihi_threshold=False)
    small = integer_neuron(rule, Fraction(1, 64), _T, form)
    assert small.exact
    assert isinstance(small.op, ops.Neuron)
    assert small.op.threshold.array.tolist() == [64 << (_T - 1), 3 * 64 << (_T - 1)]
    coarse = integer_neuron(rule, Fraction(1, 64), _T, StateFormat(6))
    assert not coarse.exact
    assert "its thresholds differ" in coarse.note
    assert isinstance(coarse.op, ops.Neuron)
    assert coarse.op.threshold.array.tolist() == [64 * 64 + 1, 3 * 64 * 64 + 1]
    assert coarse.op.reset is ops.Reset.TO_ZERO


def test_a_threshold_below_rest_is_refused() -> None:
    each = Thresholds((Fraction(1), Fraction(-3)), (2,))
    with pytest.raises(ValueError, match="v_threshold -3 is not above"):
        NeuronRule(decay=Fraction(1, 2), gain=Fraction(1), v_threshold=each)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of norse, when it is imported
def test_thresholds_of_norse() -> None:
    from norse.torch import LIFBoxCell
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    each, half = torch.tensor([0.5, 1.0, 1.5]), torch.tensor(500.0)
    module = LIFBoxCell(LIFBoxParameters(tau_mem_inv=half, v_th=each))
    rule = rule_of(module, "lif")
    assert isinstance(rule, NeuronRule)
    assert rule.thetas == (Fraction(1, 2), Fraction(1), Fraction(3, 2))
    assert probe(module, "lif") > 4_000
    soft = LIFBoxParameters(tau_mem_inv=half, v_th=each, reset_method=reset_subtract)
    subtracts = rule_of(LIFBoxCell(soft), "lif")
    assert isinstance(subtracts, GeneralRule)
    assert subtracts.reset_by.values == subtracts.thresholds.values == rule.thetas
    assert probe(LIFBoxCell(soft), "lif") > 4_000
    with pytest.raises(CaptureError, match=r"rests at 0\.25, and each neuron subtracts another"):
        rule_of(LIFBoxCell(soft._replace(v_leak=torch.tensor(0.25))), "lif")
