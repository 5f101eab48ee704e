"""`lapilli finetune`: checkpoints of the trained integers, runs that go on, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lapilli.deploy.cli import frame  # noqa: E402
from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.learned_steps import weight_steps_of  # noqa: E402
from lapilli.export.native import load_network  # noqa: E402
from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.model.families.spike_driven import SpikeDrivenConfig  # noqa: E402
from lapilli.model.families.table import make  # noqa: E402
from lapilli.model.fit import begin  # noqa: E402
from lapilli.model.loading.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from lapilli.model.loading.preprocess import Preprocessing  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

_CONFIG = SpikeDrivenConfig(
    in_channels=1, classes=3, embed_dim=16, heads=2, depth=1, pooling="0010"
)
_OWN = """
from torch import nn
from lapilli.model.families.lif import LIF
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.norm = nn.Linear(64, width), nn.BatchNorm1d(width)
        self.lif, self.head = LIF(), nn.Linear(width, 3)
    def forward(self, x):
        return self.head(self.lif(self.norm(self.first(x.flatten(1))).expand(4, -1, -1)).mean(0))
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 100)
    images = rng.integers(0, 60, (100, 1, 8, 8), np.uint8)
    images += (labels * 90).astype(np.uint8)[:, None, None, None]  # dark, grey, bright
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    np.savez(tmp_path / "bare.npz", images=images)
    np.savez(tmp_path / "other.npz", images=images[::-1], labels=labels[::-1])
    return str(tmp_path / "data.npz")


@pytest.fixture
def floats(tmp_path: Path) -> str:
    known = Preprocessing(mean=(0.5,), std=(0.25,), classes=("dark", "grey", "bright"))
    save_checkpoint(tmp_path / "float.safetensors", make(_CONFIG).eval(), _CONFIG, known)
    return str(tmp_path / "float.safetensors")


def words(model: str, data: str, output: Path, *more: str) -> list[str]:
    return ["finetune", model, "--data", data, "-o", str(output), "--bits", "3", *more]


def answer(given: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert frame.run(app, [*given, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_family_learns_goes_on_and_quantizes_to_what_was_trained(
    data: str, floats: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, network = tmp_path / "tuned.safetensors", tmp_path / "tuned.lapilli"
    given = words(floats, data, output, "--hold-out", "20", "--batch", "20", "--threads", "1")
    first = answer([*given, "--epochs", "1"], capsys)
    assert first["network"] is None
    assert [epoch["number"] for epoch in first["epochs"]] == [1]
    assert load_checkpoint(output).config == _CONFIG
    goes_on = [*given, "--resume", str(output), "--epochs", "2", "--network", str(network)]
    second = answer(goes_on, capsys)
    assert [epoch["number"] for epoch in second["epochs"]] == [2]
    assert 0 <= second["epochs"][0]["right"] <= 20

    made = tmp_path / "made.lapilli"
    again = ["quantize", str(output), "--calibration", data, "--calibration-count", "80"]
    assert frame.run(app, [*again, "--bits", "3", "-o", str(made)]) == 0
    trained, quantized = load_network(network), load_network(made)
    assert trained.graph.digest == quantized.graph.digest
    assert trained.recipe is not None
    assert quantized.recipe is not None
    assert trained.recipe.synapses == quantized.recipe.synapses
    assert trained.recipe.parameters == quantized.recipe.parameters
    compare = ["compare", str(network), "--checkpoint", str(output), "--images", data]
    assert frame.run(app, [*compare, "--count", "4"]) in (0, 1)  # 1: a layer never fired
    assert "0 mismatches" in capsys.readouterr().out
    assert frame.run(app, goes_on) == 0
    assert "2 epochs are done" in capsys.readouterr().out


def test_a_class_of_the_users_own(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(_OWN)
    source, output = f"{tmp_path / 'mine.py'}:Net", tmp_path / "tuned.safetensors"
    begun = ["train", source, "--arg", "width=8", "--data", data, "--epochs", "1"]
    assert frame.run(app, [*begun, "-o", str(tmp_path / "float.safetensors")]) == 0
    given = words(source, data, output, "--arg", "width=8", "--no-normalisation")
    given += ["--checkpoint", str(tmp_path / "float.safetensors"), "--hold-out", "20"]
    assert frame.run(app, [*given, "--epochs", "1"]) == 0
    assert "of 20 held out are right" in capsys.readouterr().out
    told = answer([*given, "--epochs", "2", "--resume", str(output)], capsys)
    assert [epoch["number"] for epoch in told["epochs"]] == [2]


def test_learned_scales_go_on_and_are_quantized_again(
    data: str, floats: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, network = tmp_path / "tuned.safetensors", tmp_path / "tuned.lapilli"
    made = tmp_path / "made.lapilli"
    given = words(floats, data, output, "--hold-out", "20", "--batch", "4", "--scales", "channel")
    given += ["--weight-scale", "learned", "--learning-rate", "0.02", "--network", str(network)]
    first = answer([*given, "--epochs", "1"], capsys)
    assert set(first["epochs"][0]) == {"number", "loss", "right", "cpu_seconds"}
    begun = weight_steps_of(load_checkpoint(output))
    after = load_network(network).graph.digest
    answer([*given, "--epochs", "1", "--resume", str(output)], capsys)  # which are done
    assert load_network(network).graph.digest == after
    answer([*given, "--epochs", "2", "--resume", str(output)], capsys)
    told = weight_steps_of(load_checkpoint(output))
    assert told.keys() == begun.keys()
    assert told != begun

    again = ["quantize", str(output), "--calibration", data, "--calibration-count", "80"]
    again += ["--bits", "3", "--scales", "channel", "-o", str(made)]
    assert frame.run(app, [*again, "--weight-scale", "learned"]) == 0
    trained = load_network(network)
    assert load_network(made).graph.digest == trained.graph.digest
    assert frame.run(app, again) == 0  # nothing said: the nearest weights, which are others
    assert load_network(made).graph.digest != trained.graph.digest
    compare = ["compare", str(network), "--checkpoint", str(output), "--images", data]
    capsys.readouterr()
    assert frame.run(app, [*compare, "--count", "4"]) in (0, 1)  # 1: a layer never fired
    assert "0 mismatches" in capsys.readouterr().out

    capsys.readouterr()
    again[1] = floats
    assert frame.run(app, [*again, "--weight-scale", "learned"]) == 2
    assert "holds no learned scales of weights" in " ".join(capsys.readouterr().err.split())
    again[1] = str(output)
    assert frame.run(app, [*again, "--weight-scale", "learned", "--most-kib", "1"]) == 2
    assert "none are shared out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("told", [[], {"head.conv": "0.5"}, {"head.conv": ["half"]}])
def test_steps_that_are_no_numbers_are_refused(told: Any, floats: str) -> None:
    checkpoint = replace(load_checkpoint(Path(floats)), finetuning={"weight_steps": told})
    with pytest.raises(CheckpointError, match="its weight_steps cannot be read"):
        weight_steps_of(checkpoint)


_SEQUENCES = """
from torch import nn
from lapilli.model.families.lif import LIF
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.lif, self.head = nn.Linear(8, 12), LIF(2.0, 0.3), nn.Linear(12, 3)
    def forward(self, x):
        return self.head(self.lif(self.first(x))).mean(0)
"""


@pytest.mark.parametrize("encoding", [None, "rows"])
def test_sequences_and_images_row_by_row(
    encoding: str | None, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(_SEQUENCES)
    labels = np.random.default_rng(0).integers(0, 3, 100)
    x = np.random.default_rng(1).random((100, 4, 8)) + labels[:, None, None]
    np.savez(tmp_path / "sequences.npz", inputs=x, labels=labels)
    source, output = f"{tmp_path / 'mine.py'}:Net", tmp_path / "tuned.safetensors"
    network, made = tmp_path / "tuned.lapilli", tmp_path / "made.lapilli"
    begin(seed=0)
    scope: dict[str, Any] = {}
    exec(compile(_SEQUENCES, "mine.py", "exec"), scope)  # the user's own class
    torch.save(scope["Net"]().state_dict(), tmp_path / "float.pth")
    mine = ["--layout", "TBF"]
    given = str(tmp_path / "sequences.npz")
    if encoding:
        mine, given = [*mine, "--encoding", encoding, "--mean", "0.4", "--std", "0.3"], data
    asked = words(source, given, output, "--hold-out", "20", "--network", str(network), *mine)
    asked += ["--checkpoint", str(tmp_path / "float.pth")]
    first = answer([*asked, "--epochs", "1"], capsys)
    second = answer([*asked, "--epochs", "4", "--resume", str(output)], capsys)
    assert second["epochs"][-1]["loss"] < first["epochs"][0]["loss"]
    again = ["quantize", source, "--checkpoint", str(output), "--calibration", given]
    again += ["--calibration-count", "80", "--bits", "3", "-o", str(made), *mine]
    assert frame.run(app, again) == 0
    assert load_network(network).graph.digest == load_network(made).graph.digest


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--layout", "TBF", "--shift", "1"], "samples of layout TBF are no images, to be moved"),
        (["--layout", "TXF"], "layout"),
        (["--encoding", "loud"], "encoding"),
        (["--data", "bare.npz"], "has no labels"),
        (["-o", "tuned.pt"], "tuned.pt: name it .safetensors"),
        (["--hold-out", "100"], "--hold-out 100 leaves none"),
        (["--layer-bits", "nowhere=3"], "is no linear map"),
        (["--weight-scale", "best"], "there is no weight_scale 'best'"),
        (["--resume", "missing.safetensors"], "no such file"),
        (["--resume", "float.safetensors"], "was not written by `lapilli finetune`"),
        (["--resume", "run.safetensors", "--bits", "4"], "options: weight_bits 3, not 4"),
        (["--resume", "run.safetensors", "--data", "other.npz"], "other calibration: sha256"),
    ],
)
def test_refusals(
    data: str,
    floats: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "run.safetensors" in more:
        assert frame.run(app, words(floats, data, Path("run.safetensors"), "--epochs", "1")) == 0
    output = tmp_path / "tuned.safetensors"
    assert frame.run(app, [*words(floats, data, output, "--epochs", "2"), *more]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
