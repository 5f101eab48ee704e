"""Checkpoints of models that have a class elsewhere: which class, and what their shapes tell.

SpikingJelly 2 ships four spiking transformers of its own, with fused projections and names of
their own. They are captured as they are, like anybody's module; nothing of them is rewritten.
Source: spikingjelly/activation_based/model/{spikformer, spike_driven_transformer, qkformer,
maxformer}.py of 2.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_MODELS = "spikingjelly.activation_based.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A class or factory in an installed package.

    Attributes:
        name: what it is, in words.
        source: `package.module:ClassOrFactory`.
        arguments: those that the shapes tell.
        unknown: names of those that they do not tell.
    """

    name: str
    source: str
    arguments: Mapping[str, object]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One class of SpikingJelly, known by a key that no other has.

    Attributes:
        module: where it is.
        key: that key.
        stem: the key of its first convolution.
        stages: prefixes of its lists of blocks.
        unknown: arguments that are in no shape.
        factories: embed_dims and depths -> the function that makes this size.
    """

    module: str
    key: str
    stem: str
    stages: tuple[str, ...] = ("blocks",)
    unknown: tuple[str, ...] = ("T", "num_heads")
    factories: Mapping[tuple[int, tuple[int, ...]], str]


_STAGES = ("stage1", "stage2", "stage3")
_KINDS: Mapping[str, _Kind] = {
    "Spikformer": _Kind(
        module="spikformer",
        key="patch_embed.positional_encoding.conv_bn.block.0.weight",
        stem="patch_embed.stages.0.conv_bn.block.0.weight",
        unknown=("T", "num_heads", "patch_size"),
        factories={
            (256, (4,)): "spikformer_ti",
            (384, (6,)): "spikformer_s",
            (384, (4,)): "spikformer_cifar10",
        },
    ),
    "SpikeDrivenTransformer": _Kind(
        module="spike_driven_transformer",
        key="patch_embed.final_stage.0.weight",
        stem="patch_embed.stages.0.0.weight",
        unknown=("T", "num_heads", "pooling_stat"),
        factories={(384, (8,)): "sdt_8_384"},
    ),
    "QKFormer": _Kind(
        module="qkformer",
        key="stage1.0.attn.qk_conv_bn.0.weight",
        stem="patch_embed1.conv1.weight",
        stages=_STAGES,
        unknown=("T", "num_heads", "qka_type"),
        factories={(384, (1, 2, 7)): "qkformer_10_384"},
    ),
    "MaxFormer": _Kind(
        module="maxformer",
        key="stage1.0.dwconv.weight",
        stem="patch_embed1.conv1.weight",
        stages=_STAGES,
        unknown=("T",),
        factories={(384, (1, 2, 7)): "maxformer_10_384"},
    ),
    "MaxFormer for CIFAR": _Kind(
        module="maxformer",
        key="patch_embed1.branch.1.weight",
        stem="patch_embed1.conv.weight",
        stages=_STAGES,
        unknown=("T",),
        factories={(384, (1, 1, 2)): "maxformer_cifar"},
    ),
}


def foreign(state: Mapping[str, Tensor]) -> Foreign | None:
    """Whose model these keys are of, if it is one of another package."""
    head = state.get("head.weight")
    for name, kind in _KINDS.items():
        if kind.key in state and kind.stem in state and head is not None:
            return _read(name, kind, state[kind.stem], head, state)
    return None


def _read(
    name: str, kind: _Kind, stem: Tensor, head: Tensor, state: Mapping[str, Tensor]
) -> Foreign:
    classes, width = head.shape
    arguments: dict[str, object] = {"num_classes": classes}
    if stem.shape[1] != 3:
        arguments["in_channels"] = stem.shape[1]
    depths = tuple(_depth(stage, state) for stage in kind.stages)
    said = f"SpikingJelly 2's {name}"
    place = f"{_MODELS}.{kind.module}"
    factory = kind.factories.get((width, depths))
    if factory is not None:
        return Foreign(name=said, source=f"{place}:{factory}", arguments=arguments, unknown=("T",))
    arguments["embed_dims"] = width
    arguments["depths"] = depths[0] if len(depths) == 1 else depths
    if name.endswith("CIFAR"):
        arguments["cifar"] = True
    source = f"{place}:{name.split()[0]}"
    return Foreign(name=said, source=source, arguments=arguments, unknown=kind.unknown)


def _depth(stage: str, state: Mapping[str, Tensor]) -> int:
    return len({m[1] for k in state if (m := re.match(rf"{stage}\.(\d+)\.", k))})
