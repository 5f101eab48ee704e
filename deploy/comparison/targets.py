"""The simulators by name: a literal table, and anybody's own by file or module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lapilli.ir.errors import LapilliError
from lapilli.simulators.lava.shared.run_config import SIMULATED

if TYPE_CHECKING:
    from lapilli.simulators.protocol import Simulator

# Imported on use, so that naming them costs nothing.
_CLASSES = {
    "reference": "lapilli.simulators.reference:Reference",
    "event-driven": "lapilli.simulators.event_driven:EventDriven",
    "fast": "lapilli.simulators.fast:Fast",
    "c": "lapilli.simulators.c:PortableC",
    "lava": "lapilli.simulators.lava.host.adapter:Lava",
    "lava-stock": "lapilli.simulators.lava.host.stock:StockLava",
    "nengo-loihi": "lapilli.simulators.nengo_loihi.simulator:NengoLoihi",
    "nir": "lapilli.simulators.nir.nirtorch:Nir",
    "onnx": "lapilli.simulators.onnx:Onnx",
    "nirtorch": "lapilli.simulators.nir.nirtorch:NirTorch",
    "snntorch": "lapilli.simulators.nir.snntorch:SnnTorch",
    "spikingjelly": "lapilli.simulators.nir.spikingjelly:SpikingJelly",
    "norse": "lapilli.simulators.nir.norse:Norse",
}
NAMES = tuple(_CLASSES)


def usual() -> str:
    """Name the fastest exact simulator that is installed: `fast`, else `reference`."""
    return "fast" if importlib.util.find_spec("numba") is not None else "reference"


class UnknownTargetError(LapilliError, KeyError):
    """A simulator name that nobody has."""

    def __str__(self) -> str:
        return (
            f"no simulator is called {self.args[0]!r}; there are {', '.join(NAMES)}, and your own "
            "as FILE.py:NAME or PACKAGE.MODULE:NAME"
        )


class OwnSimulatorError(LapilliError, ValueError):
    """A simulator of the user's that cannot be imported or made; says what its code raised."""


def target(
    name: str,
    progress: Callable[[str, int, int], None] | None = None,
    run_config: str = SIMULATED,
) -> Simulator:
    """Return the simulator of this name.

    Args:
        name: one of `NAMES`; or `FILE.py:NAME`, or `PACKAGE.MODULE:NAME`, whose code is run.
        progress: is told its steps if it is a slow one.
        run_config: of Lava.

    Raises:
        UnknownTargetError: none has it.
        OwnSimulatorError: a file, a module or a class that does not give a simulator.
    """
    if ":" in name:
        return _own(name)
    if name not in _CLASSES:
        raise UnknownTargetError(name)
    place, _, attribute = _CLASSES[name].partition(":")
    options: dict[str, Any] = {}
    if name.startswith("lava"):
        options = {"progress": progress, "run_config": run_config}
    elif name == "nengo-loihi":
        options = {"progress": progress}
    made: Simulator = getattr(importlib.import_module(place), attribute)(**options)
    return made


def _own(name: str) -> Simulator:
    place, _, attribute = name.rpartition(":")
    try:
        module = _file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        made = getattr(module, attribute)()
    except Exception as error:  # their code may raise anything
        raise OwnSimulatorError(
            f"simulator {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not (
        isinstance(getattr(made, "name", None), str) and callable(getattr(made, "compile", None))
    ):
        raise OwnSimulatorError(
            f"simulator {name!r}: {attribute} gives a {type(made).__name__} without a 'name' and a "
            "'compile'; see lapilli.simulators.protocol"
        )
    own: Simulator = made
    return own


def _file(path: Path) -> ModuleType:
    """Import a file under its own name; modules beside it can be imported, too."""
    path = path.expanduser().resolve(strict=True)
    spec = importlib.util.spec_from_file_location(f"lapilli_simulator_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up here
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
