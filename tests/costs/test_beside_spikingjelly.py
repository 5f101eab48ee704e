"""SpikingJelly's own estimators and ours, on the same float network's spikes, line by line.

What differs is explained to the last operation (`frameworks/spikingjelly_lines.py`): batch
norm, which is in the integers' weights; additions that PyTorch makes inside neurons; 4 bytes for
every number.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based")

from frameworks.spikingjelly_energy import (  # noqa: E402
    Beside,
    alive,
    beside,
    row,
    whole,
)
from frameworks.spikingjelly_lines import Line  # noqa: E402
from spikingjelly.activation_based.model.spikformer import Spikformer  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch

_PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
_BY_SHAPE = {  # lines that no spike decides, so that they are the same on every machine
    "MAC: batch norm",
    "AC: mean over tokens",
    "AC: batch norm",
    "AC: the read-out",
}


def _beside(T: int, count: int, *, bias: bool) -> Beside:
    torch.manual_seed(0)
    model: nn.Module = Spikformer(
        num_classes=5, embed_dims=32, depths=1, T=T, num_heads=2, patch_size=4
    )
    model.head = nn.Linear(32, 5, bias=bias)
    images = torch.randn(3, 3, 16, 16) * torch.tensor([0.3, 1.0, 3.0]).reshape(3, 1, 1, 1)
    return beside(alive(model, images), images[:count])


def _explained(lines: Iterable[Line]) -> None:
    for line in lines:
        assert line.theirs - line.ours == line.apart, line
        assert line.why or not line.apart, line


def _picojoules(lines: Iterable[Line], side: str) -> float:
    """Energy of lines by the prices of fp32."""
    prices = {"MAC": 4.6, "AC": 0.9, "bytes": 24.96}
    return sum(prices[line.what.split(":")[0]] * float(getattr(line, side)) for line in lines)


def test_every_line_of_theirs_is_explained() -> None:
    found = _beside(4, 3, bias=True)
    _explained([*found.simple, *found.lemaire])
    by = {line.what: line for line in found.simple}
    assert by["AC: maps of spikes"].ours > 1_000_000
    assert by["MAC: maps whose input is no spikes"].ours > 1_000_000
    assert by["AC: products of attention"].ours > 10_000
    assert by["AC: residual sums"].ours > 10_000
    for side, total in zip(("theirs", "ours"), found.picojoules["simple"], strict=True):
        assert _picojoules(found.simple, side) == pytest.approx(total, rel=1e-12)


def test_lemaire_costs_the_same_where_a_memory_holds_one_step_of_one_image() -> None:
    """Of several, SpikingJelly takes memories to hold all at once; biases apart."""
    found = _beside(1, 1, bias=False)
    _explained([*found.simple, *found.lemaire])
    theirs, ours = found.picojoules["lemaire"]
    assert theirs == pytest.approx(ours, rel=1e-12)
    assert ours > 1_000_000


@pytest.mark.slow
def test_the_whole_network_is_explained() -> None:
    found = whole()
    _explained([*found.simple, *found.lemaire])
    page = _PAGE.read_text()
    assert [row(line) for line in found.simple if line.what in _BY_SHAPE and row(line) in page] == [
        row(line) for line in found.simple if line.what in _BY_SHAPE
    ]
    assert all(f"| {line.what} | " in page for line in (*found.simple, *found.lemaire))
