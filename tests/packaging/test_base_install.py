"""`pip install lapilli` without extras, from a wheel: what runs, and what names its extra."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lapilli.export.native import save_network
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from lapilli.deploy.cli.app import main; sys.argv[0] = 'lapilli'; main()"

RUNS = (
    (["--help"], "Usage"),
    (["--version"], "lapilli "),
    (["show", "net.lapilli"], "%logits = Readout("),
    (["inspect", "net.lapilli"], "digest"),
    (["run", "net.lapilli", "x.png"], "x.png: "),
    (["run", "net.lapilli", "x.png", "--simulator", "event-driven"], "x.png: "),
    (["golden", "net.lapilli", "x.png", "-o", "golden"], "wrote golden"),
    (["conformance", "event-driven"], " 0 fails"),
    (["doctor"], "pip install 'lapilli[torch]'"),
)
REFUSED = (
    (["inspect", "x.pt"], "torch"),
    (["quantize", "x.pt", "-o", "y.lapilli"], "torch"),
    (["demo", "--no-lava"], "torch"),
    (["golden", "net.lapilli"], "demo"),
    (["report", "net.lapilli", "-o", "r.html"], "report"),
    (["export", "net.lapilli", "--nir", "y.nir"], "nir"),
    (["export", "net.lapilli", "--net", "y.net"], "nir"),
    (["export", "net.lapilli", "--onnx", "y.onnx"], "onnx"),
    (["check", "y.nir", "--for", "norse"], "nir"),
    (["run", "net.lapilli", "x.png", "--simulator", "onnx"], "onnx"),
    (["inspect", "net.lapilli", "--latency"], "lava"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


def _files(folder: Path) -> None:
    """A network that fires, and a picture for it."""
    weight = IntTensor.of(np.arange(48).reshape(3, 16) - 20)
    fc = ops.Linear(weight=weight, bias=IntTensor.of([90, 0, 90]), graded=True)
    nodes = (
        Node("x", ops.Input(type=TensorType((1, 4, 4), IntRange(-8, 8), Kind.GRADED))),
        Node("flat", ops.Reshape(shape=(16,)), ("x",)),
        Node("fc", fc, ("flat",)),
        Node("lif", ops.Neuron(threshold=IntTensor.of([64 * 5 + 1])), ("fc",)),
        Node("logits", ops.Readout(), ("lif",)),
    )
    half, sixteenth = (Fraction(1, 2),), (Fraction(1, 16),)
    network = Network(
        graph=Graph(nodes, ("logits",), 2),
        input=InputQuantizer(mean=half, std=sixteenth, exponent=0, lo=-8, hi=8),
        logit_scale=Fraction(1),
        classes=("a", "b", "c"),
    )
    save_network(network, folder / "net.lapilli")
    Image.fromarray(np.full((4, 4), 128, np.uint8)).save(folder / "x.png")


def _smoke(python: str, site: Path | None, folder: Path) -> None:
    """Run every command in a Python whose path has the wheel's lapilli and what it requires."""
    _files(folder)
    known = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LAPILLI"))}
    known |= {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200"}
    if site is not None:
        known["PYTHONPATH"] = str(site)
    where = subprocess.run(
        [python, "-c", "import lapilli; print(lapilli.__file__)"],
        cwd=folder, env=known, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert str(ROOT) not in where.stdout
    for arguments, status, sentence in (
        *((a, 0, said) for a, said in RUNS),
        *((a, 2, f"lapilli[{extra}]") for a, extra in REFUSED),
    ):
        done = subprocess.run(
            [python, "-c", MAIN, *arguments],
            cwd=folder, env=known, check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert sentence in (done.stdout if status == 0 else done.stderr), (arguments, done)
        assert not list(folder.glob("y.*")), arguments


def _required(name: str) -> set[str]:
    """A distribution and all that it requires without extras, normalised."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        known = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if known in found:
            continue
        found.add(known)
        with_markers = metadata.requires(known) or []
        waiting += [re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in with_markers if ";" not in r]
    return found


def test_the_base_install_runs_here(wheel: Path, tmp_path: Path) -> None:
    """In this Python, where whatever no base requirement brings cannot be imported."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    required = _required("lapilli")
    assert {"numpy", "typer", "pillow"} <= required
    assert not {"torch", "nir", "onnx", "h5py", "scipy"} & required
    others = sorted(
        top
        for top, dists in metadata.packages_distributions().items()
        if top.isidentifier() and not {re.sub(r"[-_.]+", "-", d).lower() for d in dists} & required
    )
    assert {"torch", "nir", "onnx", "h5py", "scipy", "sklearn"} <= {*others}
    (site / "sitecustomize.py").write_text(
        f"import sys\nfor m in {others!r}: sys.modules[m] = None\n"
    )
    _smoke(sys.executable, site, work)


def _interpreters() -> Iterator[str]:
    """Every CPython from 3.10 on that uv finds, each version once."""
    uv = shutil.which("uv") or f"{sysconfig.get_path('scripts')}/uv"
    listed = subprocess.run(
        [uv, "python", "list", "--only-installed"], check=True, capture_output=True, text=True
    )
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))  # its shims stop uv
    found = [line.split()[1] for line in listed.stdout.splitlines()]
    found += map(str, pyenv.glob("versions/3.*/bin/python3"))
    known = set()
    for python in found:
        asked = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        version = asked.stdout.strip()
        if version and tuple(map(int, version.split("."))) >= (3, 10) and version not in known:
            known.add(version)
            yield python


@pytest.mark.slow
def test_the_base_install_runs_on_every_python_there_is(wheel: Path, tmp_path: Path) -> None:
    """Fetches the base requirements for each."""
    uv = shutil.which("uv") or f"{sysconfig.get_path('scripts')}/uv"
    tried = 0
    for python in _interpreters():
        folder = tmp_path / str(tried)
        folder.mkdir()
        subprocess.run([uv, "venv", "--quiet", "--python", python, folder / "env"], check=True)
        own = str(folder / "env" / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", own, wheel], check=True)
        _smoke(own, None, folder)
        tried += 1
    assert tried
