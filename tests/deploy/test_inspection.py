"""`lapilli inspect` says of every kind of file what to do next, and runs none."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.flow import open_checkpoint  # noqa: E402
from lapilli.ir.errors import CheckpointError, InputError, LapilliError  # noqa: E402
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig  # noqa: E402

pytestmark = pytest.mark.torch


def inspected(path: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["inspect", str(path), *options, "--json"])
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.output)
    return facts


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("a.nir", ["check", "a.nir", "--for", "norse"]),
        ("b c.nir", ["check", "b c.nir", "--for", "norse"]),
        ("a.net", ["import", "a.net", "-o", "a.imported.lapilli"]),
    ],
)
def test_graphs_of_others(
    name: str, following: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\x89HDF")
    assert shlex.split(inspected(Path(name))["next"]) == ["lapilli", *following]


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((5, 1, 4, 4), np.uint8), labels=np.zeros(5, np.int64))
    facts = inspected(path)
    assert facts["arrays"] == ["images uint8 (5, 1, 4, 4)", "labels int64 (5,)"]
    assert f"--calibration {path}" in facts["next"]
    np.savez(path, x=np.zeros((5, 1, 4, 4), np.uint8))
    assert "an array 'images'" in inspected(path)["missing"][0]


def test_a_python_file_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "net.py", tmp_path / "executed"
    path.write_text(
        f"open({str(trace)!r}, 'w')\nclass Part(nn.Module): pass\nclass Net(nn.Module): pass\n"
        "def make(): pass\n"
    )
    facts = inspected(path)
    assert facts["defines"] == ["Part", "Net", "make"]
    assert shlex.split(facts["next"])[2] == f"{path}:Net"
    assert "it runs code" in facts["note"]
    assert not trace.exists()


@pytest.mark.parametrize("name", ["no.nir", "no.npz", "bad.npz", "bad.py", "pickled.npz"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and nothing")
    (tmp_path / "bad.py").write_text("class (")
    np.savez(tmp_path / "pickled.npz", images=np.array([None], object))
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / name)])
    if name == "pickled.npz":  # only its header is read
        assert result.exit_code == 0
        return
    assert isinstance(result.exception, InputError)
    assert isinstance(result.exception, LapilliError)
    assert name in str(result.exception)


def test_an_unknown_family(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "w.pth")
    facts = inspected(tmp_path / "w.pth")
    assert facts["family"] == "unknown"
    assert "no family" in facts["why"]
    assert shlex.split(facts["next"])[2:5] == ["FILE.py:CLASS", "--checkpoint", f"{tmp_path}/w.pth"]
    assert "it runs code" in facts["note"]


def test_a_family_with_a_key_missing_names_it(tmp_path: Path) -> None:
    config = SpikformerConfig(embed_dim=8, heads=2, depth=1, layout="imagenet", pooling="1111")
    state = {k: v for k, v in Spikformer(config).state_dict().items() if "rpe_conv" not in k}
    torch.save(state, tmp_path / "cut.pth")
    why = inspected(tmp_path / "cut.pth")["why"]
    assert why.endswith("nearest is 'spikformer', but it lacks 'patch_embed.rpe_conv.'")


def test_which_parameters_were_taken(tmp_path: Path) -> None:
    config = SpikformerConfig(embed_dim=8, heads=2, depth=1)
    state = Spikformer(config).state_dict()
    path = tmp_path / "two.pth"
    torch.save({"model": state, "model_ema": state}, path)
    facts = inspected(path)
    assert facts["taken"] == "model"
    assert facts["not taken"] == ["model_ema (--key model_ema)"]
    other = inspected(path, "--key", "model_ema")
    assert other["taken"] == "model_ema"
    assert f"{path} --key model_ema " in other["next"]
    torch.save({"model": state}, path)
    assert "taken" not in inspected(path)


def test_keys_of_a_family_may_be_of_another_class(tmp_path: Path) -> None:
    """A model of one's own with a Spikformer's keys at other sizes: both commands are shown."""
    config = SpikformerConfig(embed_dim=8, heads=2, depth=1)
    torch.save({"net": Spikformer(config).state_dict()}, path := tmp_path / "mine.pth")
    facts = inspected(path)
    assert facts["family"] == "spikformer"
    assert f"quantize FILE.py:CLASS --checkpoint {path}" in facts["or"]


def test_a_python_file_needs_its_class(tmp_path: Path) -> None:
    (path := tmp_path / "net.py").write_text("")
    with pytest.raises(CheckpointError, match="CLASS --checkpoint FILE"):
        open_checkpoint(path)
