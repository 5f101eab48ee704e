"""Segmentation and detection: backbones of several levels, necks and heads, as plain modules.

What packages for detection wrap around the network (anchors, boxes, non-maximum suppression) is the
host's. Maps and answers of several levels are laid side by side as one vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError, QuantizeError  # noqa: E402
from lapilli.model.families.lif import LIF, IntegerSpike  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_T, _SIZE = 4, 16
_WIDTHS = (6, 8, 10)  # of the levels, each half as large as the one before


class Each(nn.Module):
    """Layers without time, at each step of (T, B, C, H, W)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(0, 1))
        z: Tensor = y.unflatten(0, x.shape[:2])
        return z


def normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **options: Any) -> Each:
    """A convolution that keeps the size, and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, **options)
    return Each(conv, nn.BatchNorm2d(outputs))


def fired(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(LIF(v_threshold=0.5), *layers)


class Attention(nn.Module):
    """Spike-driven: queries masked by what keys and values have in common over all tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inside = LIF(v_threshold=0.5)
        self.q, self.k, self.v, self.out = (normed(dim, dim, 1) for _ in range(4))
        self.q_lif, self.k_lif, self.v_lif = (LIF(v_threshold=0.5) for _ in range(3))
        self.kv_lif = LIF(v_threshold=0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inside(x)
        common = (self.k_lif(self.k(y)) * self.v_lif(self.v(y))).sum((3, 4), keepdim=True)
        z: Tensor = self.out(self.q_lif(self.q(y)) * self.kv_lif(common))
        return x + z


class Backbone(nn.Module):
    """Levels of currents, each after a convolution of stride 2 and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normed(3, _WIDTHS[0], 3, 2)
        self.down = nn.ModuleList(fired(normed(a, b, 3, 2)) for a, b in itertools.pairwise(_WIDTHS))
        self.blocks = nn.ModuleList(fired(normed(n, n, 3, groups=2)) for n in _WIDTHS[:-1])
        self.attention = Attention(_WIDTHS[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images[None].repeat(_T, 1, 1, 1, 1))
        levels = []
        for down, block in zip([nn.Identity(), *self.down], self.blocks, strict=False):
            x = down(x)
            x = x + block(x)
            levels.append(x)
        return [*levels, self.attention(self.down[-1](x))]


class Neck(nn.Module):
    """A feature pyramid: the coarse levels, enlarged, are added to the fine ones."""

    def __init__(self, width: int = 8, extra: int = 0) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(fired(normed(n, width, 1)) for n in _WIDTHS)
        self.out = nn.ModuleList(fired(normed(width, width)) for _ in _WIDTHS)
        self.more = nn.ModuleList(fired(normed(width, width, 3, 2)) for _ in range(extra))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        x = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for i in range(len(x) - 1, 0, -1):
            x[i - 1] = x[i - 1] + F.interpolate(x[i], size=x[i - 1].shape[2:])
        outs = [out(level) for out, level in zip(self.out, x, strict=True)]
        for more in self.more:
            outs.append(more(outs[-1]))
        return outs


class FCNHead(nn.Module):
    """Convolutions of the last level, dilated, then all joined with what came in."""

    def __init__(self, *, of_currents: bool = False) -> None:
        super().__init__()
        n = _WIDTHS[-1]
        self.inside, self.of_currents = LIF(v_threshold=0.5), of_currents
        conv = nn.Conv2d(n, n, 3, padding=2, dilation=2, bias=False)
        self.first = Each(conv, nn.BatchNorm2d(n))
        self.between, self.last = LIF(v_threshold=0.5), LIF(v_threshold=0.5)
        self.joined, self.classes = normed(2 * n, n), Each(nn.Conv2d(n, 5, 1))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        x = self.inside(levels[-1])
        y = self.first(x)
        both = [levels[-1], y] if self.of_currents else [x, self.between(y)]
        answer: Tensor = self.classes(self.last(self.joined(torch.cat(both, 2))))
        return answer


class FPNHead(nn.Module):
    """Every level, enlarged bilinearly to the size of the finest, and added."""

    def __init__(self, mode: str = "bilinear") -> None:
        super().__init__()
        self.scale = nn.ModuleList()
        for i, n in enumerate(_WIDTHS):
            each = [fired(normed(n if k == 0 else 8, 8)) for k in range(max(1, i))]
            self.scale.append(nn.Sequential(*each))
        self.mode, self.last, self.classes = mode, LIF(v_threshold=0.5), Each(nn.Conv2d(8, 5, 1))

    def enlarged(self, x: Tensor) -> Tensor:
        y: Tensor = F.interpolate(x.flatten(0, 1), scale_factor=2, mode=self.mode)
        z: Tensor = y.unflatten(0, x.shape[:2])
        return z

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        total = self.scale[0](levels[0])
        for level, heads in zip(levels[1:], list(self.scale)[1:], strict=True):
            for head in heads.children():
                level = self.enlarged(head(level))
            total = total + level
        answer: Tensor = self.classes(self.last(total))
        return answer


class MaskHead(nn.Module):
    """Convolutions, then a transposed one: masks of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.conv = LIF(v_threshold=0.5), normed(_WIDTHS[-1], 8)
        self.before, self.up = LIF(v_threshold=0.5), Each(nn.ConvTranspose2d(8, 8, 2, 2))
        self.norm = Each(nn.BatchNorm2d(8))
        self.last, self.masks = LIF(v_threshold=0.5), Each(nn.Conv2d(8, 2, 1))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        x = self.conv(self.inside(levels[-1]))
        answer: Tensor = self.masks(self.last(self.norm(self.up(self.before(x)))))
        return answer


class ProposalHead(nn.Module):
    """One head for all levels, of integer spikes without memory: scores and boxes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.inside, self.conv = IntegerSpike(), normed(width, width)
        self.between = IntegerSpike()
        self.scores, self.boxes = Each(nn.Conv2d(width, 3, 1)), Each(nn.Conv2d(width, 12, 1))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        made = []
        for level in levels:
            x = self.between(self.conv(self.inside(level)))
            made += [self.scores(x), self.boxes(x)]
        return made


class RetinaHead(nn.Module):
    """One head for all levels, of neurons with memory, which are reset between the levels."""

    def __init__(self, width: int = 8, *, reset: bool = True) -> None:
        super().__init__()
        self.reset = reset
        self.towers = nn.ModuleList(
            nn.Sequential(
                jelly(), normed(width, width), jelly(), Each(nn.Conv2d(width, n, 3, 1, 1))
            )
            for n in (6, 8)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        made = []
        for level in levels:
            for tower in self.towers:
                made.append(tower(level))
                for module in tower.children():
                    if self.reset and hasattr(module, "reset"):
                        module.reset()  # type: ignore[operator]
        return made


def jelly() -> nn.Module:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    made: nn.Module = neuron.LIFNode(v_threshold=0.5, step_mode="m")
    return made


class Network(nn.Module):
    """A backbone, a neck and a head; all maps side by side, averaged over time."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.backbone, self.parts = Backbone(), nn.Sequential(*parts)

    def forward(self, images: Tensor) -> Tensor:
        made = self.parts(self.backbone(images))
        maps = [made] if isinstance(made, Tensor) else made
        answer: Tensor = torch.cat([m.flatten(2) for m in maps], 2).mean(0)
        return answer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fcn": lambda: Network(FCNHead()),
    "fpn": lambda: Network(FPNHead()),
    "fpn-nearest": lambda: Network(FPNHead("nearest")),
    "masks": lambda: Network(MaskHead()),
    "neck-and-proposals": lambda: Network(Neck(), ProposalHead()),
    "neck-and-retina": lambda: Network(Neck(extra=1), RetinaHead()),
}


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn: Tensor = torch.randn(count, 3, _SIZE, _SIZE, generator=generator)
    contrast: Tensor = torch.tensor([0.5, 1.0, 2.0]).repeat(-(-count // 3))[:count]
    drawn *= contrast.view(-1, 1, 1, 1)
    return drawn


def woken(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random gains and offsets, and batch-norm statistics of images."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, 0.4, 0.4)
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(images(6, 3))
            for module in model.modules():
                if type(module).__name__ == "LIFNode":
                    module.reset()  # type: ignore[operator]
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_levels_necks_and_heads_are_exact(name: str, exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    made = quantize(woken(NETWORKS[name]()), images(6, 1))
    assert exact_on(made, images(2, 2)) > 40_000


def test_a_map_of_joined_currents_is_refused() -> None:
    torch.manual_seed(0)
    model = woken(Network(FCNHead(of_currents=True)))
    with pytest.raises(QuantizeError, match="is a linear map of a real current") as caught:
        quantize(model, images(6, 1))
    assert caught.value.layer == "parts.0.joined.layers.0"


def test_a_head_whose_state_runs_on_to_the_next_level_is_refused() -> None:
    torch.manual_seed(0)
    head = RetinaHead()
    model = woken(Network(Neck(), head))
    head.reset = False
    with pytest.raises(CaptureError, match="would have to wait for the last step") as caught:
        quantize(model, images(6, 1))
    assert caught.value.path == "parts.1.towers.0.0"
