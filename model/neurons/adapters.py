"""Which classes are neurons: one literal adapter for each, by qualified name.

A framework need not be installed to be known. A user's own class is described by a rule and
put into the model as a `Described` neuron, which has an adapter like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.frameworks import (
    braincog,
    norse,
    own,
    snntorch,
    spikingjelly,
    spikingjelly_general,
    step,
)
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.refused import REFUSED, STEPS
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, StaircaseRule, Thresholds, Trace
from lapilli.model.neurons.simulate import simulate

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Constants",
    "Description",
    "GeneralRule",
    "NeuronRule",
    "Rule",
    "StaircaseRule",
    "Thresholds",
]


@dataclass(frozen=True, slots=True)
class KnownAs:
    """A user's class that is a known neuron under another name.

    Attributes:
        name: of the known one, a key of `ADAPTERS`.
    """

    name: str


# Of a user's class: constant, read off an instance, or the same as a known one's.
Description: TypeAlias = Rule | Callable[[Any], Rule] | KnownAs
_SHOWN = 8  # classes in a message
_KNOWN_AS = "lapilli_known_as"  # attribute of an instance, in a copy of the user's model


class Described(nn.Module):
    """A user's neuron of currents (T, ...), and what its author says that it does.

    Every call starts from the state in which the neuron was found.
    """

    def __init__(self, module: nn.Module, rule: Rule) -> None:
        super().__init__()
        self.module = module
        self.rule = rule
        self.moved = False

    def forward(self, x: Tensor) -> Tensor:
        """The user's own forward; the rule, once its threshold has been moved."""
        if self.moved:
            return simulate(self.rule, x)[0]
        spikes: Tensor = copied(self.module)(x)
        return spikes

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model asks of its neuron."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def _described_trace(described: Any, x: Tensor) -> Trace:
    with torch.no_grad():
        return described(x), simulate(described.rule, x)[1]


def _move(described: Any, v_threshold: float) -> None:
    described.rule = described.rule.with_threshold(v_threshold)
    described.moved = True


_DESCRIBED = Adapter(
    rule=lambda described: described.rule, trace=_described_trace, set_threshold=_move
)

_SJ = "spikingjelly.activation_based.neuron"
_SJ_OLD = "spikingjelly.clock_driven.neuron"

ADAPTERS: Mapping[str, Adapter] = {
    "lapilli.model.families.lif.LIF": own.LIF,
    "lapilli.model.families.lif.PLIF": own.PLIF,
    "lapilli.model.families.lif.TernaryLIF": own.TERNARY,
    "lapilli.model.families.lif.IntegerSpike": own.INTEGER,
    "lapilli.model.neurons.adapters.Described": _DESCRIBED,
    f"{_SJ}.integrate_and_fire.IFNode": spikingjelly.IF,
    f"{_SJ}.integrate_and_fire.SimpleIFNode": spikingjelly.IF,
    f"{_SJ}.lif.SimpleLIFNode": spikingjelly.LIF,
    f"{_SJ}.online_learning.OTTTLIFNode": spikingjelly.LIF,
    f"{_SJ}.online_learning.SLTTLIFNode": spikingjelly.LIF,
    f"{_SJ}.ternary.TernaryIFNode": spikingjelly.TERNARY_IF,
    f"{_SJ}.ternary.TernaryLIFNode": spikingjelly.TERNARY_LIF,
    f"{_SJ}.lif_variants.CUBALIFNode": spikingjelly.CUBA,
    f"{_SJ}.lif_variants.KLIFNode": spikingjelly_general.KLIF,
    f"{_SJ}.KLIFNode": spikingjelly_general.KLIF,
    f"{_SJ}.ilif.ILIFNode": spikingjelly_general.ILIF,
    f"{_SJ}.psn.PSN": spikingjelly_general.PSN,
    f"{_SJ}.psn.MaskedPSN": spikingjelly_general.MASKED_PSN,
    f"{_SJ}.psn.SlidingPSN": spikingjelly_general.SLIDING_PSN,
    f"{_SJ}.lif.LIFNode": spikingjelly.LIF,
    f"{_SJ}.plif.ParametricLIFNode": spikingjelly.PLIF,
    f"{_SJ}.IFNode": spikingjelly.IF,  # 0.0.0.0.14, where `neuron` is one file
    f"{_SJ}.LIFNode": spikingjelly.LIF,
    f"{_SJ}.ParametricLIFNode": spikingjelly.PLIF,
    f"{_SJ_OLD}.MultiStepIFNode": spikingjelly.IF,
    f"{_SJ_OLD}.MultiStepLIFNode": spikingjelly.LIF,
    f"{_SJ_OLD}.MultiStepParametricLIFNode": spikingjelly.PLIF,
    "snntorch._neurons.leaky.Leaky": snntorch.LEAKY,
    "snntorch._neurons.lapicque.Lapicque": snntorch.LAPICQUE,
    "norse.torch.module.lif.LIFCell": norse.LIF,
    "norse.torch.module.lif.LIF": norse.LIF,
    "norse.torch.module.lif_box.LIFBoxCell": norse.LIF_BOX,
    "norse.torch.module.leaky_integrator.LICell": norse.LI,
    "norse.torch.module.leaky_integrator_box.LIBoxCell": norse.LI,
    "braincog.base.node.node.LIFNode": braincog.LIF,
    "braincog.base.node.node.PLIFNode": braincog.PLIF,
    "braincog.base.node.node.IFNode": braincog.IF,
    **{f"models.utils.node.{kind}": row for kind, row in step.NEURONS.items()},  # run from cls/
    **{f"utils.node.{kind}": row for kind, row in step.NEURONS.items()},  # from cls/models/
}


# What the body of a class holds that overrides its constructor alone.
_CONSTRUCTS = frozenset({
    "__init__", "extra_repr", "__module__", "__qualname__", "__doc__", "__annotations__",
    "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
})  # fmt: skip


def adapter_of(module: nn.Module) -> Adapter | None:
    """The adapter of this module's class, or None if it is no neuron that we know.

    A subclass that overrides nothing but its constructor is what it inherits from; what it does
    is probed like any other.
    """
    if _is_steps(module):
        return step.NEURONS.get(type(module).__qualname__)
    if (name := vars(module).get(_KNOWN_AS)) is not None:
        return ADAPTERS[name]
    return next((ADAPTERS[name] for name in _names(module) if name in ADAPTERS), None)


def refusal(module: nn.Module) -> str:
    """Why a neuron class that lapilli has heard of cannot be; empty of every other module."""
    if adapter_of(module) is not None:
        return ""
    if _is_steps(module):
        return STEPS.get(type(module).__qualname__, "")
    return next((REFUSED[name] for name in _names(module) if name in REFUSED), "")


def _names(module: nn.Module) -> Iterator[str]:
    """Of the classes that a module is an instance of, up to one that overrides what it does."""
    for kind in type(module).__mro__:
        yield _qualified(kind)
        if not vars(kind).keys() <= _CONSTRUCTS:
            return


def _is_steps(module: nn.Module) -> bool:
    """Whether a neuron is STEP's, whose module is named by the folder that STEP is run from."""
    bases = [_qualified(kind) for kind in type(module).__mro__[1:3]]
    return (
        len(bases) == 2
        and bases[0].endswith(".BaseNode_Torch")
        and bases[1] == "braincog.base.node.node.BaseNode"
    )


def rule_of(module: nn.Module, path: str) -> Rule:
    """What the neuron at `path` does.

    Raises:
        CaptureError: it is no neuron that we know, or one of its options has no rule.
    """
    adapter = adapter_of(module)
    if adapter is None:
        why = refusal(module)
        unknown = f"{_qualified(type(module))} is no neuron that lapilli knows"
        raise CaptureError(path, f"{type(module).__name__}: {why}" if why else unknown)
    try:
        return adapter.rule(module)
    except (ValueError, AttributeError) as error:
        why, known = str(error), getattr(module, _KNOWN_AS, None)
        if known is not None and isinstance(error, AttributeError):
            why = f"has no {error.name!r}, by which a {known} would be read"
        raise CaptureError(path, f"{type(module).__name__}: {why}") from error


def reset_states(model: nn.Module) -> None:
    """Reset every neuron of `model` that keeps a state from call to call."""
    for module in model.modules():
        if adapter := adapter_of(module):
            adapter.forget(module)


def describe(model: nn.Module, descriptions: Mapping[str, Description]) -> nn.Module:
    """A copy of `model` in which each module of a named class is a `Described` neuron.

    Args:
        model: stays as it is.
        descriptions: "package.module.Class", or the end of that, "Class" -> its rule, a function
            that reads the rule off an instance, or the known neuron that it is.

    Raises:
        CaptureError: a class that the model does not have, or has two of; a rule that cannot be.
    """
    model = copied(model)
    named = described_classes(model, descriptions)
    for path, module in list(model.named_modules()):
        name = named.get(type(module))
        if name is None:
            continue
        if not path:
            raise CaptureError(path, "is a neuron, not a network")
        given = descriptions[name]
        if isinstance(given, KnownAs):
            setattr(module, _KNOWN_AS, given.name)
            continue
        try:
            rule = given(module) if callable(given) else given
        except (ValueError, TypeError, AttributeError) as error:
            raise CaptureError(path, f"its rule cannot be read: {error}") from error
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Described(module, rule))
    return model


def described_classes(model: nn.Module, names: Iterable[str]) -> Mapping[type, str]:
    """Find the classes of a model's modules that are named, each by its name or the end of it.

    Raises:
        CaptureError: no class has a name, or two have.
    """
    kinds = dict.fromkeys(type(module) for module in model.modules())
    found: dict[type, str] = {}
    for name in names:
        fitting = [k for k in kinds if f".{_qualified(k)}".endswith(f".{name}")]
        if not fitting:
            own = [n for n in map(_qualified, kinds) if not n.startswith("torch.")]
            there = f"; its classes are {', '.join(own[:_SHOWN])}" if own else ""
            raise CaptureError("", f"no module is a {name!r}, which `neurons` describes{there}")
        if len(fitting) > 1:
            both = " and ".join(map(_qualified, fitting[:2]))
            raise CaptureError("", f"{name!r} names two classes, {both}: give more of the name")
        found[fitting[0]] = name
    return found


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
