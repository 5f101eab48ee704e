"""Make the run configuration that the host names: what chooses a model for each process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lapilli.ir.errors import InputError

_TAG = "fixed_pt"


def load(name: str) -> Any:
    """Make the run configuration of this name.

    Raises:
        InputError: no such module or name, or it makes no `RunConfig`, or one for hardware whose
            models are not installed.
    """
    from lava.magma.core.run_configs import AbstractLoihiHWRunCfg, RunConfig

    place, _, attribute = name.rpartition(":")
    try:
        module = _read(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        made = getattr(module, attribute)(select_tag=_TAG)
    except Exception as error:  # whatever somebody's code raises
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"run configuration {name!r}: making it raised {told}") from error
    if not isinstance(made, RunConfig):
        raise InputError(f"run configuration {name!r}: made a {type(made).__name__}, no RunConfig")
    if isinstance(made, AbstractLoihiHWRunCfg) and not _has_hardware():
        raise InputError(
            f"run configuration {name!r} is for hardware, of which this Lava has no models: name "
            "an interpreter that has Intel's Loihi compiler, or simulate"
        )
    return made


def _has_hardware() -> bool:
    """Whether Lava has models of Loihi's cores, which Intel gives to its partners alone."""
    try:
        importlib.import_module("lava.magma.core.model.nc.model")
    except ImportError:
        return False
    return True


def _read(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"run_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"run configuration {file}: Python cannot read it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes name it
    spec.loader.exec_module(module)
    return module
