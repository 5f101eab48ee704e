"""A network, what runs it, and what its runs are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapilli.deploy.comparison.compare import Pixels, Preprocessed
from lapilli.ir.network import Network
from lapilli.simulators.protocol import Executable

if TYPE_CHECKING:
    from lapilli.quantize.pytorch.float_module import FloatRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """PyTorch's side.

    Attributes:
        reference: the quantized module.
        in_float: runs the author's own model, before any integer.
        preprocessing: how it prepares images, where something but the file says so.
    """

    reference: Executable
    in_float: Callable[[Pixels], FloatRun]
    preprocessing: Preprocessed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A network, what runs its graph, and PyTorch's side, if there is one."""

    network: Network
    executable: Executable
    witness: Witness | None
