"""What several families are made of: flat units, attention heads, MLPs, residual blocks.

Shape letters: T time steps, B batch, C channels, H x W map, N = H * W tokens, h heads,
d = C / h. A value is a map (T, B, C, H, W); families with linear layers use (T, B, N, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.families.fused import keep_layout
from lapilli.model.families.lif import LIF

Layout: TypeAlias = Literal["cifar", "imagenet", "dvs"]
Synapse: TypeAlias = nn.Conv2d | nn.Conv1d | nn.Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """What a checkpoint does not say, common to the families of one width."""

    in_channels: int = 3
    classes: int = 10
    embed_dim: int = 384
    heads: int = 12
    depth: int = 4
    mlp_ratio: int = 4
    T: int = 4

    @property
    def width(self) -> int:
        """What the head is given: columns of its weight."""
        return self.embed_dim

    def fault(self) -> str | None:
        """Say why no model has these fields together; None if one has."""
        return self._misfit(8, self.embed_dim)

    def _misfit(self, multiple: int, narrowest: int) -> str | None:
        if self.embed_dim % multiple or narrowest % self.heads:
            return f"embed_dim = {self.embed_dim}, no multiple of {multiple} and of its heads"
        return None


def encode(images: Tensor, T: int) -> Tensor:
    """(B, C, H, W) image, shown T times, or (B, T, C, H, W) frames -> (T, B, C, H, W).

    Raises:
        ValueError: another number of frames than T.
    """
    if images.dim() == 4:
        return images.expand(T, -1, -1, -1, -1)
    if images.shape[1] != T:
        raise ValueError(f"{images.shape[1]} frames for a model of T = {T}")
    return images.transpose(0, 1)


def at_each_step(module: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """Apply a module without memory to (T, B, ...) as to T * B samples."""
    y: Tensor = module(x.flatten(0, 1))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def pooling(stages: str) -> tuple[bool, ...]:
    """After (or before) which stages of a stem the map is halved: "0011" -> no no yes yes."""
    return tuple(digit == "1" for digit in stages)


def halve() -> nn.MaxPool2d:
    """The max-pool of every stem: windows of 3, steps of 2."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution without bias that keeps the size of the map."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Units(nn.Module):
    """Base of modules whose parts carry the official flat names.

    A unit is a synapse, its batch norm and, usually, a neuron. Its name is a pattern: unit
    "q_{}" is the children `q_conv` (`q_linear`), `q_bn`, `q_lif`; "proj_{}1" is `proj_conv1`,
    `proj_bn1`, `proj_lif1`. Whether the neuron comes before or after is said in `forward`.
    """

    def add_unit(self, name: str, synapse: Synapse, neuron: nn.Module | None) -> None:
        """Register the parts of a unit."""
        if isinstance(synapse, nn.Linear):
            self.add_module(name.format("linear"), synapse)
            self.add_module(name.format("bn"), nn.BatchNorm1d(synapse.out_features))
        else:
            norm = nn.BatchNorm2d if isinstance(synapse, nn.Conv2d) else nn.BatchNorm1d
            self.add_module(name.format("conv"), synapse)
            self.add_module(name.format("bn"), norm(synapse.out_channels))
        if neuron is not None:
            self.add_module(name.format("lif"), neuron)

    def current(self, name: str, x: Tensor) -> Tensor:
        """BN(W x) at each time step.

        Shapes: (T, B, C, H, W) -> (T, B, C', H', W'); linear (T, B, N, C) -> (T, B, N, C').
        """
        if not self.training:
            return self._current(name, x)
        if x.stride(0) == 0:  # the same at each step: computed once
            return keep_layout(self._current(name, x[:1])).expand(len(x), *[-1] * (x.dim() - 1))
        return keep_layout(self._current(name, x))

    def _current(self, name: str, x: Tensor) -> Tensor:
        bn = self.get_submodule(name.format("bn"))
        linear = getattr(self, name.format("linear"), None)
        y: Tensor
        if linear is not None and self.training:  # twice as fast, as a convolution and on rows
            tokens = x.flatten(0, 1).transpose(1, 2).unsqueeze(-2)  # (T*B, C, 1, N)
            weight = linear.weight[..., None, None].contiguous(memory_format=torch.channels_last)
            y = functional.conv2d(tokens, weight, linear.bias)
            y = bn(y.permute(0, 2, 3, 1).flatten(0, 2))
            return y.reshape(*x.shape[:3], -1)
        if linear is not None:
            y = linear(x.flatten(0, 1))  # (T*B, N, C')
            y = bn(y.transpose(-1, -2)).transpose(-1, -2)
            return y.reshape(*x.shape[:2], *y.shape[1:])
        conv = self.get_submodule(name.format("conv"))
        if isinstance(conv, nn.Conv1d):  # over tokens
            y = bn(conv(x.flatten(3).flatten(0, 1)))  # (T*B, C', N)
            return y.reshape(*x.shape[:2], -1, *x.shape[3:])
        y = bn(conv(x.flatten(0, 1)))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def fire(self, name: str, x: Tensor) -> Tensor:
        """The unit's neuron alone."""
        spikes: Tensor = self.get_submodule(name.format("lif"))(x)
        return spikes

    def unit(self, name: str, x: Tensor) -> Tensor:
        """LIF(BN(W x))."""
        return self.fire(name, self.current(name, x))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(T, B, C, H, W) or (T, B, N, C) -> (T, B, h, N, d).

    Raises:
        ValueError: C is no multiple of h.
    """
    channels = x.shape[2] if x.dim() == 5 else x.shape[3]
    if channels % heads:
        raise ValueError(f"{channels} channels do not split into {heads} heads")
    if x.dim() == 5:
        return x.reshape(*x.shape[:2], heads, channels // heads, -1).transpose(3, 4)
    return x.reshape(*x.shape[:3], heads, channels // heads).transpose(2, 3)


def merge_heads(x: Tensor, shape: Sequence[int]) -> Tensor:
    """(T, B, h, N, d) -> `shape`, which is (T, B, C, H, W) or (T, B, N, C)."""
    x = x.transpose(3, 4) if len(shape) == 5 else x.transpose(2, 3)
    return x.reshape(*shape)


class SSA(Units):
    """Spiking self-attention: LIF(s (Q K^T) V) on binary Q, K, V; no softmax.

    Source: Spikformer, eq. 6. The scale s is a constant, whatever d is.

    Attributes:
        membrane: the residual stream carries currents (Spikingformer): `proj_lif` is the
            input neuron. Otherwise it counts spikes, and `proj_lif` is the output neuron.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        linear: bool = False,
        membrane: bool = False,
        scale: float = 0.125,
        tau: float = 2.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.scale, self.membrane = heads, scale, membrane
        for role in ("q", "k", "v"):
            synapse: Synapse = nn.Linear(dim, dim) if linear else nn.Conv1d(dim, dim, 1, bias=False)
            self.add_unit(f"{role}_{{}}", synapse, LIF(tau))
        self.attn_lif: nn.Module = LIF(tau, v_threshold=0.5)
        out: Synapse = (
            nn.Linear(dim, dim, bias=bias) if linear else nn.Conv1d(dim, dim, 1, bias=bias)
        )
        self.add_unit("proj_{}", out, LIF(tau))

    def mix(self, x: Tensor) -> Tensor:
        """Spikes or counts -> spikes of `attn_lif`, of the same shape."""
        q, k, v = (split_heads(self.unit(f"{role}_{{}}", x), self.heads) for role in "qkv")
        if self.training:  # the same counts of spikes, by the smaller products
            mixed = (q @ (k.transpose(-2, -1) @ v)) * self.scale
        else:
            scores = (q @ k.transpose(-2, -1)) * self.scale  # (T, B, h, N, N) counts * s
            mixed = scores @ v
        spikes: Tensor = self.attn_lif(merge_heads(mixed, x.shape))
        return spikes

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) or (T, B, N, C) -> the branch to add to it."""
        if self.membrane:
            return self.current("proj_{}", self.mix(self.fire("proj_{}", x)))
        return self.unit("proj_{}", self.mix(x))


class MLP(Units):
    """Two units, wide in between; `membrane` as in `SSA`: neurons first, none at the end."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        synapse: Callable[[int, int], Synapse],
        *,
        names: tuple[str, str] = ("fc1_{}", "fc2_{}"),
        membrane: bool = False,
        neuron: Callable[[], nn.Module] = LIF,
    ) -> None:
        super().__init__()
        self.names, self.membrane = names, membrane
        self.add_unit(names[0], synapse(dim, hidden), neuron())
        self.add_unit(names[1], synapse(hidden, dim), neuron())

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) or (T, B, N, C) -> the branch to add to it."""
        for name in self.names:
            x = self.current(name, self.fire(name, x)) if self.membrane else self.unit(name, x)
        return x


def pointwise1d(inputs: int, outputs: int) -> nn.Conv1d:
    """A linear map of each token, with bias."""
    return nn.Conv1d(inputs, outputs, 1)


def pointwise2d(inputs: int, outputs: int) -> nn.Conv2d:
    """A linear map of each pixel, with bias."""
    return nn.Conv2d(inputs, outputs, 1)


class Block(nn.Module):
    """x + attention(x), then x + MLP(x): of spike counts or of membrane currents."""

    def __init__(self, attention: nn.Module, mlp: nn.Module, name: str = "attn") -> None:
        super().__init__()
        self.name = name
        self.add_module(name, attention)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        x = x + self.get_submodule(self.name)(x)
        y: Tensor = x + self.mlp(x)
        return keep_layout(y) if self.training else y
