"""`compare` needs the model and images: every option of `quantize` is remembered by the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.export.native import load_network  # noqa: E402

pytestmark = pytest.mark.torch

_FILE = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF

class Spike(nn.Module):
    def forward(self, x):
        return torch.clamp(x, 0, 4).round() / 4

class Net(nn.Module):
    def __init__(self, channels=1, neuron="lif", results=1, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.T, self.results, self.events = 4, results, channels == 2
        self.conv, self.norm = nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)
        self.lif = Spike() if neuron == "own" else LIF(v_threshold=0.4)
        self.fc = nn.Linear(width, 8)
        self.last, self.head = LIF(v_threshold=0.2), nn.Linear(8, 3)
        with torch.no_grad():
            self.conv.weight.mul_(4)
            self.fc.weight.mul_(6)

    def forward(self, images):
        x = images.transpose(0, 1) if self.events else images.repeat(self.T, 1, 1, 1, 1)
        y = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        s = self.last(self.fc(self.lif(y).mean((3, 4))))
        logits = self.head(s).mean(0)
        return logits if self.results == 1 else (s, logits * 0.5, logits)
"""


def invoke(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


_PIXELS = ["--mean", "0.5", "--std", "0.25"]


@pytest.mark.parametrize(
    "options",
    [
        [*_PIXELS],
        [*_PIXELS, "--weight-bits", "4"],
        [*_PIXELS, "--input-bits", "5"],
        ["--no-normalisation"],
        [*_PIXELS, "--arg", "width=9"],
        [*_PIXELS, "--set", "T=7"],
        [*_PIXELS, "--set", "lif.v_threshold=0.7"],
        [*_PIXELS, "--arg", "results=3", "--result", "2"],
        [*_PIXELS, "--arg", "results=3", "--result", "1"],
        [*_PIXELS, "--per-sample"],
        ["--arg", "channels=2", "--layout", "BTCHW", "--counts"],
        [*_PIXELS, "--arg", "neuron='own'", "--neuron", "Spike=integer-spike:D=4"],
    ],
    ids=lambda options: " ".join(options[-4:]),
)
def test_quantize_then_compare(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(_FILE)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 1, 5, 5), np.uint8)
    if "--counts" in options:
        pixels = rng.poisson(0.8, (24, 6, 2, 5, 5)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(24) % 3)
    source, out = f"{tmp_path}/net.py:Net", tmp_path / "net.lapilli"
    made = invoke(
        "quantize", source, *options, "--calibration", tmp_path / "images.npz", "-o", out, "--json"
    )
    told = invoke("compare", out, "--module", source, "--images", tmp_path / "images.npz", "--json")
    assert [c["mismatches"] for c in told["comparisons"]] == [0, 0]
    assert all(c["compared"] > 1_000 for c in told["comparisons"])
    assert all(0 < r < 1 for r in told["comparisons"][0]["rates"].values())
    assert made["digest"] == load_network(out).digest
    assert told["labelled"] == 24
