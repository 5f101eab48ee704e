"""Arguments of a class of one's own that nobody gave: read off the shapes, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.modules import OwnModel, build_own, own_model  # noqa: E402
from lapilli.deploy.cli.own_imports import ModuleFileError  # noqa: E402
from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.model.loading.shapes import told_by_shapes  # noqa: E402

pytestmark = pytest.mark.torch

_MODEL = """
from torch import nn
from lapilli.model.families.lif import LIF

class Block(nn.Module):
    def __init__(self, dim, mlp_ratio):
        super().__init__()
        self.mlp = nn.ModuleDict({
            "fc1_conv": nn.Conv1d(dim, int(dim * mlp_ratio), 1), "lif": LIF(v_threshold=0.2),
            "fc2_conv": nn.Conv1d(int(dim * mlp_ratio), dim, 1), "out": LIF(v_threshold=0.2),
        })

    def forward(self, x):
        for conv, lif in (("fc1_conv", "lif"), ("fc2_conv", "out")):
            x = self.mlp[lif](self.mlp[conv](x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        return x

class Net(nn.Module):
    def __init__(self, num_classes=10, embed_dims=32, depths=2, mlp_ratios=4, in_channels=3, T=4):
        super().__init__()
        self.T = T
        self.patch_embed = nn.Conv2d(in_channels, embed_dims, 4, stride=4)
        self.lif = LIF(v_threshold=0.2)
        self.block = nn.ModuleList([Block(embed_dims, mlp_ratios) for _ in range(depths)])
        self.head = nn.Linear(embed_dims, num_classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).repeat(self.T, 1, 1, 1)
        x = self.lif(x)
        for block in self.block:
            x = block(x)
        return self.head(x.mean(3)).mean(0)

class Asks(Net):
    def __init__(self, num_classes, num_heads, depths=2):
        super().__init__(num_classes=num_classes, depths=depths)

class Stages(Net):
    def __init__(self, embed_dims=[32, 64], num_classes=10):
        super().__init__(num_classes=num_classes, embed_dims=embed_dims[0])
"""
_SIZES = {"num_classes": 5, "embed_dims": 12, "depths": 3, "mlp_ratios": 2.5, "in_channels": 2}


def saved(folder: Path, **sizes: Any) -> OwnModel:
    """A checkpoint of a model of these sizes, and the class without any argument."""
    (folder / "net.py").write_text(_MODEL)
    source, file = f"{folder}/net.py:Net", folder / "net.pth"
    torch.save(build_own(OwnModel(source=source, arguments=sizes)).state_dict(), file)
    return OwnModel(source=source, checkpoint=file)


def test_arguments_are_read_off_the_shapes_and_said(tmp_path: Path) -> None:
    own = saved(tmp_path, **_SIZES)
    np.savez(
        tmp_path / "images.npz",
        images=np.random.default_rng(0).integers(0, 256, (9, 2, 8, 8), np.uint8),
    )
    out = tmp_path / "net.lapilli"
    asked = [
        "quantize", own.source, "--checkpoint", str(own.checkpoint), "--no-normalisation",
        "--calibration", str(tmp_path / "images.npz"), "-o", str(out), "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    facts = json.loads(done.stdout)
    assert facts["arguments by shapes"] == [f"{name}={value}" for name, value in _SIZES.items()]
    model = own_model(own)
    assert model.made_from["arguments"] == {name: repr(v) for name, v in _SIZES.items()}
    compared = CliRunner().invoke(
        app,
        ["compare", str(out), "--module", own.source, "--checkpoint", str(own.checkpoint),
         "--images", str(tmp_path / "images.npz"), "--on", "reference"],
        catch_exceptions=False,
    )  # fmt: skip
    assert compared.exit_code == 0, compared.output


def test_inspect_says_what_the_shapes_tell(tmp_path: Path) -> None:
    own = saved(tmp_path, **_SIZES)
    done = CliRunner().invoke(app, ["inspect", str(own.checkpoint), "--json"])
    facts = json.loads(done.stdout)
    assert facts["shapes tell"] == [f"{name}={value}" for name, value in _SIZES.items()]


def test_what_fits_or_is_given_is_left_alone(tmp_path: Path) -> None:
    assert own_model(saved(tmp_path)).taken == {}
    own = saved(tmp_path, num_classes=7, in_channels=2)
    given = OwnModel(source=own.source, checkpoint=own.checkpoint, arguments={"num_classes": 7})
    assert own_model(given).taken == {"arguments by shapes": ["in_channels=2"]}
    wrong = OwnModel(source=own.source, checkpoint=own.checkpoint, arguments={"num_classes": 8})
    with pytest.raises(ModuleFileError, match=r"head\.weight .* not .*: --arg in_channels=2$"):
        own_model(wrong)


def test_an_argument_that_no_shape_tells_is_asked_for(tmp_path: Path) -> None:
    own = saved(tmp_path, num_classes=7, depths=1)
    asks = OwnModel(source=own.source.replace(":Net", ":Asks"), checkpoint=own.checkpoint)
    said = (
        r"missing 2 required .*what shapes tell does not suffice: --arg num_classes=7 "
        r"--arg depths=1 --arg num_heads=\.\.\.$"
    )
    with pytest.raises(ModuleFileError, match=said):
        own_model(asks)
    told = OwnModel(source=asks.source, checkpoint=own.checkpoint, arguments={"num_heads": 2})
    assert own_model(told).taken == {"arguments by shapes": ["num_classes=7", "depths=1"]}


def test_a_list_of_widths_is_not_guessed(tmp_path: Path) -> None:
    own = saved(tmp_path, embed_dims=16)
    stages = OwnModel(source=own.source.replace(":Net", ":Stages"), checkpoint=own.checkpoint)
    with pytest.raises(CheckpointError, match="of another shape"):
        own_model(stages)


@pytest.mark.parametrize(
    ("kernels", "channels"),
    [
        ([(16, 3, 3, 3), (32, 16, 3, 3)], 3),
        ([(16, 1, 3, 3), (32, 16, 3, 3)], 1),  # a grey image
        ([(16, 2, 3, 3), (16, 1, 5, 5), (32, 16, 3, 3)], 2),  # depthwise behind the stem
        ([(3, 1, 3, 3), (16, 3, 3, 3)], None),  # depthwise on colours, or three maps of grey ones
        ([(64, 32, 3, 3), (32, 3, 3, 3)], None),  # whatever was built first is not the stem
        ([(16, 8, 1, 1)], None),
    ],
)
def test_channels_are_those_that_the_first_kernel_hears(
    kernels: list[tuple[int, ...]], channels: int | None
) -> None:
    state = {f"conv{k}.weight": torch.zeros(shape) for k, shape in enumerate(kernels)}
    assert told_by_shapes(state).get("in_channels") == channels


def test_a_head_behind_a_flattened_map_tells_no_width() -> None:
    state = {"conv.weight": torch.zeros(32, 1, 3, 3), "fc.weight": torch.zeros(10, 512)}
    told = told_by_shapes(state)
    assert (told["num_classes"], told["in_channels"]) == (10, 1)
    assert "embed_dims" not in told


def test_stages_have_a_depth_each() -> None:
    names = [
        f"{block}.{own}"
        for block in ("stage1.0", "stage1.1", "stage2.0")
        for own in ("attn.w", "mlp.w", "gamma")
    ]
    names += ["stage2.0.shortcut.w", "layer1.1.weight", "layer2.0.weight", "layer2.1.bias"]
    state = {name: torch.zeros(6, 4) for name in names} | {"model.head.weight": torch.zeros(4, 6)}
    told = told_by_shapes(state)
    assert (told["depths"], told["num_classes"], told["embed_dims"]) == ((2, 1), 4, 6)


@pytest.mark.parametrize(
    "names",
    [
        ["layer1.1.weight", "layer2.0.weight", "layer2.1.weight", "layer2.3.weight"],
        ["layers.0.weight", "layers.1.weight", "layers.2.weight"],  # linear, norm, linear
        ["layers.0.conv.w", "layers.2.conv.w"],  # pools between
        ["layers.0.conv.w", "layers.1.attn.w"],
        ["layers.1.conv.w"],
    ],
)
def test_layers_in_a_row_are_no_depth(names: list[str]) -> None:
    told = told_by_shapes({name: torch.zeros(6, 4) for name in names})
    assert "depths" not in told
