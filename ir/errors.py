"""Every error this package raises on purpose. Catch `LapilliError` to catch them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = "(the model itself)"  # what messages call the module at path ""


class LapilliError(Exception):
    """Base of the hierarchy; never raised itself."""


class GraphError(LapilliError, ValueError):
    """A graph that cannot exist: dangling input, ill-typed operand, duplicate name."""

    def __init__(self, node: str, problem: str) -> None:
        super().__init__(f"node {node!r}: {problem}")
        self.node = node


class RangeError(GraphError):
    """A value can leave the range its consumer, or its target, can hold."""


class PassError(LapilliError, RuntimeError):
    """A pass produced an illegal graph. `__cause__` says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One reason why a target cannot take a graph."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


class UnsupportedError(LapilliError, NotImplementedError):
    """A target cannot take this graph. Lists every offending node, not the first."""

    def __init__(self, target: str, reasons: tuple[Unsupported, ...]) -> None:
        super().__init__(f"{target} cannot take this graph:\n  " + "\n  ".join(map(str, reasons)))
        self.target = target
        self.reasons = reasons


class InputError(LapilliError, ValueError):
    """What a network is given, or is asked to name, does not fit it."""


class _FileError(LapilliError, ValueError):
    """Something is wrong with a file; carries its path."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class FormatError(_FileError):
    """A graph file that cannot be read: truncated, unknown version, op, key or size."""


class OutputError(_FileError):
    """A file that cannot be written, or must not be: no regular file, an input, no room."""


class CheckpointError(_FileError):
    """A checkpoint that cannot be loaded into the model it is meant for."""


class CaptureError(LapilliError, ValueError):
    """A module that cannot be captured; names the module path and the remedy."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"module {path or ROOT!r}: {problem}")
        self.path, self.problem = path, problem


class QuantizeError(LapilliError, ValueError):
    """A captured model whose integers cannot be found; names the layer."""

    def __init__(self, layer: str, problem: str) -> None:
        super().__init__(f"layer {layer or ROOT!r}: {problem}")
        self.layer = layer


class RecipeError(LapilliError, ValueError):
    """A network cannot be made again from a model: it has no recipe, or that of another model."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the network {problem}")


class SimulatorUnavailableError(LapilliError, ImportError):
    """A simulator's package is not installed; the message says how to install it."""


class SimulatorFailedError(LapilliError, RuntimeError):
    """A simulator's process hung, died or answered something else than asked."""


class MismatchError(LapilliError, AssertionError):
    """Two runs that must agree spike for spike do not, or agreed on nothing."""
