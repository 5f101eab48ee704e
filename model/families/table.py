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

from lapilli.model.families.a2os2a import A2OS2AConfig, A2OS2ATransformer
from lapilli.model.families.e_spikeformer import ESpikeFormer, ESpikeFormerConfig
from lapilli.model.families.family import NORMS, SURROGATE, Family, Keys, lines_of, shown
from lapilli.model.families.lif import LIF, PLIF
from lapilli.model.families.meta_spikeformer import (
    MetaSpikeFormer,
    MetaSpikeFormerConfig,
    StagesConfig,
)
from lapilli.model.families.qkformer import QKFormer, QKFormerConfig
from lapilli.model.families.semm import SEMM, SEMMConfig, SEMMImageNet, SEMMImageNetConfig
from lapilli.model.families.spike_driven import SpikeDrivenConfig, SpikeDrivenTransformer
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig
from lapilli.model.families.spikingformer import Spikingformer, SpikingformerConfig

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


_TALKING_HEADS = r"\.attn\.talking_heads\.weight$"
_QKV_LINEAR = r"\.attn\.[qkv]_linear\.weight$"
_ROUTER = r"\.attn\.router1\."
_TOKENS_3 = r"\.attn\.k_conv\.weight 3$"  # a 1-d convolution over tokens
_TOKENS_4 = r"\.attn\.k_conv\.weight 4$"
_QK_ATTENTION = r"\.tssa\."
_REP_CONV = r"\.q_conv\.0\.body\."
_POSITION = r"^patch_embed\.rpe_conv\."
_NEURON_FIRST = r"^patch_embed\.(block|proj)4_conv\.|\.mlp1_conv\."  # Spikingformer's names
_STEM_NEURON = r"^patch_embed\.proj_lif\."  # those of a stem's later stages have a digit
_LATER_NEURON = r"^patch_embed\.proj_lif\d\."
_OTHERS = (_ROUTER, _QK_ATTENTION, _NEURON_FIRST)

_ALL = (
    Family(
        name="spikformer",
        config=SpikformerConfig,
        model=Spikformer,
        recognises=(
            Keys(has=(_QKV_LINEAR,), lacks=(_ROUTER,)),
            Keys(has=(_TOKENS_3, _POSITION), lacks=(*_OTHERS, _LATER_NEURON)),
            Keys(has=(_TOKENS_3, _POSITION, _STEM_NEURON), lacks=_OTHERS),
        ),
        unused=(NORMS, r"^pos_embed$", r"^norm\.(weight|bias)$", SURROGATE),
    ),
    Family(
        name="spikingformer",
        config=SpikingformerConfig,
        model=Spikingformer,
        recognises=(
            Keys(has=(_NEURON_FIRST,), lacks=(_QK_ATTENTION, _REP_CONV)),
            Keys(  # STEP's: the stem's first stage is a current
                has=(_TOKENS_3, _POSITION, _LATER_NEURON), lacks=(*_OTHERS, _STEM_NEURON)
            ),
        ),
        unused=(NORMS, SURROGATE),
        renamed=(  # the authors' older files, and STEP
            (r"^patch_embed\.proj_(conv|bn|lif)([1-3])\.", r"patch_embed.proj\2_\1."),
            (r"^patch_embed\.proj_(conv|bn|lif)([1-3])\.", r"patch_embed.block\2_\1."),
            (r"^patch_embed\.proj_(conv|bn)\.", r"patch_embed.block0_\1."),
            (r"^patch_embed\.rpe_", r"patch_embed.proj4_"),
            (r"^patch_embed\.rpe_", r"patch_embed.block4_"),
            (r"\.mlp\.fc([12])_", r".mlp.mlp\1_"),
        ),
    ),
    Family(
        name="spike-driven",
        config=SpikeDrivenConfig,
        model=SpikeDrivenTransformer,
        recognises=(
            Keys(
                has=(_TOKENS_4, r"^patch_embed\.proj_conv\."),
                lacks=(_QK_ATTENTION, _REP_CONV, _NEURON_FIRST),
            ),
        ),
        unused=(_TALKING_HEADS, r"\.(rpe_lif|attn_lif)\.(threshold|w)$", SURROGATE),
        renamed=((r"\.mlp\.fc_(conv|bn|lif)([12])\.", r".mlp.fc\2_\1."),),  # STEP
    ),
    Family(name="a2os2a", config=A2OS2AConfig, model=A2OS2ATransformer),  # keys of spike-driven
    Family(
        name="qkformer",
        config=QKFormerConfig,
        model=QKFormer,
        recognises=(Keys(has=(_QK_ATTENTION,)),),
        unused=(SURROGATE,),
        renamed=((r"\.mlp\.fc_(conv|bn|lif)([12])\.", r".mlp.mlp\2_\1."),),  # STEP
    ),
    Family(
        name="semm",
        config=SEMMConfig,
        model=SEMM,
        recognises=(Keys(has=(_QKV_LINEAR, _ROUTER)),),
        unused=(SURROGATE,),
    ),
    Family(
        name="semm-imagenet",
        config=SEMMImageNetConfig,
        model=SEMMImageNet,
        recognises=(Keys(has=(_TOKENS_3, _ROUTER), lacks=(_NEURON_FIRST, _QK_ATTENTION)),),
        unused=(SURROGATE, r"\.attn\.[kv]_bn\."),
    ),
    Family(
        name="meta-spikeformer",
        config=MetaSpikeFormerConfig,
        model=MetaSpikeFormer,
        recognises=(Keys(has=(_REP_CONV,)),),
    ),
    Family(
        name="e-spikeformer",
        config=ESpikeFormerConfig,
        model=ESpikeFormer,
        recognises=(
            Keys(has=(r"^downsample1_1\.", r"\.pwconv1\.0\."), lacks=(_REP_CONV,)),
        ),
    ),
)  # fmt: skip
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
    if isinstance(config, StagesConfig):
        if config.widths[0] % 2 or any(width % config.heads for width in config.widths[2:]):
            raise ValueError(f"widths = {config.widths}, no multiples of its heads")
        return
    multiple, narrowest = 8, config.embed_dim
    if isinstance(config, QKFormerConfig):
        least, multiple, halvings = {"cifar": (3, 8, 2), "imagenet": (4, 8, 2), "dvs": (2, 16, 1)}[
            config.layout
        ]
        narrowest = config.embed_dim >> halvings
        if config.depth < least:
            raise ValueError(f"depth = {config.depth}, fewer blocks than stages")
    if config.embed_dim % multiple or narrowest % config.heads:
        raise ValueError(
            f"embed_dim = {config.embed_dim}, no multiple of {multiple} and of its heads"
        )


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
