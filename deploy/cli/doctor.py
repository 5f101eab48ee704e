"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from lapilli.ir.errors import SimulatorUnavailableError
from lapilli.simulators.lava.host import environment


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that lapilli can use.

    Attributes:
        what: package or environment; gives: what works with it.
        version: installed, or None.
        remedy: the command that mends it; empty if nothing is missing.
    """

    what: str
    gives: str
    version: str | None
    remedy: str = ""


# Package, import name, what it gives, the extra that installs it.
_PACKAGES = (
    ("torch", "torch", "capture, quantize, compare with PyTorch", "torch"),
    ("scikit-learn", "sklearn", "the digits of the demo", "demo"),
    ("nir", "nir", "NIR files", "nir"),
    ("onnx", "onnx", "ONNX files", "onnx"),
    ("onnxruntime", "onnxruntime", "the onnx simulator", "onnx"),
    ("nirtorch", "nirtorch", "the nir and nirtorch simulators", "nir"),
    ("snntorch", "snntorch", "the snntorch simulator (portable NIR)", "snntorch"),
    ("spikingjelly", "spikingjelly", "the spikingjelly simulator (portable NIR)", "spikingjelly"),
    ("norse", "norse", "the norse simulator (fused NIR)", "norse"),
    ("uv", "uv", "building Lava's environment", "lava"),
)


def examine() -> list[Finding]:
    """Look at everything; start nothing."""
    findings = [Finding("python", "lapilli itself", platform.python_version())]
    for package, module, gives, extra in _PACKAGES:
        found = importlib.util.find_spec(module) is not None
        version = metadata.version(package) if found else None
        remedy = "" if found else f"pip install 'lapilli[{extra}]'"
        findings.append(Finding(package, gives, version, remedy))
    try:
        python = environment.find()
        findings.append(Finding("lava", "Intel's Loihi simulator", str(python)))
    except SimulatorUnavailableError:
        findings.append(Finding("lava", "Intel's Loihi simulator", None, "lapilli doctor --fix"))
    return findings


def fix(progress: Callable[[str], None]) -> None:
    """Build the one thing that no package manager brings: Lava's environment.

    Raises:
        SimulatorUnavailableError: no uv, or no Python 3.10 to build it with.
    """
    environment.build(progress)


_NEEDS = {  # package -> what needs it, and the extra that brings it
    "onnx": ("ONNX files need onnx", "onnx"),
    "scipy": ("balancing delays needs SciPy", "lava"),
    "torch": (
        "this command needs PyTorch (run, show and inspect of a .lapilli file work without)",
        "torch",
    ),
}


def need(package: str) -> None:
    """Check that a package can be imported.

    Raises:
        SimulatorUnavailableError: it can not; says what needs it, and the command that mends it.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        why, extra = _NEEDS[package]
        raise SimulatorUnavailableError(f"{why}: pip install 'lapilli[{extra}]'") from error
