"""Token ids: an embedding is a lookup, which is a linear map of one spike among many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import lapilli as lp  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, InputError, QuantizeError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_T, _V, _N = 4, 11, 5


class Reads(nn.Module):
    """Ids (B, N), or (T, B, N), to three logits."""

    def __init__(self, *, timed: bool = False, rows: int = _V) -> None:
        super().__init__()
        self.timed = timed
        self.look = nn.Embedding(rows, 8, padding_idx=0)
        self.lif, self.mid, self.lif2 = LIF(v_threshold=0.3), nn.Linear(8, 8), LIF(v_threshold=0.2)
        self.head = nn.Linear(8 * _N, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.look(ids)
        if not self.timed:
            x = x.unsqueeze(0).repeat(_T, 1, 1, 1)
        x = self.lif2(self.mid(self.lif(x)))
        logits: Tensor = self.head(x.flatten(2)).mean(0)
        return logits


def reads(**options: Any) -> Reads:
    torch.manual_seed(0)
    model = Reads(**options).eval()
    with torch.no_grad():
        model.mid.weight.mul_(4)
    return model


def ids(count: int, seed: int, *, timed: bool = False) -> np.ndarray:
    shape = (count, _T, _N) if timed else (count, _N)
    return np.random.default_rng(seed).integers(0, _V, shape)


@pytest.mark.parametrize("timed", [False, True])
def test_ids_are_exact(timed: bool, tmp_path: Path) -> None:
    model = reads(timed=timed)
    layout = "TBN" if timed else "BN"
    made = quantize(model, torch.from_numpy(ids(20, 0, timed=timed)), layout=layout, ids=_V)
    network, given = made.network, ids(6, 1, timed=timed)
    graph = network.graph
    assert graph.types[graph.inputs[0]].shape == (_N, _V)
    assert graph.types[graph.inputs[0]].is_binary
    lookup = next(n.op for n in graph.nodes if isinstance(n.op, ops.Linear))
    assert not lookup.graded
    lp.save(network, tmp_path / "n.lapilli")
    loaded = lp.load(tmp_path / "n.lapilli")
    assert (loaded.digest, loaded.ids) == (network.digest, _V)
    on = ["reference", "event-driven", "onnx", "fast"]
    report = lp.compare(loaded, given, on=on, model=model)
    report.require()
    assert report.comparisons[0].compared > 6 * _T * _N * 8

    with torch.no_grad():
        told = torch.from_numpy(given)
        real = model(told.transpose(0, 1) if timed else told).numpy()
    (ours,) = network.read(lp.run(network, given)).values()
    scaled = ours * float(network.logit_scale)
    assert np.corrcoef(scaled.ravel(), real.ravel())[0, 1] > 0.9
    assert lp.quantization_report(made, model, given).mismatches == 0


def test_another_token_is_another_answer() -> None:
    network = quantize(reads(), torch.from_numpy(ids(20, 0)), layout="BN", ids=_V).network
    one = ids(1, 1)
    other = one.copy()
    other[0, 2] = (other[0, 2] + 1) % _V
    mine, theirs = (lp.run(network, given).values["lif"] for given in (one, other))
    assert not np.array_equal(mine, theirs)
    assert np.array_equal(network.spread_out(one).argmax(-1), one)


@pytest.mark.parametrize(
    ("calibration", "options", "problem"),
    [
        (torch.rand(4, _N), {}, r"token ids must be whole numbers \(count, N\)"),
        (torch.zeros(4, _N, 1).long(), {}, r"token ids must be whole numbers \(count, N\)"),
        (torch.full((4, _N), _V), {}, "are not below 11"),
        (torch.full((4, _N), -1), {}, "token ids of -1 to -1"),
        (torch.ones(4, _N).long(), {"mean": [0.5]}, "mean is for images, not for token ids"),
    ],
)
def test_what_are_no_ids(calibration: Tensor, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(QuantizeError, match=problem):
        quantize(reads(), calibration, layout="BN", ids=_V, **options)


def test_lookups_that_are_none() -> None:
    given = torch.from_numpy(ids(20, 0))
    with pytest.raises(CaptureError, match="looks up 13 tokens, and 11 are said to be"):
        quantize(reads(rows=13), given, layout="BN", ids=_V)
    with pytest.raises(CaptureError):
        quantize(reads(), given.float(), layout="BN")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (np.zeros((2, _N)), "token ids are whole numbers, got float64"),
        (np.full((2, _N), 11), "token ids of 11 to 11 are not below 11"),
        (np.zeros((2, 4), np.int64), r"expected inputs of shape \(5, 11\) each"),
    ],
)
def test_what_a_network_of_ids_does_not_take(given: np.ndarray, problem: str) -> None:
    network = quantize(reads(), torch.from_numpy(ids(20, 0)), layout="BN", ids=_V).network
    with pytest.raises(InputError, match=problem):
        network.encode(given)
