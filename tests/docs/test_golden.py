"""Golden vectors in other people's runtimes, by the code of docs/golden.md as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.deploy.comparison.golden import write_golden
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

onnx = pytest.importorskip("onnx")
nir = pytest.importorskip("nir")
for _package in ("onnxruntime", "nirtorch", "snntorch"):
    pytest.importorskip(_package)

from lapilli.export.nir.write.dialect import Flavour  # noqa: E402
from lapilli.export.nir.write.writer import save_nir  # noqa: E402  (needs nir)
from lapilli.export.onnx.writer import save_onnx  # noqa: E402  (needs onnx)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "golden.md"
SCAN, STEP, NIR = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
RUNTIMES = {
    "onnxruntime": (SCAN, []),
    "onnxruntime step by step": (STEP, []),
    "snntorch": (NIR, []),
    "nirtorch": (NIR, ["nirtorch"]),
}


def _network() -> Network:
    """An image, and a product of spikes, which NIR has as binary neurons."""
    rng = np.random.default_rng(0)

    def ints(*shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(-7, 8, shape))

    leaky = ops.Neuron(threshold=IntTensor.of([641]), dv=2048)
    nodes = (
        Node("image", ops.Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("conv", ops.Conv2d(weight=ints(3, 1, 3, 3), bias=ints(3), graded=True), ("image",)),
        Node("conv.lif", leaky, ("conv",)),
        Node("q", ops.Conv2d(weight=ints(3, 3, 1, 1), bias=ints(3)), ("conv.lif",)),
        Node("q.lif", ops.Neuron(threshold=IntTensor.of([129]), dv=2048), ("q",)),
        Node("tokens", ops.Reshape(shape=(3, 4)), ("conv.lif",)),
        Node("q.tokens", ops.Reshape(shape=(3, 4)), ("q.lif",)),
        Node("k", ops.Permute(axes=(1, 0)), ("tokens",)),
        Node("scores", ops.SpikeMatmul(), ("q.tokens", "k")),
        Node("attn.lif", ops.Neuron(threshold=IntTensor.of([65]), dv=2048), ("scores",)),
        Node("flat", ops.Reshape(shape=(9,)), ("attn.lif",)),
        Node("head", ops.Linear(weight=ints(3, 9), bias=ints(3)), ("flat",)),
        Node("logits", ops.Readout(), ("head",)),
    )
    source = InputQuantizer(mean=(Fraction(1, 2),), std=(Fraction(1, 16),), exponent=0, lo=-8, hi=8)
    return Network(
        graph=Graph(nodes, ("logits",), 4),
        input=source,
        logit_scale=Fraction(1, 8),
        classes=("a", "b", "c"),
    )


def _exported(network: Network, pixels: npt.NDArray[np.uint8], folder: Path) -> None:
    rates = write_golden(network, pixels, folder / "golden").rates
    assert all(0 < rate < 1 for rate in rates.values())
    save_onnx(network, folder / "net.onnx")
    save_onnx(network, folder / "step.onnx", step=True)
    save_nir(network, folder / "net.nir", flavour=Flavour.PORTABLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Golden vectors and every file that the page runs."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 1, 4, 4)).astype(np.uint8)
    _exported(_network(), pixels, tmp_path)
    return tmp_path


def _played(runtime: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The page's code, then the script of the golden folder: its status and its line."""
    code, arguments = RUNTIMES[runtime]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["page.py", *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the runtimes
        exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    script = [sys.executable, "-I", "golden/check_golden.py", "golden/golden.npz", "yours.npz"]
    done = subprocess.run(script, check=False, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_exported_answers_what_it_must(
    runtime: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, line = _played(runtime, folder, monkeypatch)
    spikes = 4 * 5 * (12 + 12 + 9)
    if runtime == "onnxruntime":
        unseen = "spikes:conv.lif, spikes:q.lif, spikes:attn.lif"
        assert (status, line) == (0, f"equal: 15 values; not in yours: {unseen}")
    else:
        assert (status, line) == (0, f"equal: {spikes + 15} values; not in yours: none")


def _one_weight(folder: Path) -> None:
    for name in ("net.onnx", "step.onnx"):
        model = onnx.load(folder / name)
        (tensor,) = (t for t in model.graph.initializer if t.name == "head/weight")
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[3, 1] += 1
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(model, folder / name)
    graph = nir.read(folder / "net.nir")
    (last,) = (n for name, n in graph.nodes.items() if name.endswith("head"))
    last.weight[1] += 1
    nir.write(folder / "net.nir", graph)


def _one_threshold(folder: Path) -> None:
    model = onnx.load(folder / "step.onnx")
    (tensor,) = (t for t in model.graph.initializer if t.name == "q.lif/threshold")
    array = onnx.numpy_helper.to_array(tensor) + 192
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, folder / "step.onnx")
    graph = nir.read(folder / "net.nir")
    place = json.loads(graph.metadata["lapilli"])["layouts"]["q.lif"]["node"]
    graph.nodes[place].v_threshold = graph.nodes[place].v_threshold + 3
    nir.write(folder / "net.nir", graph)


@pytest.mark.parametrize(
    ("runtime", "plant", "first"),
    [
        ("onnxruntime", _one_weight, "logits"),
        ("onnxruntime step by step", _one_weight, "logits"),
        ("onnxruntime step by step", _one_threshold, "spikes:q.lif"),
        ("snntorch", _one_weight, "logits"),
        ("snntorch", _one_threshold, "spikes:q.lif"),
        ("nirtorch", _one_threshold, "spikes:q.lif"),
    ],
)
def test_a_planted_fault_is_status_one(
    runtime: str,
    plant: Callable[[Path], None],
    first: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(folder)
    status, line = _played(runtime, folder, monkeypatch)
    assert status == 1
    assert re.match(rf"first difference at step \d: {first}\[", line), line


def test_a_file_of_another_network_is_told_by_its_digest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _network().graph
    save_onnx(
        Network(
            graph=Graph(graph.nodes, graph.outputs, 5),
            input=_network().input,
            logit_scale=Fraction(1),
            classes=(),
        ),
        folder / "step.onnx",
        step=True,
    )
    status, line = _played("onnxruntime step by step", folder, monkeypatch)
    assert status == 1
    assert line.startswith("of another network: digest ")


@pytest.mark.slow
def test_the_digits(
    spike_driven: Quantized, test_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole transformer in all of them: 17,400 binary neurons in NIR."""
    pixels: Any = test_split.images[:2]
    _exported(spike_driven.network, pixels, tmp_path)
    for runtime in RUNTIMES:
        status, line = _played(runtime, tmp_path, monkeypatch)
        assert status == 0, f"{runtime}: {line}"
        compared = int(re.findall(r"equal: (\d+) values", line)[0])
        assert compared > (10_000 if runtime != "onnxruntime" else 19), line
