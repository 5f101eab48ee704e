"""Modules of people with GPUs, where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from frameworks import page  # noqa: E402
from frameworks.examples import FOLDERS  # noqa: E402
from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.without_cuda import on_torch, without_cuda  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

_ROOT = Path(__file__).resolve().parents[2]
_OLD = "from spikingjelly.clock_driven import neuron; LIF = neuron.MultiStepLIFNode; mode = {}"
_NEW = "from spikingjelly.activation_based import neuron; LIF = neuron.LIFNode; mode = {'step_mode': 'm'}"  # noqa: E501 (a program)
_PROGRAM = """
import torch, warnings
warnings.simplefilter("ignore")
from torch import nn
{imports}
from networks.two_neurons import Net, compared, quantized
from lapilli.model.neurons.without_cuda import without_cuda

class Own(LIF):
    def __init__(self):
        super().__init__(tau=2.0, backend="cupy", **mode)

before = vars(LIF)["__init__"]
with without_cuda():
    net = Net(Own(), LIF(v_threshold=0.5, backend="cupy", **mode))
assert vars(LIF)["__init__"] is before
assert {{n.backend for n in (net.first, net.second)}} == {{"torch"}}
failed = False
try:
    LIF(backend="cupy", **mode)
except (AssertionError, ImportError):
    failed = True
assert failed
for n in (net.first, net.second):  # as where CuPy is
    n.__dict__["_backend" if "_backend" in vars(n) else "backend"] = "cupy"
made = quantized(net)
assert any(note.text.startswith("2 neurons with backend 'cupy' run with backend 'torch'") for note in made.notes)
assert net.first.backend == "cupy"
print(compared(made))
"""  # noqa: E501


@pytest.mark.parametrize(
    ("group", "imports"), [("spikingjelly-old", _OLD), ("spikingjelly-14", _NEW)]
)
def test_cupy_is_taken_as_torch(group: str, imports: str) -> None:
    page.facts(group)  # installs it, if it is not
    path = os.pathsep.join([str(FOLDERS / group), str(_ROOT / "src"), str(_ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(imports=imports)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000


def test_the_newest_spikingjelly_has_no_backend() -> None:
    neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron")
    with without_cuda():
        made = neuron.LIFNode(backend="cupy", step_mode="m")
    assert compared(quantized(Net(made, LIF()))) > 10_000
    with pytest.raises(TypeError, match="backend"):
        neuron.LIFNode(backend="cupy", step_mode="m")
    with pytest.raises(TypeError, match="unexpected keyword argument 'backends'"), without_cuda():
        neuron.LIFNode(backends="cupy")


def test_a_model_without_cupy_is_not_copied() -> None:
    net = Net(LIF(), LIF())
    assert on_torch(net) == (net, ())


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is there")
def test_who_asks_for_cuda_is_told() -> None:
    said = r"asks for CUDA, which is not here \(.*\.cuda\(\)"
    with pytest.raises(CaptureError, match=said), without_cuda():
        nn.Linear(2, 2).cuda()
    with pytest.raises(CaptureError, match="asks for CUDA"), without_cuda():
        __import__("cupy")


def test_other_errors_are_the_author_s_own() -> None:
    with pytest.raises(RuntimeError, match="mine"), without_cuda():
        raise RuntimeError("mine")
