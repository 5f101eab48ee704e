"""The command line on Lava: both lowerings, and a run configuration of the user's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

pytestmark = pytest.mark.lava

HARDWARE = "lava.magma.core.run_configs:Loihi2HwCfg"


def lapilli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from lapilli.deploy.cli.app import main; main()",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        timeout=120,
    )


def network() -> Network:
    """A convolution and a dense layer, each with its neurons; 4 x 4 pixels, three classes."""
    rng = np.random.default_rng(0)
    lif = ops.Neuron(threshold=IntTensor.of([64 * 40 + 1]), dv=2048)
    conv = ops.Conv2d(
        weight=IntTensor.of(rng.integers(-9, 15, (2, 1, 2, 2))),
        bias=IntTensor.of([2, 0]),
        stride=(2, 2),
        graded=True,
    )
    dense = ops.Linear(
        weight=IntTensor.of(rng.integers(-20, 40, (5, 8))), bias=IntTensor.of([3] * 5)
    )
    head = ops.Linear(
        weight=IntTensor.of(rng.integers(-9, 9, (3, 5))), bias=IntTensor.of([1, 0, -1])
    )
    nodes = (
        Node("x", ops.Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("conv", conv, ("x",)),
        Node("n1", lif, ("conv",)),
        Node("flat", ops.Reshape(shape=(8,)), ("n1",)),
        Node("fc", dense, ("flat",)),
        Node("n2", lif, ("fc",)),
        Node("head", head, ("n2",)),
        Node("logits", ops.Readout(), ("head",)),
    )
    quantizer = InputQuantizer(
        mean=(Fraction(1, 2),), std=(Fraction(1, 16),), exponent=0, lo=-8, hi=8
    )
    graph = Graph(nodes, ("logits",), 4)
    return Network(graph=graph, input=quantizer, logit_scale=Fraction(1), classes=("a", "b", "c"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network, two pictures, and the same two as an .npz."""
    folder = tmp_path_factory.mktemp("lava")
    save_network(network(), folder / "net.lapilli")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture[0]).save(folder / f"{i}.png")
    np.savez(folder / "images.npz", images=pixels, labels=np.zeros(2, np.int64))
    (folder / "own.py").write_text(
        "from lava.magma.core.run_configs import Loihi2SimCfg\n"
        "class Own(Loihi2SimCfg):\n"
        "    def __init__(self, select_tag):\n"
        "        open(__file__ + '.used', 'w').close()\n"
        "        super().__init__(select_tag=select_tag)\n"
    )
    return folder


def facts(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run_on_stock_lava_answers_as_the_reference(folder: Path) -> None:
    run = ("run", "net.lapilli", "0.png", "1.png")
    want = facts(lapilli(*run, "--json", cwd=folder))
    got = facts(lapilli(*run, "--simulator", "lava-stock", "--json", cwd=folder))
    assert [a["logits"] for a in got] == [a["logits"] for a in want]
    assert len({tuple(a["logits"]) for a in got}) == 2
    done = lapilli(*run, "--simulator", "lava-stock", cwd=folder)
    assert done.stdout.startswith("stock Lava: 13 neurons")
    assert done.stdout.count(".png: ") == 2


def test_compare_on_both_lowerings_under_a_configuration_of_ones_own(folder: Path) -> None:
    arguments = ("compare", "net.lapilli", "--images", "images.npz", "--run-config", "own.py:Own")
    simulators = ("--simulator", "lava", "--simulator", "lava-stock")
    told = facts(lapilli(*arguments, *simulators, "--json", cwd=folder))["comparisons"]
    assert [c["got"] for c in told] == ["lava", "lava-stock"]
    for comparison in told:
        assert comparison["exact"]
        assert comparison["mismatches"] == 0
        assert all(0 < rate < 1 for rate in comparison["rates"].values())
    assert [c["compared"] for c in told] == [4 * 2 * (13 + 2) + 2 * 3, 4 * 2 * 13 + 2 * 3]
    assert (folder / "own.py.used").exists()


def test_latency_of_each_node(folder: Path) -> None:
    told = facts(lapilli("inspect", "net.lapilli", "--latency", "--json", cwd=folder))
    assert told["path"] == ["conv", "fc", "head"]
    assert (told["steps"], told["delay_bits"]) == (3, 0)
    steps = {row["node"]: row["latency"] for row in told["nodes"]}
    assert steps == {
        "x": 0,
        "conv": 1,
        "n1": 1,
        "flat": 1,
        "fc": 2,
        "n2": 2,
        "head": 3,
        "logits": 3,
    }
    done = lapilli("inspect", "net.lapilli", "--latency", cwd=folder)
    assert done.returncode == 0
    assert "longest path: 3 steps, conv > fc > head\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--run-config", "own.py:Own"), "--run-config is Lava's"),
        (("--simulator", "lava", "--run-config", "Own"), "run configuration 'Own' is not PACKAGE"),
        (
            ("--simulator", "lava", "--run-config", "own.py:Absent"),
            "run configuration '/.*own.py:Absent': making it raised AttributeError",
        ),
        (
            ("--simulator", "lava-stock", "--run-config", HARDWARE),
            f"run configuration '{HARDWARE}' is for hardware",
        ),
    ],
)
def test_a_bad_configuration_is_one_sentence(
    folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = lapilli("run", "net.lapilli", "0.png", *arguments, cwd=folder)
    assert done.returncode == 2
    assert re.match(f"lapilli: {sentence}[^\n]*\n$", done.stderr), done.stderr
