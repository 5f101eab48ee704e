"""What is installed, what is missing or broken, and the command that mends it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from lapilli.ir.errors import SimulatorUnavailableError

if TYPE_CHECKING:
    from lapilli.simulators.environments import Environment


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """One thing that lapilli can use.

    Attributes:
        what: package or environment; gives: what works with it.
        version: installed, or None.
        remedy: the command that mends it; empty if nothing is wrong.
        broken: it is there and does not work.
        fault: what is wrong with what is broken.
    """

    what: str
    gives: str
    version: str | None
    remedy: str = ""
    broken: bool = False
    fault: str = ""

    def __str__(self) -> str:
        state = self.version or "missing"
        if self.broken:
            state = f"broken: {self.fault}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.what:13} {state}{remedy}  ({self.gives})"


# Package, import name, what needs it, the extra that installs it.
_PACKAGES = (
    ("torch", "torch", "capture, quantize, compare with PyTorch, checkpoints", "torch"),
    ("scikit-learn", "sklearn", "the digits of the demo", "demo"),
    ("nir", "nir", "writing NIR files", "nir"),
    ("h5py", "h5py", "reading NIR and .net files", "nir"),
    ("onnx", "onnx", "ONNX files", "onnx"),
    ("onnxruntime", "onnxruntime", "the onnx simulator", "onnx"),
    ("nirtorch", "nirtorch", "the nir and nirtorch simulators", "nir"),
    ("snntorch", "snntorch", "the snntorch simulator (portable NIR)", "snntorch"),
    ("spikingjelly", "spikingjelly", "the spikingjelly simulator (portable NIR)", "spikingjelly"),
    ("norse", "norse", "the norse simulator (fused NIR)", "norse"),
    ("numba", "numba", "the fast simulator", "fast"),
    ("pyarrow", "pyarrow", "images in Parquet files, results of validate", "data"),
    ("jinja2", "jinja2", "the report of a network", "report"),
    ("distributed", "distributed", "validate on several processes or machines", "cluster"),
    ("pymetis", "pymetis", "putting cores onto chips", "cores"),
    ("scipy", "scipy", "balancing delays for Lava", "lava"),
    ("uv", "uv", "building the environments of Lava and nengo-loihi", "lava"),
)
_FIX = "lapilli doctor --fix"


def examine() -> list[Prerequisite]:
    """Look at every package, and let each environment import what it is for (seconds)."""
    findings = [Prerequisite("python", "lapilli itself", platform.python_version())]
    for package, module, gives, extra in _PACKAGES:
        found = importlib.util.find_spec(module) is not None
        version = metadata.version(package) if found else None
        remedy = "" if found else f"pip install 'lapilli[{extra}]'"
        findings.append(Prerequisite(package, gives, version, remedy))
    findings.append(_c())
    findings += [_environment(environment, gives) for environment, gives in _environments()]
    return findings


def _c() -> Prerequisite:
    """The C compiler that the simulator `c` would take; several say what they are."""
    from lapilli.simulators.c import COMPILERS, compiler

    gives, found = "the c simulator", compiler()
    if found is None:
        remedy = (
            f"install gcc or clang, or name a compiler in CC (looked for: {' '.join(COMPILERS)})"
        )
        return Prerequisite("C compiler", gives, None, remedy)
    return Prerequisite("C compiler", gives, found)


def _environments() -> tuple[tuple[Environment, str], ...]:
    """What is built apart, and what works with it."""
    from lapilli.simulators.lava.host.environment import LAVA
    from lapilli.simulators.nengo_loihi.environment import LICENCES, NENGO_LOIHI

    return (
        (LAVA, "Intel's Loihi simulator"),
        (NENGO_LOIHI, f"the nengo-loihi simulator; {LICENCES}"),
    )


def _environment(environment: Environment, gives: str) -> Prerequisite:
    what = environment.what.lower()
    named = environment.variable in os.environ
    remedy = f"unset {environment.variable}, then {_FIX}" if named else _FIX
    try:
        python = environment.find()
    except SimulatorUnavailableError as error:
        return Prerequisite(what, gives, None, remedy, named, str(error) if named else "")
    if fault := environment.fault(python):
        return Prerequisite(what, gives, str(python), remedy, broken=True, fault=fault)
    return Prerequisite(what, gives, str(python))


def fix(progress: Callable[[str], None]) -> None:
    """Build what no package manager brings: the environments of Lava and of nengo-loihi.

    Raises:
        SimulatorUnavailableError: no uv, or no Python 3.10 to build them with.
    """
    for environment, gives in _environments():
        progress(f"{environment.what}: {gives}")
        environment.build(progress)


def missing(module: str | None) -> str | None:
    """Return the sentence for a module that cannot be imported; None if no extra brings it.

    >>> missing("h5py._errors")
    "this command needs h5py (reading NIR and .net files): pip install 'lapilli[nir]'"
    """
    top = (module or "").partition(".")[0]
    for package, name, gives, extra in _PACKAGES:
        if name == top:
            return f"this command needs {package} ({gives}): pip install 'lapilli[{extra}]'"
    return None


def need(module: str) -> None:
    """Check that a module of `_PACKAGES` can be imported, before any work is done.

    Raises:
        SimulatorUnavailableError: it can not; says what needs it, and the command that mends it.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise SimulatorUnavailableError(missing(module) or str(error)) from error
