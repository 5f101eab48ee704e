"""What each framework's importer does with each kind of NIR node: literal tables.

The measure is NIR's own equations, by forward Euler with step dt = 1e-4, spike where
v > v_threshold. Versions: snnTorch 1.0.0, norse 1.1.0, SpikingJelly 2.0.0, sinabs 3.1.3,
rockpool 3.1.0, snn-mlir 1.0.0, nirtorch 2.6 with its default maps. Every row was run:
tests/export/test_nir_check.py imports a file of each kind into each framework and compares.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

DT = 1e-4


class Verdict(enum.Enum):
    """What becomes of a node."""

    EXACT = "runs exactly"
    APPROXIMATE = "approximates"  # it runs, and not as NIR says
    DROPPED = "silently dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rule:
    """A verdict on a node, under a condition; of several, the first that holds counts."""

    verdict: Verdict
    reason: str
    when: Callable[[Any], bool] = lambda node: True


Table: TypeAlias = Mapping[str, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class Importer:
    """A framework's importer.

    Attributes:
        table: kind of node -> rules; a node that no rule is about runs exactly.
        unknown: what becomes of kinds that the table lacks.
        branches: what becomes of a node at which two edges arrive; None if they are added up.
    """

    table: Table
    unknown: Rule
    branches: Rule | None = None


def _uneven(*fields: str) -> Callable[[Any], bool]:
    return lambda node: any(np.unique(getattr(node, f)).size > 1 for f in fields)


def _any(*fields: str) -> Callable[[Any], bool]:
    return lambda node: any(bool(np.any(getattr(node, f))) for f in fields)


def _integers(node: Any) -> bool:
    return bool(node.weight.dtype.kind in "iu")


def _grouped(node: Any) -> bool:
    return int(np.ravel(node.groups)[0]) != 1


def _depthwise(node: Any) -> bool:
    """Whether groups do not divide the channels of one group, which is taken for all."""
    return bool(node.weight.shape[1] % int(np.ravel(node.groups)[0]))


def _padded(node: Any) -> bool:
    return bool(np.any(node.padding))


def _odd_window(node: Any) -> bool:
    size: int = math.prod(np.broadcast_to(node.kernel_size, 2).tolist())
    return size & (size - 1) != 0


def _steps(tau: Any) -> Any:
    return np.asarray(tau, np.float64) / DT


def _rounded(*fields: str) -> Callable[[Any], bool]:
    """Whether float32 rounds dt / tau: it is no power of two."""
    return lambda node: any(
        not bool(np.all(np.frexp(_steps(getattr(node, f)))[0] == 0.5)) for f in fields
    )


def _ties(node: Any) -> bool:
    return bool(np.any(node.v_threshold == np.floor(node.v_threshold)))


def _r_is_not_inverse_dt(node: Any) -> bool:
    return not np.allclose(node.r, 1 / DT, rtol=1e-6)


def _r_is_not_tau(tau: str) -> Callable[[Any], bool]:
    return lambda node: not np.allclose(node.r, _steps(getattr(node, tau)), rtol=1e-5)


def _w_in_is_not_tau_syn(node: Any) -> bool:
    return not np.allclose(node.w_in, _steps(node.tau_syn), rtol=1e-6)


def _r_is_not_one(node: Any) -> bool:
    return not np.allclose(node.r, 1)


_YES, _LIKE = Verdict.EXACT, Verdict.APPROXIMATE
_GONE, _NO = Verdict.DROPPED, Verdict.REFUSED

_TERMINAL = (Rule(_YES, "entry or exit"),)
_SYNAPSES = (Rule(_YES, "y = W x + b in float32"),)
_GROUPS = Rule(_NO, "groups are refused", _grouped)
_DEPTHWISE = Rule(_NO, "takes the channels of one group for all of them", _depthwise)
_INTEGER_WEIGHTS = Rule(_NO, "integer weights are not cast: PyTorch refuses them", _integers)
_RESET = Rule(_LIKE, "v_reset is ignored: 0", _any("v_reset"))
_TIES = Rule(_LIKE, "fires at >= where NIR fires at >: a membrane can meet this", _ties)
_THRESHOLDS = Rule(_NO, "one threshold for a node", _uneven("v_threshold"))
_LEAK_TO = Rule(_NO, "v_leak must be 0", _any("v_leak"))
_SUM_POOL = (
    Rule(_LIKE, "padding is ignored", _padded),
    Rule(_LIKE, "averages and multiplies: rounded, unless a window has 2^n elements", _odd_window),
    Rule(_YES, "averages and multiplies by 2^n"),
)
_AVG_POOL = (
    Rule(_LIKE, "1 / n is rounded in float32 unless n is a power of two", _odd_window),
    Rule(_YES, "the mean of each window"),
)
_NIRTORCH = Rule(_NO, "nirtorch: no mapping exists for this kind of node")
_EXECUTOR = Rule(
    _LIKE,
    "where branches meet, only what a depth-first search has visited before is added up; "
    "export with the fused flavour",
)

SNNTORCH = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": _SYNAPSES,
        "Linear": _SYNAPSES,
        "Conv1d": (_INTEGER_WEIGHTS, _DEPTHWISE, *_SYNAPSES),
        "Conv2d": (_DEPTHWISE, *_SYNAPSES),
        "SumPool2d": _SUM_POOL,
        "AvgPool2d": _AVG_POOL,
        "Flatten": (Rule(_YES, "if arrays have no batch axis: start_dim counts it"),),
        "IF": (Rule(_NO, "becomes a Leaky with beta 0.9 that returns a pair"),),
        "LIF": (
            _LEAK_TO,
            _THRESHOLDS,
            _RESET,
            Rule(_LIKE, "1 - dt / tau is rounded in float32", _rounded("tau")),
            Rule(_YES, "a Leaky whose threshold is divided by r dt / tau"),
        ),
        "CubaLIF": (
            _LEAK_TO,
            Rule(_NO, "r must be tau_mem / dt", _r_is_not_tau("tau_mem")),
            _THRESHOLDS,
            _RESET,
            Rule(_LIKE, "1 - dt / tau is rounded in float32", _rounded("tau_syn", "tau_mem")),
            Rule(_YES, "a Synaptic whose threshold is divided by w_in dt / tau_syn"),
        ),
    },
    _NIRTORCH,
)

SPIKINGJELLY = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": (_INTEGER_WEIGHTS, *_SYNAPSES),
        "Linear": (_INTEGER_WEIGHTS, *_SYNAPSES),
        "Conv1d": (_INTEGER_WEIGHTS, _GROUPS, *_SYNAPSES),
        "Conv2d": (_INTEGER_WEIGHTS, _GROUPS, *_SYNAPSES),
        "SumPool2d": _SUM_POOL,
        "AvgPool2d": _AVG_POOL,
        "Flatten": (Rule(_YES, "if arrays have a batch axis: start_dim is moved by one"),),
        "IF": (
            Rule(_NO, "r must be 1 / dt", _r_is_not_inverse_dt),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", _any("v_reset")),
            _TIES,
            Rule(_YES, "an IFNode"),
        ),
        "LIF": (
            Rule(_NO, "tau must be larger than dt", lambda n: bool(np.any(_steps(n.tau) <= 1))),
            Rule(_NO, "one time constant for a node", _uneven("tau", "r")),
            Rule(
                _NO,
                "r must be 1 or tau / dt",
                lambda n: _r_is_not_one(n) and _r_is_not_tau("tau")(n),
            ),
            Rule(_NO, "v_leak must be v_reset", lambda n: not np.allclose(n.v_leak, n.v_reset)),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", _any("v_reset")),
            Rule(_LIKE, "1 / tau is rounded in float32", _rounded("tau")),
            _TIES,
            Rule(_YES, "a LIFNode"),
        ),
        "CubaLIF": (
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", _uneven("tau_syn", "tau_mem", "r", "w_in")),
            Rule(_NO, "r must be tau_mem / dt", _r_is_not_tau("tau_mem")),
            Rule(_NO, "w_in must be tau_syn / dt", _w_in_is_not_tau_syn),
            Rule(_NO, "a time constant below dt", lambda n: bool(
                np.any(n.tau_syn < DT) or np.any(n.tau_mem < DT))),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", _any("v_reset")),
            Rule(_LIKE, "1 - dt / tau is rounded in float32", _rounded("tau_syn", "tau_mem")),
            _TIES,
            Rule(_YES, "a CUBALIFNode"),
        ),
    },
    _NIRTORCH,
)  # fmt: skip

NIRTORCH = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": (_INTEGER_WEIGHTS, Rule(_LIKE, "the bias is never set: give it a node map")),
        "Linear": (_INTEGER_WEIGHTS, *_SYNAPSES),
        "Conv1d": (_INTEGER_WEIGHTS, _DEPTHWISE, *_SYNAPSES),
        "Conv2d": (_INTEGER_WEIGHTS, _DEPTHWISE, *_SYNAPSES),
        "SumPool2d": _SUM_POOL,
        "AvgPool2d": _AVG_POOL,
        "Flatten": (Rule(_YES, "if arrays have no batch axis: start_dim counts it"),),
    },
    Rule(_NO, "nirtorch has no default for this kind of node: give it a node map"),
)

NORSE = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": _SYNAPSES,
        "Linear": _SYNAPSES,
        "Conv2d": (_DEPTHWISE, *_SYNAPSES),
        "SumPool2d": _SUM_POOL,
        "Flatten": (Rule(_YES, "if arrays have no batch axis: start_dim counts it"),),
        "IF": (
            Rule(_LIKE, "r is ignored: v + x", _r_is_not_inverse_dt),
            _RESET,
            Rule(_YES, "an IAFCell; dt must be given as 1e-4"),
        ),
        "LIF": (
            Rule(_LIKE, "r is ignored: 1", _r_is_not_one),
            _RESET,
            Rule(_LIKE, "dt / tau is rounded in float32", _rounded("tau")),
            Rule(_YES, "a LIFBoxCell; dt must be given as 1e-4"),
        ),
        "CubaLIF": (
            Rule(_LIKE, "v_leak moves the synaptic current as well", _any("v_leak")),
            _RESET,
            Rule(_LIKE, "dt / tau is rounded in float32", _rounded("tau_syn", "tau_mem")),
            Rule(_YES, "an LIBoxCell and a LIFBoxCell; dt must be given as 1e-4"),
        ),
    },
    Rule(_GONE, "no module is made for it: its input is handed on"),
    _EXECUTOR,
)

_MULTI_SPIKE = Rule(_LIKE, "fires several times a step and subtracts its threshold")
SINABS = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": _SYNAPSES,
        "Conv1d": (Rule(_NO, "treats NumPy's arrays as PyTorch's"),),
        "Conv2d": (_DEPTHWISE, *_SYNAPSES),
        "SumPool2d": (
            Rule(_LIKE, "padding is ignored", _padded),
            *_SUM_POOL[1:],
        ),
        "Flatten": (Rule(_YES, "start_dim is moved by one"),),
        "IF": (_MULTI_SPIKE,),
        "LIF": (_LEAK_TO, Rule(_LIKE, "decays by exp(-1 / tau), tau in steps, not by Euler")),
        "LI": (
            _LEAK_TO,
            Rule(_NO, "r must be 1", _r_is_not_one),
            Rule(
                _GONE,
                "takes tau for steps: in seconds, it hands its input on",
                lambda n: bool(np.all(np.exp(-1 / np.asarray(n.tau)) == 0)),
            ),
            Rule(_LIKE, "decays by exp(-1 / tau), tau in steps, not by Euler"),
        ),
    },
    Rule(_GONE, "no module is made for it: its input is handed on"),
    _EXECUTOR,
)

ROCKPOOL = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": _SYNAPSES,
        "Linear": _SYNAPSES,
        "LI": (Rule(_LIKE, "decays by exp(-dt / tau), with a dt of its own"),),
        "LIF": (Rule(_NO, "its importer asks for tau_mem, which a LIF has not"),),
        "CubaLIF": (Rule(_LIKE, "decays by exp(-dt / tau), fires several times, subtracts"),),
    },
    Rule(_NO, "rockpool: cannot convert this kind of node"),
    _EXECUTOR,
)


def _gain_is_not_one(node: Any) -> bool:
    return not bool(np.allclose(node.w_in * node.tau_mem / node.r / node.tau_syn, 1))


_GAIN = Rule(
    _NO, "w_in must be tau_syn / dt, for the dt that r = tau_mem / dt says", _gain_is_not_one
)
_EMITS = (Rule(_YES, "is emitted as MLIR (not run here: that needs an LLVM build)"),)
_OTHER_DT = "takes dt = tau / r for its step, and that is not 1e-4"
_RESETS_ELSEWHERE = Rule(_NO, "v_reset must be 0", _any("v_reset"))
SNN_MLIR = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": _EMITS,
        "Linear": _EMITS,
        "Conv1d": (_GROUPS, *_EMITS),
        "Conv2d": (_GROUPS, *_EMITS),
        "SumPool2d": _EMITS,
        "AvgPool2d": _EMITS,
        "Flatten": _EMITS,
        "IF": (Rule(_NO, "r must be 1", _r_is_not_one), _THRESHOLDS, _RESETS_ELSEWHERE, *_EMITS),
        "I": (Rule(_NO, "r must be 1", _r_is_not_one), *_EMITS),
        "LI": (
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", _uneven("tau", "r")),
            Rule(_LIKE, _OTHER_DT, _r_is_not_tau("tau")),
            *_EMITS,
        ),
        "LIF": (
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", _uneven("tau", "r")),
            _THRESHOLDS,
            _RESETS_ELSEWHERE,
            Rule(_LIKE, _OTHER_DT, _r_is_not_tau("tau")),
            *_EMITS,
        ),
        "CubaLI": (
            _GAIN,
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", _uneven("tau_syn", "tau_mem")),
            Rule(_LIKE, _OTHER_DT, _r_is_not_tau("tau_mem")),
            *_EMITS,
        ),
        "CubaLIF": (
            _GAIN,
            _LEAK_TO,
            _RESETS_ELSEWHERE,
            Rule(_NO, "one time constant for a node", _uneven("tau_syn", "tau_mem")),
            _THRESHOLDS,
            Rule(_LIKE, _OTHER_DT, _r_is_not_tau("tau_mem")),
            *_EMITS,
        ),
    },
    Rule(_NO, "snn-mlir: no parser for this kind of node"),
    Rule(_NO, "only chains are supported; export with the fused flavour"),
)

IMPORTERS: Mapping[str, Importer] = {
    "snntorch": SNNTORCH,
    "norse": NORSE,
    "spikingjelly": SPIKINGJELLY,
    "sinabs": SINABS,
    "rockpool": ROCKPOOL,
    "snn-mlir": SNN_MLIR,
    "nirtorch": NIRTORCH,
}
