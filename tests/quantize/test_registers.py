"""Layers too wide for 24 bits: made to fit, or refused with numbers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import integers  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.certificate import check_target  # noqa: E402
from lapilli.ir.errors import RangeError  # noqa: E402
from lapilli.ir.targets.lava import LAVA  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


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


def _wide(tokens: int, target: str = "stock") -> Quantized:
    torch.manual_seed(0)
    return quantize(Wide().eval(), torch.randn(2, 1, 1, tokens), target=target)


@pytest.mark.parametrize(
    ("tokens", "weight", "fraction_bits", "rounded"),
    [(2, 64, 9, False), (16, 64, 6, True), (150, 32, 6, True), (300, 16, 6, True)],
)
def test_a_wide_layer_is_made_to_fit(
    tokens: int, weight: int, fraction_bits: int, rounded: bool
) -> None:
    made = _wide(tokens)
    check_target(made.network.graph, LAVA)
    fc, lif = (made.network.graph[n].op for n in ("fc", "wide_lif"))
    assert isinstance(fc, ops.Linear)
    assert isinstance(lif, ops.Neuron)
    assert (fc.weight.range.hi, lif.fraction_bits) == (weight, fraction_bits)
    assert (
        any(str(n).startswith("wide_lif: v_threshold 1.5 rounded by") for n in made.notes)
        == rounded
    )
    head = made.network.graph["head"].op
    assert isinstance(head, ops.Linear)
    assert head.weight.range.magnitude > 63  # others give nothing up


def test_the_rounded_threshold_stands_on_both_sides() -> None:
    made = _wide(16)
    given = integers(made, torch.randn(200, 1, 1, 16) * 2)
    trace = made.reference.run_images(given)
    shown = np.broadcast_to(given, (4, *given.shape))
    got = Reference().compile(made.network.graph).run({"image": shown})
    assert np.array_equal(got.values["wide_lif"], trace.values["wide_lif"])
    assert np.array_equal(got.membranes["wide_lif"], trace.membranes["wide_lif"])
    assert np.array_equal(got.values["logits"][-1], trace.values["logits"][-1])
    lif = made.reference.module.get_submodule("wide_lif")
    assert lif.v_threshold != 1.5


def test_what_cannot_fit_is_refused_with_numbers() -> None:
    with pytest.raises(RangeError, match=r"wide_lif.*needs 25 bits; .* have 24") as caught:
        _wide(8192)
    assert caught.value.node == "wide_lif"
