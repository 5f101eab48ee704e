"""What speaks against a calibration is refused, or told, before anything takes time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.tiny import images, tiny  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import LapilliError, QuantizeError  # noqa: E402
from lapilli.ir.recipe import Note, NoteKind  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import pipeline, quantize  # noqa: E402
from lapilli.quantize.calibration import calibration_notes  # noqa: E402
from lapilli.quantize.image_statistics import first_norms, image_statistics  # noqa: E402
from lapilli.quantize.options import QuantizeOptions  # noqa: E402

pytestmark = pytest.mark.torch


class _StartedError(Exception):
    """Work has begun that takes time."""


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise _StartedError

    monkeypatch.setattr(pipeline, "prepare", start)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("calibration", "options"),
    [
        (torch.zeros(0, 1, 4, 4), {}),
        (torch.full((3, 1, 4, 4), 0.3), {}),
        (torch.full((3, 1, 4, 4), torch.nan), {}),
        (torch.full((3, 1, 4, 4), 2.0), {"counts": True}),
        (images(), {"weight_bits": 1}),
        (images(), {"layer_bits": {"fcc": 4}}),
        (images(), {"input_bits": 1}),
        (images(), {"std": (0.0,), "mean": (0.0,)}),
    ],
)
def test_what_cannot_work_is_refused_before_capture(
    calibration: Tensor, options: QuantizeOptions
) -> None:
    with pytest.raises(QuantizeError):
        quantize(tiny(), calibration, **options)
    with pytest.raises(_StartedError):
        quantize(tiny(), images())


_RAW = torch.rand(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
_MEAN, _STD = (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)
_NORMALISED = (_RAW - 0.45) / 0.25


@pytest.mark.parametrize(
    ("calibration", "options", "kind", "text"),
    [
        (_NORMALISED, {"mean": _MEAN, "std": _STD}, None, ""),
        (_RAW, {}, None, ""),
        (_RAW, {"mean": (0.0,) * 3, "std": (1.0,) * 3}, None, ""),
        ((_RAW - 0.5) / 0.5, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, None, ""),
        (_NORMALISED, {}, NoteKind.NORMALISATION, "neither mean nor std is given"),
        (_RAW, {"mean": _MEAN, "std": _STD}, NoteKind.NORMALISATION, "normalised at all"),
        (_RAW * 255, {"mean": _MEAN, "std": _STD}, NoteKind.NORMALISATION, "not of 0 to 255"),
        ((_RAW * 255 - 0.45) / 0.25, {"mean": _MEAN, "std": _STD}, NoteKind.NORMALISATION,
         "not of 0 to 255"),
        ((0.1 * _RAW - 0.45) / 0.25, {"mean": _MEAN, "std": _STD}, NoteKind.NORMALISATION,
         "average 1.6 standard deviations"),
        (_RAW[:1].repeat(4, 1, 1, 1), {}, NoteKind.CALIBRATION, "all 4 calibration images"),
        (_RAW * torch.tensor([1.0, 0.0, 1.0])[:, None, None], {}, NoteKind.CALIBRATION,
         "of channel 1 is 0"),
        ((_RAW > 0.5).float() * torch.tensor([1.0, 0.0, 1.0])[:, None, None], {"counts": True},
         None, ""),
    ],
)  # fmt: skip
def test_images_that_the_options_do_not_describe(
    calibration: Tensor, options: QuantizeOptions, kind: NoteKind | None, text: str
) -> None:
    notes = calibration_notes(calibration, options)
    assert [note.kind for note in notes] == ([kind] if kind else [])
    assert all(text in note.text and note.is_warning for note in notes)


class Stem(nn.Module):
    """Convolutions in front of a batch norm, trained on images of mean 0 and variance 1."""

    def __init__(self, front: nn.Module, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.norm = front, nn.BatchNorm2d(channels, momentum=None)
        self.lif, self.later = LIF(v_threshold=0.5), nn.Conv2d(channels, 4, 1)
        self.later_norm, self.last, self.head = nn.BatchNorm2d(4), LIF(), nn.Linear(4, 3)
        self.train()
        for _ in range(4):
            self(torch.randn(60, 1, 6, 6))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        s = self.lif(self.norm(self.front(x)).expand(4, -1, -1, -1, -1))
        y = self.later_norm(self.later(s.flatten(0, 1))).unflatten(0, (4, -1))
        logits: Tensor = self.head(self.last(y).mean((3, 4))).mean(0)
        return logits


_FRONTS: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "one convolution": lambda: (nn.Conv2d(1, 6, 3, padding=1), 6),
    "two in a row": lambda: (nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 1)), 6),
    "the image": lambda: (nn.Identity(), 1),
}


@pytest.mark.parametrize("front", _FRONTS)
@pytest.mark.parametrize("factor", [1.0, 0.1, 10.0])
def test_the_first_norm_says_whether_images_are_those_of_training(
    front: str, factor: float
) -> None:
    model = Stem(*_FRONTS[front]())
    captured = capture(model, (1, 6, 6))
    assert first_norms(captured) == ["norm"]
    ran = []
    hook = model.later.register_forward_hook(lambda *_: ran.append(1))
    x = torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(7)) * factor
    notes = image_statistics(captured, x)
    hook.remove()
    assert not ran  # the forward ended at the batch norm
    assert [(n.kind, n.path) for n in notes] == (
        [] if factor == 1 else [(NoteKind.NORMALISATION, "norm")]
    )
    if notes:
        spread = float(notes[0].text.split(" times its variance")[0].split()[-1])
        assert factor**2 * 0.7 < spread < factor**2 * 1.4


def test_warnings_come_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise _StartedError

    monkeypatch.setattr(pipeline, "fit", start)
    told: list[Note] = []
    x = 10 * torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(7))
    with pytest.raises(_StartedError):
        quantize(Stem(*_FRONTS["one convolution"]()), x, warn=told.append)
    assert [(n.kind, n.path) for n in told] == [
        (NoteKind.NORMALISATION, "image"),
        (NoteKind.NORMALISATION, "norm"),
    ]
    monkeypatch.undo()
    told.clear()
    made = quantize(Stem(*_FRONTS["one convolution"]()), x, warn=told.append)
    assert [n for n in made.notes if n in told] == told
    assert len(told) == 2


def test_the_command_line_refuses_before_it_reads(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from lapilli.deploy.cli import images as image_files
    from lapilli.deploy.cli.app import app

    def start(*_: object) -> None:
        raise _StartedError

    monkeypatch.setattr(image_files, "training_images", start)
    asked = ["quantize", "missing.pth", "-o", f"{tmp_path}/x.lapilli", "--calibration", "images"]
    for wrong in (["--layer-bits", "head=9"], ["--weight-scale", "mean"], ["--target", "brain"]):
        done = CliRunner().invoke(app, [*asked, *wrong])
        assert isinstance(done.exception, QuantizeError), wrong
    assert isinstance(CliRunner().invoke(app, asked).exception, _StartedError)
    assert CliRunner().invoke(app, [*asked, "--bits", "1"]).exit_code == 2


_FILE = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.lif, self.head = nn.Conv2d(1, 4, 3), LIF(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lif(self.stem(x).expand(4, -1, -1, -1, -1)).mean((3, 4))).mean(0)
"""


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.full((3, 1, 4, 4), 77, np.uint8), "Every pixel of all 3 is the same"),
        (np.zeros((0, 1, 4, 4), np.uint8), "are uint8 (0, 1, 4, 4)"),
        (np.full((3, 1, 4, 4), np.nan, np.float32), "images"),
    ],
)
def test_bad_calibration_on_the_command_line(
    tmp_path: object, pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]], problem: str
) -> None:
    from typer.testing import CliRunner

    from lapilli.deploy.cli.app import app

    np.savez(f"{tmp_path}/images.npz", images=pixels)
    with open(f"{tmp_path}/net.py", "w") as file:
        file.write(_FILE)
    asked = ["quantize", f"{tmp_path}/net.py:Net", "-o", f"{tmp_path}/x.lapilli"]
    asked += ["--calibration", f"{tmp_path}/images.npz", "--no-normalisation"]
    done = CliRunner().invoke(app, asked)
    assert isinstance(done.exception, LapilliError)
    assert problem in str(done.exception)
