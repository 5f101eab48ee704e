"""Repositories as people have them: their files import each other in every way that Python has."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.flow import quantize_model  # noqa: E402
from lapilli.deploy.cli.image_set import Images  # noqa: E402
from lapilli.deploy.cli.modules import OwnModel, arguments_from, build_own, own_model  # noqa: E402
from lapilli.deploy.cli.own_imports import ModuleFileError  # noqa: E402
from lapilli.ir.errors import CaptureError  # noqa: E402

pytestmark = pytest.mark.torch

_NET = """
import torch
from torch import nn
from lapilli.model.families.lif import LIF
IMPORT

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        torch.manual_seed(0)
        self.T = 4
        self.fc, self.lif = nn.Linear(16, width), LIF(v_threshold=0.3)
        self.head = nn.Linear(width, 3)

    def forward(self, images):
        LAZY
        x = steps(images, self.T).flatten(2)
        return self.head(self.lif(self.fc(x))).mean(0)
"""
_HELPER = """
def steps(images, T):
    return images.repeat(T, 1, 1, 1, 1)
"""


def net(eager: str = "", lazy: str = "pass") -> str:
    return _NET.replace("IMPORT", eager).replace("LAZY", lazy)


# The row of docs/checkpoints.md -> its files, what is named, and where the user stands.
REPOSITORIES: Mapping[str, tuple[Mapping[str, str], str, str]] = {
    "a file": (
        {"net.py": net(_HELPER)}, "net.py:Net", "."
    ),
    "a file that imports what lies beside it": (
        {"net.py": net("from helper import *"), "helper.py": _HELPER}, "net.py:Net", "."
    ),
    "an import within `forward`": (
        {"net.py": net(lazy="from helper import steps"), "helper.py": _HELPER}, "net.py:Net", "."
    ),
    "`from module import *`, with `module/` at the root": (
        {"model/net.py": net("from module import *"), "module/__init__.py": "from .time import *",
         "module/time.py": _HELPER},
        "model/net.py:Net", ".",
    ),
    "a relative import within a package": (
        {"model/net.py": net("from .helper import steps"), "model/helper.py": _HELPER,
         "model/__init__.py": "from .net import Net"},
        "model/net.py:Net", ".",
    ),
    "a relative import without `__init__.py`": (
        {"model/net.py": net("from .helper import steps"), "model/helper.py": _HELPER},
        "model/net.py:Net", ".",
    ),
    "a relative import of the folder above": (
        {"cls/models/static/net.py": net("from ..utils.helper import *"),
         "cls/models/utils/helper.py": _HELPER},
        "cls/models/static/net.py:Net", ".",
    ),
    "a relative import within `forward`": (
        {"model/net.py": net(lazy="from .helper import steps"), "model/helper.py": _HELPER},
        "model/net.py:Net", ".",
    ),
    "`package.module:Class` in its folder": (
        {"model/net.py": net("from model.helper import steps"), "model/helper.py": _HELPER},
        "model.net:Net", ".",
    ),
    "the same, with an import within `forward`": (
        {"model/net.py": net(lazy="from model.helper import steps"), "model/helper.py": _HELPER},
        "model.net:Net", ".",
    ),
    "files elsewhere, named by `--pythonpath`": (
        {"code/net.py": net("from helper import steps"), "lib/helper.py": _HELPER},
        "../code/net.py:Net", "work",
    ),
}  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], OwnModel]:
    """Write a repository, go to the folder from which it is used, and name its model."""

    def make(row: str) -> OwnModel:
        files, source, here = REPOSITORIES[row]
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / here).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / here)
        path = (tmp_path / "lib",) if (tmp_path / "lib").is_dir() else ()
        return OwnModel(source=source, pythonpath=path, mean=(0.0,), std=(1.0,))

    return make


def images() -> Images:
    return Images(np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8))


@pytest.mark.parametrize("row", REPOSITORIES)
def test_a_repository_is_exact_and_leaves_no_trace(
    row: str, repository: Callable[[str], OwnModel], exact_on: Callable[..., int]
) -> None:
    own = repository(row)
    modules, paths = set(sys.modules), list(sys.path)
    made = quantize_model(own_model(own), images())
    assert exact_on(made, images().pixels[:8] / 255) > 500
    assert sys.path == paths
    left = {n for n in set(sys.modules) - modules if not n.startswith(("lapilli", "torch"))}
    assert not left & {"helper", "module", "model", "models", "net", "model.net", "model.helper"}


def test_a_module_of_the_same_name_stays(
    repository: Callable[[str], OwnModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(sys)("helper")
    monkeypatch.setitem(sys.modules, "helper", other)
    own = repository("an import within `forward`")
    monkeypatch.delitem(sys.modules, "helper")
    module = build_own(own)
    monkeypatch.setitem(sys.modules, "helper", other)
    module(torch.zeros(1, 1, 4, 4))
    assert sys.modules["helper"] is other


def test_where_was_looked_is_said(repository: Callable[[str], OwnModel], tmp_path: Path) -> None:
    own = repository("files elsewhere, named by `--pythonpath`")
    with pytest.raises(
        ModuleFileError, match=r"No module named 'helper' \(line 5\); looked in"
    ) as e:
        build_own(OwnModel(source=own.source))
    assert str(tmp_path / "code") in str(e.value)
    assert "--pythonpath" in str(e.value)
    with pytest.raises(ModuleFileError, match=r"--pythonpath .*none: no such folder"):
        build_own(OwnModel(source=own.source, pythonpath=(tmp_path / "none",)))


def test_a_missing_argument_names_all(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("class Net:\n    def __init__(self, width, T=4): pass")
    with pytest.raises(ModuleFileError, match=r"'width'; it takes \(width, T=4\): .*--arg name="):
        build_own(OwnModel(source=f"{tmp_path}/net.py:Net"))


# ---- attributes set once it is made -------------------------------------------------------


def test_attributes(repository: Callable[[str], OwnModel]) -> None:
    own = repository("a file")
    given = arguments_from(["T=6", "lif.v_threshold=0.4"], "--set")
    module = build_own(OwnModel(source=own.source, attributes=given))
    assert [module.T, module.get_submodule("lif").v_threshold] == [6, 0.4]
    made = quantize_model(
        own_model(OwnModel(source=own.source, attributes=given, mean=(0.0,), std=(1.0,))), images()
    )
    assert made.network.graph.T == 6


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("steps", r"'\(the model itself\)': has no attribute 'steps' to be set; it has T"),
        ("lif.tau_m", r"'lif': has no attribute 'tau_m' to be set; it has tau, v_threshold"),
        ("lef.tau", "'lef': has no attribute 'tau' to be set"),
        ("head", "'head' is no plain attribute"),
        ("head.weight", "'weight' is no plain attribute"),
    ],
)
def test_attributes_that_are_none(
    name: str, sentence: str, repository: Callable[[str], OwnModel]
) -> None:
    own = repository("a file")
    with pytest.raises(CaptureError, match=sentence):
        build_own(OwnModel(source=own.source, attributes={name: 3}))


@pytest.mark.parametrize("text", ["T", "=3", "a b=3", "a..b=3", ".a=3"])
def test_attributes_that_are_not_named(text: str) -> None:
    with pytest.raises(ModuleFileError, match=r"--set .* is not name=value"):
        arguments_from([text], "--set")


def test_arguments_are_read_off_the_shapes(tmp_path: Path) -> None:
    pytest.importorskip("spikingjelly.activation_based")
    source = "spikingjelly.activation_based.model.maxformer:MaxFormer"
    told = {"num_classes": 5, "embed_dims": 32, "depths": (1, 1, 1), "cifar": True}
    torch.manual_seed(0)
    state = build_own(OwnModel(source=source, arguments={**told, "T": 4})).state_dict()
    torch.save(state, tmp_path / "m.pth")
    own = OwnModel(source=source, arguments={"T": 4}, checkpoint=tmp_path / "m.pth")
    loaded = build_own(own).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


def test_the_table_has_a_row_for_each() -> None:
    table = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    assert [row for row in REPOSITORIES if f"| {row} |" not in table] == []


def test_from_the_command_line(repository: Callable[[str], OwnModel], tmp_path: Path) -> None:
    own = repository("an import within `forward`")
    np.savez("images.npz", images=images().pixels)
    options = ["--mean", "0.5", "--std", "0.5", "--json"]
    runner = CliRunner()
    made = runner.invoke(
        app, ["quantize", own.source, "--calibration", "images.npz", *options, "-o", "net.lapilli"]
    )
    assert made.exit_code == 0, made.output
    compared = runner.invoke(
        app, ["compare", "net.lapilli", "--module", own.source, "--images", "images.npz", *options]
    )
    assert compared.exit_code == 0, compared.output
    assert all(c["mismatches"] == 0 for c in json.loads(compared.output)["comparisons"])
