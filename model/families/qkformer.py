"""QKFormer: Q-K attention of linear cost on large maps, SSA on the last, spike-add residuals.

Source: Zhou et al., "QKFormer: Hierarchical Spiking Transformer using Q-K Attention",
NeurIPS 2024. Parameter names are those of the official models, so their checkpoints load
here. One thing is not theirs: in the authors' SSA the state of `proj_lif` runs on from sample
to sample of a batch; here each sample starts at rest, as theirs does alone in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lapilli.model.families.bsa import BSA
from lapilli.model.families.family import BSA_ASSUMES, QK_ATTENTION, SURROGATE, Family, Keys
from lapilli.model.families.layers import (
    MLP,
    SSA,
    Block,
    Layout,
    NetworkConfig,
    Units,
    at_each_step,
    conv3,
    encode,
    halve,
    pointwise2d,
)
from lapilli.model.families.lif import LIF


@dataclass(frozen=True, slots=True, kw_only=True)
class QKFormerConfig(NetworkConfig):
    """Defaults: the official CIFAR-10 model 4-384.

    Attributes:
        depth: blocks in all stages; the first has one, the second one ("cifar"), two
            ("imagenet") or, in "dvs" the last stage, the rest.
        layout: which official model; "dvs" takes (B, T, C, H, W) frames.
        mask: over which axis queries are summed: "token" masks tokens, "channel" channels.
        attention: of the last stage; "bsa" replaces SSA by bipolar self-attention.
    """

    heads: int = 8
    layout: Layout = "cifar"
    mask: Literal["token", "channel"] = "token"
    attention: Literal["ssa", "bsa"] = "ssa"

    def fault(self) -> str | None:
        """Say why no model has these fields together; None if one has."""
        least, multiple, halvings = {"cifar": (3, 8, 2), "imagenet": (4, 8, 2), "dvs": (2, 16, 1)}[
            self.layout
        ]
        if self.depth < least:
            return f"depth = {self.depth}, fewer blocks than stages"
        return self._misfit(multiple, self.embed_dim >> halvings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedding:
    """A patch embedding: conv-BN-[pool]-LIF units in a row, and a shortcut around the end.

    Attributes:
        units: name, width as a divisor of the stage's width, whether the map is halved.
        start: number of units before the shortcut begins.
        stride: of the shortcut.
    """

    units: tuple[tuple[str, int, bool], ...]
    start: int
    stride: int


def _stage(first: str, halved: int) -> _Embedding:
    return _Embedding(
        units=((first, 1, halved == 0), ("proj4_{}", 1, halved == 1)), start=0, stride=2
    )


_EMBEDDINGS = {
    "cifar": (
        _Embedding(units=(("proj_{}", 2, False), ("proj1_{}", 1, False)), start=1, stride=1),
        _stage("proj3_{}", 1),
        _stage("proj3_{}", 1),
    ),
    "imagenet": (
        _Embedding(
            units=(("proj_{}", 2, True), ("proj1_{}", 1, True), ("proj2_{}", 1, False)),
            start=1,
            stride=2,
        ),
        _stage("proj3_{}", 0),
        _stage("proj3_{}", 0),
    ),
    "dvs": (
        _Embedding(
            units=(
                ("proj_{}", 8, False), ("proj1_{}", 4, True),
                ("proj2_{}", 2, True), ("proj3_{}", 1, True),
            ),
            start=2,
            stride=4,
        ),
        _stage("proj_{}", 1),
    ),
}  # fmt: skip


class PatchEmbed(Units):
    """Spiking patch embedding with deformed shortcut; pools are maxima over real currents."""

    def __init__(self, inputs: int, dim: int, plan: _Embedding) -> None:
        super().__init__()
        self.plan = plan
        for i, (name, divisor, _) in enumerate(plan.units):
            if i == plan.start:
                shortcut = nn.Conv2d(inputs, dim, 1, stride=plan.stride, bias=False)
                self.add_unit("proj_res_{}", shortcut, LIF())
            self.add_unit(name, conv3(inputs, dim // divisor), LIF())
            inputs = dim // divisor
        self.maxpool = halve()

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) image or counts -> (T, B, D, H', W') integers 0..2."""
        shortcut = x
        for i, (name, _, pool) in enumerate(self.plan.units):
            shortcut = x if i == self.plan.start else shortcut
            x = self.current(name, x)
            x = self.fire(name, at_each_step(self.maxpool, x) if pool else x)
        return x + self.unit("proj_res_{}", shortcut)


class QKAttention(Units):
    """K masked by the OR of Q over a head's channels (token) or over tokens (channel), eq. 5-8."""

    def __init__(self, dim: int, heads: int, mask: Literal["token", "channel"]) -> None:
        super().__init__()
        self.heads = heads
        self.axis = 3 if mask == "token" else 4
        for role in ("q", "k"):
            self.add_unit(f"{role}_{{}}", nn.Conv1d(dim, dim, 1, bias=False), LIF())
        self.attn_lif = LIF(v_threshold=0.5)  # one spike fires it: an OR
        self.add_unit("proj_{}", nn.Conv1d(dim, dim, 1), LIF())

    def _split(self, x: Tensor) -> Tensor:
        if x.shape[2] % self.heads:
            raise ValueError(f"{x.shape[2]} channels do not split into {self.heads} heads")
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads, -1)  # (T, B, h, d, N)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) counts -> spikes of the same shape."""
        q, k = self._split(self.unit("q_{}", x)), self._split(self.unit("k_{}", x))
        mask = self.attn_lif(q.sum(self.axis, keepdim=True))  # (T, B, h, 1, N) or (T, B, h, d, 1)
        return self.unit("proj_{}", (mask * k).reshape(x.shape))


def _block(c: QKFormerConfig, dim: int, last: bool) -> Block:
    imagenet = c.layout == "imagenet"
    names = ("fc1_{}", "fc2_{}") if imagenet else ("mlp1_{}", "mlp2_{}")
    mlp = MLP(dim, dim * c.mlp_ratio, pointwise2d, names=names)
    if not last:
        return Block(QKAttention(dim, c.heads, c.mask), mlp, "tssa")
    attention = {"ssa": SSA, "bsa": BSA}[c.attention]
    return Block(attention(dim, c.heads), mlp, "attn" if imagenet else "ssa")


class QKFormer(nn.Module):
    """The classifier: two or three stages, mean over tokens and time, linear head."""

    def __init__(self, config: QKFormerConfig) -> None:
        super().__init__()
        self.T = config.T
        self.stages = len(_EMBEDDINGS[config.layout])
        blocks = {"cifar": (1, 1), "imagenet": (1, 2), "dvs": (1,)}[config.layout]
        blocks = (*blocks, config.depth - sum(blocks))
        inputs = config.in_channels
        for i, plan in enumerate(_EMBEDDINGS[config.layout]):
            dim = config.embed_dim >> (self.stages - 1 - i)
            self.add_module(f"patch_embed{i + 1}", PatchEmbed(inputs, dim, plan))
            last = i == self.stages - 1
            stage = nn.ModuleList(_block(config, dim, last) for _ in range(blocks[i]))
            self.add_module(f"stage{i + 1}", stage)
            inputs = dim
        self.head = nn.Linear(config.embed_dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) image, shown T times, or (B, T, C, H, W) -> (B, classes) logits."""
        x = encode(images, self.T)
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"patch_embed{i}")(x)
            for block in self.get_submodule(f"stage{i}").children():
                x = block(x)
        logits: Tensor = self.head(x.flatten(3).mean(3).mean(0))
        return logits


# Every published size: what its checkpoint does not say.
_PRESETS: Mapping[str, QKFormerConfig] = {
    "qkformer-cifar10-4-384": QKFormerConfig(),
    "qkformer-cifar100-4-384": QKFormerConfig(classes=100),
    **{
        f"qkformer-imagenet-10-{dim}": QKFormerConfig(
            layout="imagenet", classes=1000, depth=10, embed_dim=dim, heads=heads
        )
        for dim, heads in ((384, 6), (512, 8), (768, 12))
    },
    "qkformer-cifar10-dvs-2-256": QKFormerConfig(
        layout="dvs", in_channels=2, depth=2, embed_dim=256, heads=16, T=16, mlp_ratio=1
    ),
    "qkformer-dvs128-gesture-2-256": QKFormerConfig(
        layout="dvs", in_channels=2, classes=11, depth=2, embed_dim=256, heads=16, T=16
    ),
    **{
        f"bsa-qkformer-imagenet-10-{dim}": QKFormerConfig(
            layout="imagenet", classes=1000, depth=10, embed_dim=dim, heads=heads, attention="bsa"
        )
        for dim, heads in ((384, 6), (512, 8))
    },
    **{
        f"step-qkformer-cifar{classes}": QKFormerConfig(classes=classes)
        for classes in (10, 100)
    },
}  # fmt: skip

# What nobody published, and presets whose names begin so assume.
_ASSUMED: Mapping[str, str] = {
    "bsa-": BSA_ASSUMES,
}  # fmt: skip
_SMALL: Mapping[str, tuple[QKFormerConfig, int]] = {
    "qkformer cifar": (QKFormerConfig(embed_dim=64, heads=2, depth=3), 16),
    "qkformer imagenet": (QKFormerConfig(embed_dim=64, heads=2, depth=4, layout="imagenet"), 32),
    "qkformer dvs": (
        QKFormerConfig(embed_dim=64, heads=2, depth=2, layout="dvs", in_channels=2, T=16), 32
    ),
    "qkformer channel": (QKFormerConfig(embed_dim=64, heads=2, depth=3, mask="channel"), 16),
    "qkformer bsa": (QKFormerConfig(embed_dim=64, heads=2, depth=3, attention="bsa"), 16),
}  # fmt: skip

FAMILY = Family(
    name="qkformer",
    config=QKFormerConfig,
    model=QKFormer,
    recognises=(Keys(has=(QK_ATTENTION,)),),
    unused=(SURROGATE,),
    renamed=((r"\.mlp\.fc_(conv|bn|lif)([12])\.", r".mlp.mlp\2_\1."),),  # STEP,
    presets=_PRESETS,
    assumed=_ASSUMED,
    small=_SMALL,
)
