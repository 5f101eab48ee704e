"""The commands on models that take no images, or answer with maps, tokens or several values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.comparison.overlap import IGNORED, mean_overlap
from lapilli.export.native import load_network
from lapilli.ir.network import Task

torch = pytest.importorskip("torch")

CODE = '''
import numpy as np, torch
from torch import nn
from lapilli.model.families.lif import LIF

class Tokens(nn.Module):
    """(T, B, N, C) to logits and tokens."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.fc, self.lif = nn.Linear(6, 8), LIF(v_threshold=0.2)
        self.head, self.each = nn.Linear(8, 3), nn.Linear(8, 2)
    def forward(self, x):
        s = self.lif(self.fc(x))
        return {"logits": self.head(s.mean(2)), "tokens": self.each(s)}

class Segments(nn.Module):
    """Images (B, 1, H, W) to maps (B, 3, H, W)."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.lif = nn.Conv2d(1, 8, 3, padding=1), LIF(v_threshold=0.1)
        self.seg = nn.Conv2d(8, 3, 1)
    def forward(self, x):
        T, B = 4, x.shape[0]
        y = self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1))
        y = self.lif(y.reshape(T, B, *y.shape[1:]))
        return self.seg(y.flatten(0, 1)).reshape(T, B, 3, *y.shape[3:]).mean(0)

class Rows(nn.Module):
    """Rows or pixels of an image, (T, B, F), to ten digits."""
    def __init__(self, features=8):
        super().__init__()
        torch.manual_seed(1)
        self.fc, self.lif = nn.Linear(features, 12), LIF(v_threshold=0.2)
        self.head = nn.Linear(12, 10)
        with torch.no_grad():
            self.fc.weight.mul_(3)
    def forward(self, x):
        return self.head(self.lif(self.fc(x.flatten(2))).mean(0))

class Reads(nn.Module):
    """Token ids (B, N)."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.look, self.lif, self.head = nn.Embedding(9, 8), LIF(v_threshold=0.2), nn.Linear(32, 3)
    def forward(self, ids):
        x = self.look(ids).unsqueeze(0).repeat(4, 1, 1, 1)
        return self.head(self.lif(x).flatten(2)).mean(0)

class Two(nn.Module):
    """Two inputs by name."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Linear(5, 8), nn.Linear(7, 8)
        self.lif, self.head = LIF(v_threshold=0.2), nn.Linear(8, 3)
    def forward(self, left, right):
        return self.head(self.lif(self.a(left) + self.b(right)).mean(0))

class Sequences:
    classes = ("a", "b", "c")
    def __len__(self):
        return 6
    def __getitem__(self, i):
        return np.random.default_rng(i).normal(size=(4, 5, 6)).astype(np.float32), i % 3
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "own.py").write_text(CODE)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(12, 4, 5, 6))
    np.savez(folder / "tokens.npz", inputs=inputs, labels=np.arange(12) % 3)
    np.save(folder / "tokens.npy", inputs.astype(np.float32))
    pixels = rng.integers(0, 256, (10, 1, 6, 6), np.uint8)
    maps = (pixels[:, 0] // 86).astype(np.uint8)
    maps[:, 0] = IGNORED
    np.savez(folder / "maps.npz", images=pixels, labels=maps)
    left, right = rng.normal(size=(12, 4, 5)), rng.normal(size=(12, 4, 7))
    np.savez(folder / "two.npz", left=left, right=right, labels=np.arange(12) % 3)
    np.savez(folder / "one.npz", left=left)
    np.savez(folder / "ids.npz", inputs=rng.integers(0, 9, (20, 4)), labels=np.arange(20) % 3)
    np.savez(folder / "wrong.npz", images=pixels, labels=np.full((10, 6, 6), 7))
    np.savez(folder / "small.npz", images=pixels, labels=maps[:, :3])
    return folder


def told(words: list[object], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    capsys.readouterr()
    assert frame.run(app, [*map(str, words), "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Path:
    output = folder / "tokens.lapilli"
    words = ["quantize", f"{folder}/own.py:Tokens", "--calibration", f"{folder}/tokens.npz"]
    words += ["--layout", "TBNC", "--result", "*", "--over-time", "tokens=steps"]
    assert frame.run(app, [*words, "-o", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def segments(folder: Path) -> Path:
    output = folder / "maps.lapilli"
    words = ["quantize", f"{folder}/own.py:Segments", "--calibration", f"{folder}/maps.npz"]
    assert frame.run(app, [*words, "--no-normalisation", "-o", str(output)]) == 0
    return output


def test_tokens_are_quantized_compared_run_and_written(
    folder: Path, tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_network(tokens)
    assert [a.name for a in network.answers] == ["logits", "tokens"]
    for source in (f"{folder}/tokens.npz", f"{folder}/tokens.npy", f"{folder}/own.py:Sequences"):
        words = ["compare", tokens, "--module", f"{folder}/own.py:Tokens", "--images", source]
        facts = told([*words, "--on", "reference", "--on", "onnx"], capsys)
        assert [c["exact"] for c in facts["comparisons"]] == [True, True]
        assert ("float_right" in facts) == (not source.endswith(".npy"))
    ran = told(["run", tokens, "--source", f"{folder}/tokens.npz", "--count", "3"], capsys)
    assert [set(r["answers"]) for r in ran] == [{"logits", "tokens"}] * 3
    assert np.shape(ran[0]["answers"]["tokens"]["integers"]) == (4, 5, 2)
    best = int(np.argmax(ran[0]["answers"]["logits"]["integers"]))
    assert ran[0]["answer"] == network.classes[best]
    made = told(["golden", tokens, "--source", f"{folder}/tokens.npz", "-o", folder / "g"], capsys)
    assert made["images"] == 4
    with np.load(folder / "g" / "golden.npz") as golden:
        assert golden["steps:tokens"].shape == (4, 4, 5, 2)
        assert golden["logits:logits"].shape == (4, 3)
    assert told(["inspect", tokens], capsys)["answers"] == [
        "logits 3", "tokens 5 x 2 of each of 4 steps"
    ]  # fmt: skip


def test_maps_have_a_mean_iou(
    folder: Path, segments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_network(segments)
    assert network.task is Task.MAP
    assert network.classes == ("0", "1", "2")
    words = ["compare", segments, "--module", f"{folder}/own.py:Segments"]
    words += ["--images", f"{folder}/maps.npz", "--on", "event-driven"]
    facts = told(words, capsys)
    assert facts["comparisons"][0]["exact"]
    ran = told(["run", segments, "--source", f"{folder}/maps.npz"], capsys)
    labels = np.load(folder / "maps.npz")["labels"].astype(np.int64)
    maps = [np.array(r["answer"]) for r in ran]
    assert facts["integer_mean_iou"] == float(mean_overlap(maps, labels, 3))
    assert 0 < facts["float_mean_iou"] < 1
    assert sum(ran[0]["classes"].values()) == pytest.approx(1)
    capsys.readouterr()
    assert frame.run(app, [*map(str, words)]) == 0
    assert "mean IoU: float" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("encoding", "layout", "features"),
    [("rows", "TBF", 8), ("pixels", "TBF", 1), ("rate:T=4,seed=1", "TBCHW", 64),
     ("ttfs:T=4", "TBCHW", 64)],
)  # fmt: skip
def test_encoded_digits(
    encoding: str, layout: str, features: int, folder: Path,
    capsys: pytest.CaptureFixture[str], digits: Any,
) -> None:  # fmt: skip
    output = folder / "encoded.lapilli"
    own = ["--arg", f"features={features}"]
    words = ["quantize", f"{folder}/own.py:Rows", *own, "--calibration", "digits", "-o", output]
    words += ["--layout", layout, "--encoding", encoding, "--calibration-count", "64"]
    normal = ["--no-normalisation"] if layout == "TBF" else []
    facts = told([*words, *normal], capsys)
    assert facts["T"] == {"rows": 8, "pixels": 64}.get(encoding, 4)
    assert facts["encoding"] == encoding
    words = ["compare", output, "--module", f"{folder}/own.py:Rows", *own, *normal]
    facts = told([*words, "--count", "8", "--on", "event-driven"], capsys)
    assert facts["comparisons"][0]["exact"]
    assert facts["labelled"] == 8
    ran = told(["run", output, "--source", "digits", "--count", "8"], capsys)
    right = sum(int(r["answer"]) == label for r, label in zip(ran, digits[1].labels, strict=False))
    assert right == facts["integer_right"]


def test_two_inputs_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(folder / "two.lapilli")
    words = ["quantize", f"{folder}/own.py:Two", "--calibration", f"{folder}/two.npz"]
    told([*words, "--layout", "left=TBF", "--layout", "right=TBF", "-o", output], capsys)
    words = ["compare", output, "--module", f"{folder}/own.py:Two", "--images"]
    facts = told([*words, f"{folder}/two.npz", "--on", "event-driven"], capsys)
    assert facts["comparisons"][0]["exact"]
    assert {"float_right", "integer_right"} <= facts.keys()
    assert len(told(["run", output, "--source", f"{folder}/two.npz"], capsys)) == 12
    for source, sentence in (
        ("one.npz", "holds no input 'right'"),
        ("tokens.npy", "in an .npz of"),
    ):
        capsys.readouterr()
        assert frame.run(app, [*map(str, words), f"{folder}/{source}"]) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


def test_token_ids(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(folder / "ids.lapilli")
    words = ["quantize", f"{folder}/own.py:Reads", "--calibration", f"{folder}/ids.npz"]
    told([*words, "--layout", "BN", "--ids", "9", "-o", output], capsys)
    words = ["compare", output, "--module", f"{folder}/own.py:Reads", "--images"]
    facts = told([*words, f"{folder}/ids.npz", "--on", "event-driven"], capsys)
    assert facts["comparisons"][0]["exact"]
    assert {"float_right", "integer_right"} <= facts.keys()


def test_mean_iou_by_hand() -> None:
    answer, label = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, IGNORED]])
    assert mean_overlap([answer], [label], 4) == (1 / 2 + 1 / 2) / 2  # two classes occur
    assert mean_overlap([answer], [answer], 4) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "NET:maps", "--images", "DIR/wrong.npz"], "label 7 of image 0 is no class"),
        (["compare", "NET:maps", "--images", "DIR/small.npz"], "labels of one image are 3 x 6"),
        (["compare", "NET:tokens", "--images", "DIR/maps.npz"], "images are 6 x 6, the network"),
        (["compare", "NET:tokens"], "digits are images, and the model takes none"),
        (["run", "NET:tokens", "DIR/own.py"], "which no picture holds"),
        (["compare", "NET:tokens", "--images", "DIR/own.py"], "the model takes no images; give"),
        (["validate", "NET:maps", "--data", "DIR/maps.npz", "-o", "DIR/v"], "compare takes it"),
        (["quantize", "DIR/own.py:Tokens", "--calibration", "DIR/tokens.npz", "--layout", "TBNC",
          "--over-time", "a=sum", "--over-time", "sum"], "one rule for all, or RESULT=RULE each"),
        (["quantize", "DIR/own.py:Tokens", "--calibration", "DIR/tokens.npz", "--layout", "TBXC",
          "--mean", "0.5", "--std", "0.5"], "--mean and --std take 0 numbers"),
        (["quantize", "DIR/own.py:Tokens", "--calibration", "DIR/tokens.npz"], "images"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    words: list[str], sentence: str, folder: Path, tokens: Path, segments: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {"NET:maps": str(segments), "NET:tokens": str(tokens)}
    given = [places.get(w, w.replace("DIR", str(folder))) for w in words]
    output = ["-o", str(folder / "out.lapilli")] if given[0] == "quantize" else []
    capsys.readouterr()
    assert frame.run(app, [*given, *output]) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert sentence in err
    assert "Traceback" not in err
