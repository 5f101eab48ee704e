"""What a rule about an importer asks of a NIR node.

Importers test some fields against others with a tolerance, and then compute without them.
`refuses` repeats such a test, tolerance and all, to foretell an exception; `ignores` asks
whether the numbers are equal, and nothing less makes a node exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

DT = 1e-4


def uneven(*fields: str) -> Callable[[Any], bool]:
    """Whether a field has several values."""
    return lambda node: any(np.unique(getattr(node, f)).size > 1 for f in fields)


def nonzero(*fields: str) -> Callable[[Any], bool]:
    """Whether a field is not zero somewhere."""
    return lambda node: any(bool(np.any(getattr(node, f))) for f in fields)


def integer_weights(node: Any) -> bool:
    """Whether weights are stored as integers."""
    return bool(node.weight.dtype.kind in "iu")


def grouped(node: Any) -> bool:
    """Whether channels are in several groups."""
    return int(np.ravel(node.groups)[0]) != 1


def depthwise(node: Any) -> bool:
    """Whether groups do not divide the channels of one group, which is taken for all."""
    return bool(node.weight.shape[1] % int(np.ravel(node.groups)[0]))


def padded(node: Any) -> bool:
    """Whether there is padding."""
    return bool(np.any(node.padding))


def odd_window(node: Any) -> bool:
    """Whether a window has not 2^n elements."""
    size: int = math.prod(np.broadcast_to(node.kernel_size, 2).tolist())
    return size & (size - 1) != 0


def _steps(tau: Any) -> Any:
    return np.asarray(tau, np.float64) / DT


def at_most_a_step(tau: str) -> Callable[[Any], bool]:
    """Whether a time constant is dt or less."""
    return lambda node: bool(np.any(_steps(getattr(node, tau)) <= 1))


def below_a_step(*taus: str) -> Callable[[Any], bool]:
    """Whether a time constant is less than dt."""
    return lambda node: any(bool(np.any(getattr(node, tau) < DT)) for tau in taus)


def forgets(node: Any) -> bool:
    """Whether exp(-1 / tau) is 0 for the tau of the file, in seconds."""
    return bool(np.all(np.exp(-1 / np.asarray(node.tau)) == 0))


def rounds(*fields: str) -> Callable[[Any], bool]:
    """Whether float32 rounds dt / tau: it is no power of two."""
    return lambda node: any(
        not bool(np.all(np.frexp(_steps(getattr(node, f)))[0] == 0.5)) for f in fields
    )


def ties(node: Any) -> bool:
    """Whether a threshold is an integer, which a membrane can meet."""
    return bool(np.any(node.v_threshold == np.floor(node.v_threshold)))


Pair: TypeAlias = Callable[[Any], tuple[Any, Any]]  # of a node: a field, and what it should be


def r_of_dt(node: Any) -> tuple[Any, Any]:
    """`r`, for a membrane that adds r dt times its input."""
    return node.r, 1 / DT


def r_of_one(node: Any) -> tuple[Any, Any]:
    """`r`, for a filter without a gain."""
    return node.r, 1.0


def r_of_tau(tau: str) -> Pair:
    """`r`, for a membrane that adds its input as it is."""
    return lambda node: (node.r, _steps(getattr(node, tau)))


def w_in_of_tau(node: Any) -> tuple[Any, Any]:
    """`w_in`, for a synapse that adds its input as it is."""
    return node.w_in, _steps(node.tau_syn)


def leak_of_reset(node: Any) -> tuple[Any, Any]:
    """`v_leak`, for a membrane that decays to where it is reset."""
    return node.v_leak, node.v_reset


def unit_gain(node: Any) -> tuple[Any, Any]:
    """The gain of a current-based neuron, whatever its dt."""
    return node.w_in * node.tau_mem / node.r / node.tau_syn, 1.0


def refuses(pair: Pair, rtol: float, atol: float) -> Callable[[Any], bool]:
    """Whether an importer's own test, tolerance included, fails: to foretell what it raises."""
    return lambda node: not np.allclose(*pair(node), rtol=rtol, atol=atol)


def ignores(pair: Pair) -> Callable[[Any], bool]:
    """Whether the field is another number than the one that the importer computes with."""
    return lambda node: not bool(np.all(np.equal(*pair(node))))
