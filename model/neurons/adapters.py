"""Which classes are neurons: one literal adapter for each, by qualified name.

A framework need not be installed to be known. A user's own class is described by a rule and
put into the model as a `Described` neuron, which has an adapter like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.frameworks import braincog, norse, own, snntorch, spikingjelly
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, StaircaseRule, Thresholds, Trace
from lapilli.model.neurons.simulate import simulate

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Description",
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
    "models.utils.node.LIFNode": braincog.LIF,  # STEP, run from its folder cls/
    "utils.node.LIFNode": braincog.LIF,  # likewise, from cls/models/
    "braincog.base.node.node.PLIFNode": braincog.PLIF,
    "models.utils.node.PLIFNode": braincog.PLIF,
    "utils.node.PLIFNode": braincog.PLIF,
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
    if (found := _adapter_of_step(module)) is not None:
        return found
    if (name := vars(module).get(_KNOWN_AS)) is not None:
        return ADAPTERS[name]
    for kind in type(module).__mro__:
        if (found := ADAPTERS.get(_qualified(kind))) is not None:
            return found
        if not vars(kind).keys() <= _CONSTRUCTS:
            return None
    return None


def _adapter_of_step(module: nn.Module) -> Adapter | None:
    """The adapter of STEP's neurons, whose module is named by the folder that STEP is run from."""
    bases = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__[1:3]]
    if len(bases) < 2 or not bases[0].endswith(".BaseNode_Torch"):
        return None
    if bases[1] != "braincog.base.node.node.BaseNode":
        return None
    return {"LIFNode": braincog.LIF, "PLIFNode": braincog.PLIF}.get(type(module).__qualname__)


def rule_of(module: nn.Module, path: str) -> Rule:
    """What the neuron at `path` does.

    Raises:
        CaptureError: it is no neuron that we know, or one of its options has no rule.
    """
    adapter = adapter_of(module)
    if adapter is None:
        raise CaptureError(path, f"{_qualified(type(module))} is no neuron that lapilli knows")
    try:
        return adapter.rule(module)
    except (ValueError, AttributeError) as error:
        raise CaptureError(path, f"{type(module).__name__}: {error}") from error


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
            raise CaptureError("", f"no module is a {name!r}, which `neurons` describes")
        if len(fitting) > 1:
            both = " and ".join(map(_qualified, fitting[:2]))
            raise CaptureError("", f"{name!r} names two classes, {both}: give more of the name")
        found[fitting[0]] = name
    return found


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
