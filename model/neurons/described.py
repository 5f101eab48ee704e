"""Neurons described in text: `CLASS=RULE`, as the command line takes them and a recipe keeps them.

RULE is the dotted name of a known neuron (`braincog.base.node.node.LIFNode`), whose options are
then read off each instance, or a kind with numbers, as in `integer-spike:D=4` and
`neuron:decay=1/2,gain=1/2,v_threshold=1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from fractions import Fraction
from typing import Any

from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.model.neurons.adapters import ADAPTERS, Description, KnownAs
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Rule, StaircaseRule, Thresholds

_RESETS = {
    "zero": ops.Reset.TO_ZERO,
    "subtract": ops.Reset.BY_SUBTRACTION,
    "none": ops.Reset.NONE,
}
_GENERAL_AXES = {"taps": 1, "thresholds": 1}  # between that of steps and those of a sample
_STAIRCASE = {"D": "levels", "norm": "norm", "half_up": "half_up"}
_KINDS = ("integer-spike:D=4", "neuron:decay=1/2,gain=1/2,v_threshold=1")


def parse_neurons(texts: Iterable[str]) -> dict[str, Description]:
    """Read several `CLASS=RULE`; the result is what `quantize(neurons=...)` takes.

    >>> parse_neurons(["net.Spike=integer-spike:D=4"])
    {'net.Spike': StaircaseRule(levels=4, norm=4, half_up=False)}

    Raises:
        InputError: one of them cannot be read, or a class is named twice.
    """
    found: dict[str, Description] = {}
    for text in texts:
        name, equals, rule = text.partition("=")
        if not (equals and name and rule):
            raise InputError(f"{text!r}: a neuron is described by CLASS=RULE, as in X={_KINDS[0]}")
        if name in found:
            raise InputError(f"{name!r} is described twice")
        found[name] = parse_rule(rule)
    return found


def parse_rule(text: str) -> Rule | KnownAs:
    """Read what a neuron does: `kind:KEY=VALUE,...`, or the name of a known neuron.

    Raises:
        InputError: it is neither, a key is unknown or missing, or no neuron can be so.
    """
    kind, colon, rest = text.partition(":")
    if not colon:
        if text not in ADAPTERS:
            raise InputError(
                f"{text!r} is no neuron that lapilli knows; give one of docs/adapters.md by its "
                f"dotted name, or a rule such as {' or '.join(_KINDS)}"
            )
        return KnownAs(text)
    given: dict[str, str] = {}
    for pair in rest.split(","):
        key, equals, value = pair.partition("=")
        if not equals or key in given:
            raise InputError(f"{text!r}: {pair!r} is no KEY=VALUE of its own")
        given[key] = value
    try:
        match kind:
            case "integer-spike":
                return _staircase(given)
            case "neuron":
                return _neuron(given)
            case "general":
                return _general(given)
            case _:
                raise ValueError(f"{kind!r} is none of integer-spike, neuron, general")
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{text!r}: {error}") from error


def rule_text(rule: Rule | KnownAs) -> str:
    """Write a rule so that `parse_rule` reads the same; what has its default is left out.

    >>> rule_text(StaircaseRule(levels=4, norm=4))
    'integer-spike:D=4,norm=4'

    Numbers that differ are written with their shape: `v_threshold=2x1x1:1/2;3/4`.
    """
    if isinstance(rule, KnownAs):
        return rule.name
    if isinstance(rule, StaircaseRule):
        shown = [f"{key}={_text(getattr(rule, name))}" for key, name in _STAIRCASE.items()]
        return f"integer-spike:{','.join(shown if rule.half_up else shown[:2])}"
    values = ((f.name, getattr(rule, f.name), f.default) for f in fields(rule))
    shown = [f"{name}={_text(value)}" for name, value, default in values if value != default]
    return f"{'general' if isinstance(rule, GeneralRule) else 'neuron'}:{','.join(shown)}"


def _staircase(given: Mapping[str, str]) -> StaircaseRule:
    _check_keys(given, required=("D",), known=tuple(_STAIRCASE))
    levels = int(given["D"])
    return StaircaseRule(
        levels=levels,
        norm=int(given.get("norm", levels)),
        half_up=_truth(given.get("half_up", "false")),
    )


def _neuron(given: Mapping[str, str]) -> NeuronRule:
    known = fields(NeuronRule)
    required = tuple(f.name for f in known if f.default is MISSING)
    _check_keys(given, required=required, known=tuple(f.name for f in known))
    return NeuronRule(**{key: _value(key, text) for key, text in given.items()})


def _general(given: Mapping[str, str]) -> GeneralRule:
    known = fields(GeneralRule)
    required = tuple(f.name for f in known if f.default is MISSING)
    _check_keys(given, required=required, known=tuple(f.name for f in known))
    return GeneralRule(**{key: _general_value(key, text) for key, text in given.items()})


def _general_value(key: str, text: str) -> Any:
    match key:
        case "reset":
            return _value(key, text)
        case "floored":
            return _truth(text)
        case "strict":
            return tuple(_truth(each) for each in text.split(";"))
        case _:
            shape, colon, values = text.partition(":")
            if not colon:
                return Constants.one(Fraction(text), between=_GENERAL_AXES.get(key, 0))
            sizes = tuple(int(n) for n in shape.split("x"))
            return Constants(tuple(Fraction(v) for v in values.split(";")), sizes)


def _check_keys(
    given: Mapping[str, str], *, required: tuple[str, ...], known: tuple[str, ...]
) -> None:
    if unknown := [key for key in given if key not in known]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
    if missing := [key for key in required if key not in given]:
        raise ValueError(f"lacks {missing[0]}")


def _value(key: str, text: str) -> Any:
    if key == "reset":
        if text not in _RESETS:
            raise ValueError(f"reset {text!r} is none of {', '.join(_RESETS)}")
        return _RESETS[text]
    if key == "v_threshold" and ":" in text:
        shape, _, values = text.partition(":")
        sizes = tuple(int(n) for n in shape.split("x"))
        return Thresholds(tuple(Fraction(v) for v in values.split(";")), sizes)
    return _truth(text) if key in ("strict", "ternary") else Fraction(text)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _text(value: object) -> str:
    if isinstance(value, ops.Reset):
        return next(text for text, reset in _RESETS.items() if reset is value)
    if isinstance(value, tuple):
        return ";".join(map(_text, value))
    if isinstance(value, Thresholds | Constants):
        return f"{'x'.join(map(str, value.shape))}:{';'.join(map(str, value.values))}"
    return str(value).lower()
