"""Networks that end in weights for each step: the host's, of steps that are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare_all  # noqa: E402
from lapilli.deploy.comparison.golden import write_golden  # noqa: E402
from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.export.onnx.reader import read_onnx  # noqa: E402
from lapilli.export.onnx.writer import save_onnx  # noqa: E402
from lapilli.ir.answers import Answer  # noqa: E402
from lapilli.ir.errors import CaptureError, InputError  # noqa: E402
from lapilli.ir.network import Task  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402

pytestmark = pytest.mark.torch

_T, _K, _C, _N = 4, 3, 6, 16


class Ends(nn.Module):
    """Spikes (T, B, C, 4, 4) and currents of a head (T, B, K) of each step, and an end."""

    def __init__(self, end: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end
        self.conv, self.lif = nn.Conv2d(1, _C, 3, padding=1), LIF(v_threshold=0.2)
        self.head, self.seg = nn.Linear(_C * _N, _K), nn.Conv2d(_C, _K, 1)
        self.steps = nn.Parameter(torch.rand(_T) - 0.3)
        self.over_steps = nn.Linear(_T, 1)
        self.flat = nn.Linear(_T * _C * _N, _K)
        self.full_size, self.norm = nn.Conv2d(_C, _C, (_N, _T), groups=_C), nn.BatchNorm2d(_C)
        self.last = nn.Linear(_C, _K)

    def forward(self, images: Tensor) -> Tensor:
        B = images.shape[0]
        x = images.unsqueeze(0).repeat(_T, 1, 1, 1, 1).flatten(0, 1)
        s = self.lif(self.conv(x).reshape(_T, B, _C, 4, 4))
        return self.end(self, s, self.head(s.flatten(2)))


def sgl(m: Any, s: Tensor, y: Tensor) -> Tensor:
    """SGLFormer's head: a convolution as large as all tokens and steps, a norm, a linear map."""
    x = s.flatten(3).permute(1, 2, 3, 0)  # B C N T
    x = m.norm(m.full_size(x)).squeeze(-1).mean(-1)
    logits: Tensor = m.last(x.reshape(len(x), -1))
    return logits


ENDS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], str]] = {
    "weights times steps": (lambda m, s, y: (m.steps[:, None, None] * y).sum(0), "weights"),
    "an einsum": (lambda m, s, y: torch.einsum("tbk,t->bk", y, m.steps), "weights"),
    "the mean of the last three": (lambda m, s, y: y[-3:].mean(0), "weights"),
    "one step": (lambda m, s, y: y[1], "weights"),
    "the difference of two": (lambda m, s, y: y[-1] - y[0], "weights"),
    "a map, by weights": (
        lambda m, s, y: (m.steps[:, None, None, None, None]
                         * m.seg(s.flatten(0, 1)).reshape(_T, -1, _K, 4, 4)).sum(0), "weights",
    ),
    "a linear map of the steps": (
        lambda m, s, y: m.over_steps(y.permute(1, 2, 0))[..., 0], "matrix",
    ),
    "a linear map of everything": (lambda m, s, y: m.flat(s.transpose(0, 1).flatten(1)), "matrix"),
    "SGLFormer's head": (sgl, "matrix"),
}  # fmt: skip


def ends(end: Callable[[Any, Tensor, Tensor], Tensor]) -> Ends:
    torch.manual_seed(2)
    model = Ends(end).eval()
    with torch.no_grad():
        model.conv.weight.mul_(2)
        assert model.norm.running_mean is not None
        model.norm.running_mean.fill_(0.1)
    return model


def calibration() -> Tensor:
    made: Tensor = torch.rand((12, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    return made


def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (6, 1, 4, 4), np.uint8)


@pytest.mark.parametrize("name", ENDS)
def test_steps_are_exact_and_the_host_adds_them_up(name: str, tmp_path: Path) -> None:
    end, how = ENDS[name]
    model = ends(end)
    made = quantize(model, calibration())
    network, given = made.network, pixels()
    (answer,) = network.answers
    assert bool(answer.weights) == (how == "weights")
    assert (answer.matrix is not None) == (how == "matrix")
    assert any("which the host computes" in str(note) for note in made.notes)

    save_network(network, tmp_path / "n.lapilli")
    loaded = load_network(tmp_path / "n.lapilli")
    assert (loaded.digest, loaded.answers) == (network.digest, network.answers)
    reference = reference_of(loaded, model)
    others = {
        simulator: target(simulator).compile(loaded.graph)
        for simulator in ("reference", "event-driven", "onnx", "fast")
    }
    for comparison in compare_all(loaded, reference, others, given):
        comparison.require()
    shown = reference.run(loaded.encode(given))
    (output,) = loaded.graph.outputs
    assert shown.values[output].shape[0] == _T
    assert network.task is (Task.MAP if "map, by" in name else Task.CLASSES)

    (integers,) = loaded.read(shown).values()
    with torch.no_grad():
        real = model(torch.from_numpy(given).float() / 255).numpy()
    assert integers.shape == real.shape
    ours = integers * float(answer.scale)
    assert np.corrcoef(ours.ravel(), real.ravel())[0, 1] > 0.9
    assert np.abs(ours - real).mean() < 0.3 * real.std()

    save_onnx(network, tmp_path / "n.onnx")
    assert read_onnx(tmp_path / "n.onnx").digest == network.graph.digest
    assert write_golden(network, given, tmp_path / "g").values > 1000


def test_means_of_a_few_steps_are_whole_numbers_of_a_fraction() -> None:
    network = quantize(ends(ENDS["the mean of the last three"][0]), calibration()).network
    plain = quantize(ends(lambda m, s, y: y[-1]), calibration()).network
    (answer,) = network.answers
    assert answer.weights == (0, 1, 1, 1)
    assert answer.scale == plain.logit_scale * Fraction(1, 3)


def test_a_matrix_by_hand() -> None:
    values = np.arange(12).reshape(2, 3, 2)  # T, B, n
    matrix = IntTensor.of([[1, 2, 3, 4], [0, 0, 0, -1]])
    answer = Answer(scale=Fraction(1), matrix=matrix, offset=(5, 7))
    assert answer.read(values).tolist() == [[53, 0], [73, -2], [93, -4]]
    assert Answer(scale=Fraction(1), weights=(2, -1)).read(values)[0].tolist() == [-6, -5]


def test_another_weight_is_another_answer() -> None:
    network = quantize(ends(ENDS["SGLFormer's head"][0]), calibration()).network
    (answer,) = network.answers
    assert answer.matrix is not None
    array = answer.matrix.array.copy()
    array[0, -1] += 1
    other = replace(network, answers=(replace(answer, matrix=IntTensor.of(array)),))
    assert other.digest != network.digest
    ran = target("reference").compile(network.graph).run(network.encode(pixels()))
    assert not np.array_equal(network.read(ran)["logits"], other.read(ran)["logits"])
    with pytest.raises(InputError, match="does not fit"):
        replace(network, answers=(replace(answer, offset=(1,)),))
    with pytest.raises(InputError, match="a weight for each"):
        replace(network, answers=(replace(answer, steps=True),))


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (lambda m, s, y: (y[1:] * y[:-1]).sum(0), "computes across T or B"),
        (lambda m, s, y: torch.where(y[1] > 0, y[0], y[2]), "takes the steps of"),
        (lambda m, s, y: (y * m.steps[:, None, None]).sum(0).clamp(-99, 99), "for all time steps"),
        (lambda m, s, y: y.mean(0) - y.mean((0, 1)), "sums over the batch"),
        (
            lambda m, s, y: m.head(m.lif(s * m.steps[:, None, None, None, None]).flatten(2)).sum(0),
            "not the same for all time steps",
        ),
    ],
)  # fmt: skip
def test_what_is_no_linear_map_of_steps(
    end: Callable[[Any, Tensor, Tensor], Tensor], problem: str
) -> None:
    with pytest.raises(CaptureError, match=problem):
        quantize(ends(end), calibration())
