"""What each framework's importer does with each kind of NIR node: literal tables.

The measure is NIR's own equations, by forward Euler with step dt = 1e-4, spike where
v > v_threshold. Versions: snnTorch 1.0.0, norse 1.1.0, SpikingJelly 2.0.0, sinabs 3.1.3,
rockpool 3.1.0, snn-mlir 1.0.0, nirtorch 2.6 with its default maps. Every row was run:
tests/export/test_nir_check.py imports a file of each kind into each framework and compares.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from lapilli.export.nir.check import predicates as when
from lapilli.export.nir.check.predicates import Pair


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


def _spikingjelly_refuses(pair: Pair) -> Callable[[Any], bool]:
    return when.refuses(pair, rtol=1e-6, atol=1e-12)


_YES, _LIKE = Verdict.EXACT, Verdict.APPROXIMATE
_GONE, _NO = Verdict.DROPPED, Verdict.REFUSED

_TERMINAL = (Rule(_YES, "entry or exit"),)
_SYNAPSES = (Rule(_YES, "y = W x + b in float32"),)
_GROUPS = Rule(_NO, "groups are refused", when.grouped)
_DEPTHWISE = Rule(_NO, "takes the channels of one group for all of them", when.depthwise)
_INTEGER_WEIGHTS = Rule(
    _NO, "integer weights are not cast: PyTorch refuses them", when.integer_weights
)
_RESET = Rule(_LIKE, "v_reset is ignored: 0", when.nonzero("v_reset"))
_TIES = Rule(_LIKE, "fires at >= where NIR fires at >: a membrane can meet this", when.ties)
_THRESHOLDS = Rule(_NO, "one threshold for a node", when.uneven("v_threshold"))
_LEAK_TO = Rule(_NO, "v_leak must be 0", when.nonzero("v_leak"))
_SUM_POOL = (
    Rule(_LIKE, "padding is ignored", when.padded),
    Rule(
        _LIKE, "averages and multiplies: rounded, unless a window has 2^n elements", when.odd_window
    ),
    Rule(_YES, "averages and multiplies by 2^n"),
)
_AVG_POOL = (
    Rule(_LIKE, "1 / n is rounded in float32 unless n is a power of two", when.odd_window),
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
            Rule(_LIKE, "1 - dt / tau is rounded in float32", when.rounds("tau")),
            Rule(_YES, "a Leaky whose threshold is divided by r dt / tau"),
        ),
        "CubaLIF": (
            _LEAK_TO,
            Rule(_NO, "r must be tau_mem / dt", when.refuses(when.r_of_tau("tau_mem"), 1e-5, 1e-8)),
            _THRESHOLDS,
            _RESET,
            Rule(_LIKE, "1 - dt / tau is rounded in float32", when.rounds("tau_syn", "tau_mem")),
            Rule(_LIKE, "r is taken for tau_mem / dt", when.ignores(when.r_of_tau("tau_mem"))),
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
            Rule(_NO, "r must be 1 / dt", _spikingjelly_refuses(when.r_of_dt)),
            Rule(_LIKE, "r is taken for 1 / dt", when.ignores(when.r_of_dt)),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", when.nonzero("v_reset")),
            _TIES,
            Rule(_YES, "an IFNode"),
        ),
        "LIF": (
            Rule(_NO, "tau must be larger than dt", when.at_most_a_step("tau")),
            Rule(_NO, "one time constant for a node", when.uneven("tau", "r")),
            Rule(
                _NO,
                "r must be 1 or tau / dt",
                lambda n: (
                    _spikingjelly_refuses(when.r_of_one)(n)
                    and _spikingjelly_refuses(when.r_of_tau("tau"))(n)
                ),
            ),
            Rule(_NO, "v_leak must be v_reset", _spikingjelly_refuses(when.leak_of_reset)),
            Rule(
                _LIKE,
                "r is taken for 1 or tau / dt",
                lambda n: when.ignores(when.r_of_one)(n) and when.ignores(when.r_of_tau("tau"))(n),
            ),
            Rule(_LIKE, "v_leak is taken for v_reset", when.ignores(when.leak_of_reset)),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", when.nonzero("v_reset")),
            Rule(_LIKE, "1 / tau is rounded in float32", when.rounds("tau")),
            _TIES,
            Rule(_YES, "a LIFNode"),
        ),
        "CubaLIF": (
            _LEAK_TO,
            Rule(
                _NO,
                "one time constant for a node",
                when.uneven("tau_syn", "tau_mem", "r", "w_in"),
            ),
            Rule(_NO, "r must be tau_mem / dt", _spikingjelly_refuses(when.r_of_tau("tau_mem"))),
            Rule(_NO, "w_in must be tau_syn / dt", _spikingjelly_refuses(when.w_in_of_tau)),
            Rule(_LIKE, "r is taken for tau_mem / dt", when.ignores(when.r_of_tau("tau_mem"))),
            Rule(_LIKE, "w_in is taken for tau_syn / dt", when.ignores(when.w_in_of_tau)),
            Rule(_NO, "a time constant below dt", when.below_a_step("tau_syn", "tau_mem")),
            _THRESHOLDS,
            Rule(_LIKE, "begins at v_reset", when.nonzero("v_reset")),
            Rule(_LIKE, "1 - dt / tau is rounded in float32", when.rounds("tau_syn", "tau_mem")),
            _TIES,
            Rule(_YES, "a CUBALIFNode"),
        ),
    },
    _NIRTORCH,
)  # fmt: skip

_OWN_MAP = (
    "give it a node map; load_portable of lapilli.simulators.nir.nirtorch has one for lapilli's "
    "portable files"
)

NIRTORCH = Importer(
    {
        "Input": _TERMINAL,
        "Output": _TERMINAL,
        "Affine": (_INTEGER_WEIGHTS, Rule(_LIKE, f"the bias is never set: {_OWN_MAP}")),
        "CubaLIF": (Rule(_NO, f"nirtorch has no default for this kind of node: {_OWN_MAP}"),),
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
            Rule(_LIKE, "r is ignored: v + x", when.ignores(when.r_of_dt)),
            _RESET,
            Rule(_YES, "an IAFCell; dt must be given as 1e-4"),
        ),
        "LIF": (
            Rule(_LIKE, "r is ignored: 1", when.ignores(when.r_of_one)),
            _RESET,
            Rule(_LIKE, "dt / tau is rounded in float32", when.rounds("tau")),
            Rule(_YES, "a LIFBoxCell; dt must be given as 1e-4"),
        ),
        "CubaLIF": (
            Rule(_LIKE, "v_leak moves the synaptic current as well", when.nonzero("v_leak")),
            _RESET,
            Rule(_LIKE, "dt / tau is rounded in float32", when.rounds("tau_syn", "tau_mem")),
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
            Rule(_LIKE, "padding is ignored", when.padded),
            *_SUM_POOL[1:],
        ),
        "Flatten": (Rule(_YES, "start_dim is moved by one"),),
        "IF": (_MULTI_SPIKE,),
        "LIF": (_LEAK_TO, Rule(_LIKE, "decays by exp(-1 / tau), tau in steps, not by Euler")),
        "LI": (
            _LEAK_TO,
            Rule(_NO, "r must be 1", when.ignores(when.r_of_one)),
            Rule(
                _GONE,
                "takes tau for steps: in seconds, it hands its input on",
                when.forgets,
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


_GAIN = Rule(
    _NO,
    "w_in must be tau_syn / dt, for the dt that r = tau_mem / dt says",
    when.refuses(when.unit_gain, 1e-5, 1e-8),
)
_UNIT_R = (
    Rule(_NO, "r must be 1", when.refuses(when.r_of_one, 1e-5, 1e-8)),
    Rule(_LIKE, "r is taken for 1", when.ignores(when.r_of_one)),
)
_UNIT_GAIN = Rule(_LIKE, "w_in is taken for tau_syn / dt", when.ignores(when.unit_gain))
_EMITS = (Rule(_YES, "is emitted as MLIR (not run here: that needs an LLVM build)"),)
_OTHER_DT = "takes dt = tau / r for its step, and that is not 1e-4"
_RESETS_ELSEWHERE = Rule(_NO, "v_reset must be 0", when.nonzero("v_reset"))
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
        "IF": (
            *_UNIT_R,
            _THRESHOLDS,
            _RESETS_ELSEWHERE,
            *_EMITS,
        ),
        "I": (*_UNIT_R, *_EMITS),
        "LI": (
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", when.uneven("tau", "r")),
            Rule(_LIKE, _OTHER_DT, when.ignores(when.r_of_tau("tau"))),
            *_EMITS,
        ),
        "LIF": (
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", when.uneven("tau", "r")),
            _THRESHOLDS,
            _RESETS_ELSEWHERE,
            Rule(_LIKE, _OTHER_DT, when.ignores(when.r_of_tau("tau"))),
            *_EMITS,
        ),
        "CubaLI": (
            _GAIN,
            _UNIT_GAIN,
            _LEAK_TO,
            Rule(_NO, "one time constant for a node", when.uneven("tau_syn", "tau_mem")),
            Rule(_LIKE, _OTHER_DT, when.ignores(when.r_of_tau("tau_mem"))),
            *_EMITS,
        ),
        "CubaLIF": (
            _GAIN,
            _UNIT_GAIN,
            _LEAK_TO,
            _RESETS_ELSEWHERE,
            Rule(_NO, "one time constant for a node", when.uneven("tau_syn", "tau_mem")),
            _THRESHOLDS,
            Rule(_LIKE, _OTHER_DT, when.ignores(when.r_of_tau("tau_mem"))),
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
