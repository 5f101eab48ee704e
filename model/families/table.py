"""Every family of models: its configuration, its class, and the keys of official files.

A checkpoint's keys say which family it is of, but not everything about it: heads, T, time
constants, thresholds and pooling come from a configuration (`presets`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from lapilli.model.families import (
    a2os2a,
    e_spikeformer,
    meta_spikeformer,
    qkformer,
    semm,
    spike_driven,
    spikformer,
    spikingformer,
)
from lapilli.model.families.a2os2a import A2OS2AConfig
from lapilli.model.families.e_spikeformer import ESpikeFormerConfig
from lapilli.model.families.family import Family, lines_of, shown
from lapilli.model.families.lif import LIF, PLIF
from lapilli.model.families.meta_spikeformer import MetaSpikeFormerConfig
from lapilli.model.families.qkformer import QKFormerConfig
from lapilli.model.families.semm import SEMMConfig, SEMMImageNetConfig
from lapilli.model.families.spike_driven import SpikeDrivenConfig
from lapilli.model.families.spikformer import SpikformerConfig
from lapilli.model.families.spikingformer import SpikingformerConfig

Config: TypeAlias = (
    SpikformerConfig
    | SpikingformerConfig
    | SpikeDrivenConfig
    | A2OS2AConfig
    | QKFormerConfig
    | SEMMConfig
    | SEMMImageNetConfig
    | MetaSpikeFormerConfig
    | ESpikeFormerConfig
)


_ALL = (
    spikformer.FAMILY,
    spikingformer.FAMILY,
    spike_driven.FAMILY,
    a2os2a.FAMILY,
    qkformer.FAMILY,
    semm.FAMILY,
    semm.IMAGENET_FAMILY,
    meta_spikeformer.FAMILY,
    e_spikeformer.FAMILY,
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}


def family_of(config: Config) -> str:
    """Name of the family that a configuration belongs to."""
    return next(name for name, family in FAMILIES.items() if type(config) is family.config)


def detect(state: Mapping[str, Tensor]) -> str | None:
    """The family whose keys these are; None if of none, or of two.

    A2OS2A has the keys of "spike-driven". The older spelling of Spikingformer has those of
    Spikformer for ImageNet, and is taken for it.
    """
    found = _recognised(lines_of(state))
    return found[0] if len(found) == 1 else None


def _recognised(lines: str) -> list[str]:
    return [f.name for f in _ALL if any(keys.fit(lines) for keys in f.recognises)]


def undecided(state: Mapping[str, Tensor]) -> str:
    """Say which keys decide that a file is of no family, or of two."""
    lines = lines_of(state)
    if found := _recognised(lines):
        by = (next(k for k in FAMILIES[n].recognises if k.fit(lines)) for n in found)
        fits = (f"{n!r} by {k.decisive(lines)}" for n, k in zip(found, by, strict=True))
        return f"its keys fit {' and '.join(fits)}"
    known = [(family.name, keys) for family in _ALL for keys in family.recognises]
    near = [(name, keys) for name, keys in known if len(keys.missing(lines)) < len(keys.has)]
    if not near:
        return "its keys fit no family that lapilli defines"
    name, keys = min(near, key=lambda n: len(n[1].missing(lines)))
    missing, excluded = keys.missing(lines), keys.excluded(lines)
    reason = f"lacks {shown(missing)}" if missing else f"has {excluded!r}"
    return f"its keys fit no family that lapilli defines; nearest is {name!r}, but it {reason}"


def unused(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The keys of a file that its family's forward pass does not read."""
    family = detect(state)
    patterns = FAMILIES[family].unused if family else ()
    return tuple(key for key in state if any(re.search(p, key) for p in patterns))


def heads_in(state: Mapping[str, Tensor]) -> int | None:
    """The number of heads, which a weight that nothing uses gives away; None if none does."""
    family = detect(state)
    pattern = FAMILIES[family].heads if family else ""
    if not pattern:
        return None
    return next((len(v) for k, v in state.items() if re.search(pattern, k) and v.dim() == 3), None)


def configuration(family: str, fields: Mapping[str, Any]) -> Config:
    """A configuration of the fields as they are in JSON.

    Raises:
        ValueError, TypeError, KeyError: no such family, no such field, or no model has it.
    """
    given: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()
    }
    config: Config = FAMILIES[family].config(**given)
    check(config)
    return config


def check(config: Config) -> None:
    """Refuse what no model can be built of.

    Raises:
        ValueError: the field and its value.
    """
    hints = get_type_hints(type(config))
    for name, value in asdict(config).items():
        if not _legal(name, value, hints[name]):
            raise ValueError(f"{name} = {value!r}")
    if (fault := config.fault()) is not None:
        raise ValueError(fault)


def _legal(name: str, value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is bool:
        return type(value) is bool
    if hint is float:
        return isinstance(value, float | int) and math.isfinite(value) and value > 0
    if hint is int:
        return type(value) is int and 0 < value < 1 << 16
    if hint is str:  # pooling
        return isinstance(value, str) and len(value) == 4 and set(value) <= {"0", "1"}
    return (
        isinstance(value, tuple)
        and len(value) == len(get_args(hint))
        and all(_legal(name, part, int) for part in value)
    )


def make(config: Config) -> nn.Module:
    """A model with random parameters, in training mode.

    Raises:
        ValueError: no model has this configuration.
    """
    check(config)
    return FAMILIES[family_of(config)].model(config)


def learned_tau(state: Mapping[str, Tensor]) -> list[float]:
    """The time constants that a file trained with PLIF holds, as `w` with 1 / tau = sigmoid(w)."""
    scalars = [w for key, w in state.items() if key.endswith(".w") and w.numel() == 1]
    return [float(1 / w.detach().double().sigmoid()) for w in scalars]


def learn_tau(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace each LIF for which a file has a `w` by a PLIF: models trained with that option."""
    family = next(f for f in FAMILIES.values() if type(model) is f.model)
    neurons = {f"{path}.w": path for path, m in model.named_modules() if type(m) is LIF}
    for key in state:
        if (path := neurons.get(_own_name(key, set(neurons), family.renamed))) is not None:
            parent, _, leaf = path.rpartition(".")
            own: Any = model.get_submodule(path)
            setattr(model.get_submodule(parent), leaf, PLIF(own.tau, own.v_threshold))


def matched(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a file under the model's own names; unused ones are left out.

    Raises:
        ValueError: a key that is missing or left over, a shape or a threshold that differs.
    """
    family = next(f for f in FAMILIES.values() if type(model) is f.model)
    own = model.state_dict()
    neurons = {f"{path}.threshold": m for path, m in model.named_modules() if isinstance(m, LIF)}
    names = own.keys() | neurons.keys()
    found = {
        _own_name(key, names, family.renamed): value
        for key, value in state.items()
        if key in names or not any(re.search(pattern, key) for pattern in family.unused)
    }
    thresholds = {key: found.pop(key) for key in neurons if key in found}  # STEP stores them
    if missing := sorted(own.keys() - found.keys()):
        raise ValueError(f"lacks {some(missing)}: wrong family or depth?")
    if extra := sorted(found.keys() - own.keys()):
        raise ValueError(f"has {some(extra)}, which the model has not")
    for key, value in found.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"{key!r} has shape {tuple(value.shape)}, the model {tuple(own[key].shape)}"
            )
    for key, value in thresholds.items():
        if value.numel() != 1 or value.item() != neurons[key].v_threshold:
            raise ValueError(
                f"{key!r} is {value.tolist()}, the model's {neurons[key].v_threshold}: "
                "another configuration?"
            )
    return found


def _own_name(key: str, names: set[str], renamed: tuple[tuple[str, str], ...]) -> str:
    if key in names:
        return key
    spellings = {key}
    for pattern, replacement in renamed:
        spellings |= {re.sub(pattern, replacement, key)}
    return next((s for s in spellings if s in names), key)


def some(keys: list[str]) -> str:
    """For messages: the first key and how many more there are."""
    return repr(keys[0]) + (f" and {len(keys) - 1} more keys" if len(keys) > 1 else "")
