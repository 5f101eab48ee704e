"""The simulators by name: a literal list."""

from __future__ import annotations

from collections.abc import Callable

from lapilli.ir.errors import LapilliError
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.lava.shared.run_config import SIMULATED
from lapilli.simulators.nir.nirtorch import Nir, NirTorch
from lapilli.simulators.nir.norse import Norse
from lapilli.simulators.nir.snntorch import SnnTorch
from lapilli.simulators.nir.spikingjelly import SpikingJelly
from lapilli.simulators.onnx import Onnx
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

NAMES = (
    "reference", "event-driven", "lava", "lava-stock", "nir", "onnx", "nirtorch", "snntorch",
    "spikingjelly", "norse",
)  # fmt: skip


class UnknownTargetError(LapilliError, KeyError):
    """A simulator name that nobody has."""

    def __str__(self) -> str:
        return f"no simulator is called {self.args[0]!r}; there are {', '.join(NAMES)}"


def target(
    name: str,
    progress: Callable[[str, int, int], None] | None = None,
    run_config: str = SIMULATED,
) -> Simulator:
    """The simulator of this name.

    Args:
        name: of `NAMES`.
        progress: is told its steps if it is a slow one.
        run_config: of Lava.

    Raises:
        UnknownTargetError: none has it.
    """
    match name:
        case "reference":
            return Reference()
        case "event-driven":
            return EventDriven()
        case "lava":
            return Lava(progress=progress, run_config=run_config)
        case "lava-stock":
            return StockLava(progress=progress, run_config=run_config)
        case "nir":
            return Nir()
        case "onnx":
            return Onnx()
        case "nirtorch":
            return NirTorch()
        case "snntorch":
            return SnnTorch()
        case "spikingjelly":
            return SpikingJelly()
        case "norse":
            return Norse()
        case _:
            raise UnknownTargetError(name)
