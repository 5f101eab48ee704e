"""`lapilli train`: checkpoints that the other commands take, runs that go on, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lapilli.deploy.cli import frame  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.model.families.spike_driven import SpikeDrivenConfig  # noqa: E402
from lapilli.model.loading.checkpoint import build, load_checkpoint  # noqa: E402

SMALL = json.dumps({"embed_dim": 16, "heads": 2, "depth": 1, "pooling": "0010"})


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    images = rng.integers(0, 60, (150, 1, 8, 8), np.uint8)
    images += (labels * 90).astype(np.uint8)[:, None, None, None]  # dark, grey, bright
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    np.savez(tmp_path / "bare.npz", images=images)
    return str(tmp_path / "data.npz")


def words(model: str, data: str, output: Path, *more: str) -> list[str]:
    return ["train", model, "--data", data, "-o", str(output), *more]


def answer(given: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert frame.run(app, [*given, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_family_is_trained_goes_on_and_is_quantized(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "net.safetensors"
    given = words("spike-driven", data, output, "--hold-out", "50", "--batch", "20", "--flip")
    given += ["--threads", "1", "--class-names", "dark, grey, bright"]
    first = answer([*given, "--config", SMALL, "--epochs", "1"], capsys)
    assert [epoch["number"] for epoch in first["epochs"]] == [1]
    saved = load_checkpoint(output)
    assert saved.epochs == 1
    assert saved.config == SpikeDrivenConfig(
        in_channels=1, classes=3, embed_dim=16, heads=2, depth=1, pooling="0010"
    )
    assert saved.preprocessing is not None
    assert saved.preprocessing.classes == ("dark", "grey", "bright")
    assert 0.3 < saved.preprocessing.mean[0] < 0.6

    goes_on = [*given, "--resume", str(output), "--epochs", "3"]
    second = answer(goes_on, capsys)
    assert [epoch["number"] for epoch in second["epochs"]] == [2, 3]
    again = load_checkpoint(output)
    assert again.epochs == 3
    assert again.preprocessing == saved.preprocessing
    with np.load(data) as arrays:
        right = saved.preprocessing.right(
            build(again), arrays["images"][-50:], arrays["labels"][-50:]
        )
    assert right == second["epochs"][-1]["right"]

    assert frame.run(app, goes_on) == 0
    assert "3 epochs are done" in capsys.readouterr().out
    network = tmp_path / "net.lapilli"
    made = ["quantize", str(output), "--calibration", data, "-o", str(network)]
    assert frame.run(app, made) == 0


def test_a_class_of_the_users_own(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(\n"
        "            nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(),\n"
        "            nn.Linear(width, 3))\n"
        "    def forward(self, x):\n"
        "        return self.body(x)\n"
    )
    output = tmp_path / "mine.safetensors"
    given = words(f"{tmp_path / 'mine.py'}:Net", data, output, "--arg", "width=8")
    assert frame.run(app, [*given, "--epochs", "2", "--hold-out", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("of 30 held out are right" in line for line in lines)
    assert load_checkpoint(output).epochs == 2
    told = answer([*given, "--epochs", "3", "--resume", str(output)], capsys)
    assert [epoch["number"] for epoch in told["epochs"]] == [3]
    assert told["epochs"][0]["right"] is None


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        ("spikformer2", [], "'spikformer2' is no family"),
        ("spikformer", ["--config", "{"], "--config does not describe a spikformer"),
        ("spikformer", ["--config", '{"embed_dim": 12}'], "--config does not describe"),
        ("spikformer", ["--hold-out", "150"], "--hold-out 150 leaves none"),
        ("spikformer", ["--mean", "1,2", "--std", "1,2"], "take 1 numbers each"),
        ("spikformer", ["--class-names", "a,b"], "2 names of classes for labels up to 2"),
        ("spikformer", ["--resume", "missing.safetensors"], "no such file"),
        ("spikformer", ["--data", "bare"], "has no labels"),
    ],
)
def test_refusals(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    more: list[str],
    reason: str,
) -> None:
    source = data.replace("data.npz", "bare.npz") if more[:1] == ["--data"] else data
    output = tmp_path / "net.safetensors"
    given = words(model, source, output, "--epochs", "1", *more[more[:1] == ["--data"] and 2 :])
    assert frame.run(app, given) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not output.exists()


def test_a_family_does_not_go_on_from_another(data: str, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    given = words("spike-driven", data, output, "--config", SMALL, "--epochs", "1")
    assert frame.run(app, given) == 0
    before = output.read_bytes()
    other = words("spikformer", data, output, "--resume", str(output), "--epochs", "2")
    assert frame.run(app, other) == 2
    assert output.read_bytes() == before
