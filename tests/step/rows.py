"""What is tried of STEP: model files, neurons, tasks, encodings and data modes, at small sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from step import dense
from step.checkout import load
from torch import Tensor, nn

from lapilli.model.neurons.rule import StaircaseRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the page.

    Attributes:
        part: the page's table; name: the first cell.
        make: the model, at a small size.
        shape: of one sample as `quantize` takes it, without the batch: T first, if it has time.
        layout: in which the model's forward takes them.
        per_sample: whether it mixes the samples of a batch.
        counts: whether its images are numbers of events.
        bare: endings of convolutions with no batch norm behind them: drawn so that neurons fire.
        neurons: rules of classes that are STEP's own, by the end of their names.
    """

    part: str
    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 16, 16)
    layout: str = "BCHW"
    per_sample: bool = False
    counts: bool = False
    bare: tuple[str, ...] = ()
    neurons: Mapping[str, Callable[[Any], StaircaseRule]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Table and name."""
        return f"{self.part}: {self.name}"

    def samples(self, count: int, seed: int) -> Tensor:
        """Random images of three contrasts, or numbers of events."""
        generator = torch.Generator().manual_seed(seed)
        contrast = torch.tensor([0.3, 1.0, 3.0]).repeat(-(-count // 3))[:count]
        contrast = contrast.reshape(-1, *[1] * len(self.shape))
        if self.counts:
            rates = (0.5 * contrast).expand(count, *self.shape)
            events: Tensor = torch.poisson(rates, generator=generator)
            return events
        images: Tensor = torch.randn(count, *self.shape, generator=generator) * contrast
        return images

    def given(self, samples: Tensor) -> Tensor:
        """The same as the model's forward takes them."""
        inside = sorted(self.layout.replace("B", ""), key=lambda axis: axis != "T")  # T is first
        return samples.permute([0 if a == "B" else 1 + inside.index(a) for a in self.layout])


_SMALL: Mapping[str, Any] = {"img_size": 16, "embed_dim": 32, "num_heads": 4, "depths": 1}
_LARGE: Mapping[str, Any] = {**_SMALL, "img_size": 32}
_MAPS, _FRAMES = (3, 32, 32), (4, 2, 64, 64)


def _built(file: str, maker: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of `cls/models` by the function that STEP registers."""

    def make() -> nn.Module:
        model: nn.Module = getattr(load(file), maker)(**options)
        return model

    return make


def _static(name: str, maker: str = "", **given: Any) -> Row:
    own = ("shape", "per_sample", "bare")
    options = {k: v for k, v in given.items() if k not in own}
    kept = {k: given[k] for k in own if k in given}
    make = _built(f"static/{name}", maker or name, **options)
    return Row(part="Model files", name=f"`static/{name}.py`", make=make, **kept)


def _spikingresformer() -> nn.Module:
    """Two stages of the class; the registered function fixes its widths."""
    model: nn.Module = load("static/spikingresformer_cifar").SpikingResformer(
        layers=[["DSSA", "GWFFN"], ["DSSA", "GWFFN"]],
        planes=[16, 32],
        num_heads=[1, 2],
        patch_sizes=[2, 1],
        img_size=8,
        group_size=16,
        num_classes=10,
        prologue=nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)),
    )
    return model


class _Fed(nn.Module):
    """A model whose input is arranged first: points, sequences and frames come as images."""

    def __init__(self, model: nn.Module, arranged: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.arranged = model, arranged

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model(self.arranged(images))
        return answer


class _GroupedAttention(nn.Module):
    """What weighs the neighbours of each point in a block of the point transformer."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.block = module.TransformerBlock(16, 16, 4, 4, "lif", use_encoder=True)
        for each in self.block.modules():
            if hasattr(each, "backend"):
                each.backend = "torch"

    def forward(self, neighbours: Tensor) -> Tensor:  # (B, C, points, neighbours)
        x = neighbours[None].repeat(4, 1, 1, 1, 1).flatten(0, 1)
        weights = self.block.fc_gamma(x).softmax(-1)
        answer: Tensor = (weights * x).sum((2, 3)).unflatten(0, (4, -1)).mean(0)
        return answer


def _point_transformer() -> nn.Module:
    """Of its class, as the configuration for ModelNet10 has it."""
    module = load("pc/spt")
    model: nn.Module = module.SPT(
        SimpleNamespace(
            step=4, num_class=10, input_dim=3, nneighbor=4, nblocks=1, blocks=[1, 1], num_point=32,
            num_samples=32, transformer_dim=16, spike_mode="lif", use_encoder=True,
        )
    )  # fmt: skip
    each: Any
    for each in model.modules():
        if hasattr(each, "backend"):
            each.backend = "torch"
    # Which points are shown at which step is the host's: in the order given.
    encoded: Any = model
    encoded.queue_SDE = lambda points: points.unflatten(1, (4, -1)).transpose(0, 1)
    return _Fed(model, lambda points: points.flatten(1, 3))


def _tim() -> nn.Module:
    """With STEP's own neuron: BrainCog's does not take (T * B, N, C)."""
    return _built("dvs/tim", "tim", **_EVENTS, node=load("utils/node").LIFNode)()


_EVENTS: Mapping[str, Any] = {"embed_dim": 32, "num_heads": 4, "depths": 1, "event_size": 64}

FILES = (
    _static("spikformer_cifar", **_SMALL),
    _static("spikformer_imagenet", **_LARGE, shape=_MAPS),
    _static("spikingformer_cifar", **_SMALL),
    _static("sdt_cifar", **_SMALL),
    _static("sdt_imagenet", "std_imagenet", **_LARGE, shape=_MAPS),
    _static("qkformer_cifar", **{**_SMALL, "depths": 4}),
    _static("qkformer_imagenet", **_LARGE, depth=4, shape=_MAPS, per_sample=True),
    _static("spikf_semm_cifar", **_LARGE, shape=_MAPS),
    _static(
        "spikf_semm_imagenet",
        **_LARGE,
        expert_dim=8,
        shape=_MAPS,
        per_sample=True,
        bare=("k_conv", "v_conv"),
    ),
    Row(
        part="Model files",
        name="`static/spikingresformer_cifar.py`",
        make=_spikingresformer,
        shape=(3, 8, 8),
    ),
    _static("swformer_cifar", **_SMALL),
    _static("sglformer_cifar", **{**_SMALL, "img_size": 8, "embed_dim": 48}, shape=(3, 8, 8)),
    Row(
        part="Model files",
        name="`dvs/spikformer_es.py`",
        make=lambda: _Fed(
            _built("dvs/spikformer_es", "spikformer_es", **_EVENTS)(),
            lambda frames: frames.permute(1, 2, 0, 3, 4),  # it takes (T, C, B, H, W)
        ),
        shape=_FRAMES,
        layout="BTCHW",
        counts=True,
    ),
    Row(
        part="Model files",
        name="`dvs/tim.py`",
        make=_tim,
        shape=_FRAMES,
        layout="BTCHW",
        counts=True,
    ),
    Row(
        part="Model files",
        name="`pc/spt.py`",
        make=_point_transformer,
        shape=(4, 1, 32, 3),
        layout="BTCHW",
    ),
    Row(
        part="Model files",
        name="`pc/spt.py`, its attention alone, of grouped points",
        make=lambda: _GroupedAttention(load("pc/spt")),
        shape=(16, 6, 4),
    ),
)

_CLASSES = (
    *("IFNode", "LIFNode", "LIFNode_Spikingjelly", "PLIFNode", "ILIFNode", "NILIFNode"),
    *("KLIFNode", "GLIFTorch", "PSNTorch", "EIFNode", "ComplementaryLIFNeuron", "HDLIFNode"),
)


def _with_neuron(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        node = getattr(load("utils/node"), name)
        if name == "HDLIFNode":  # the one class that asks for a number of channels
            return _Alone(node(input_dims=3, step=4))
        return _built("static/spikformer_cifar", "spikformer_cifar", **_SMALL, node=node)()

    return make


class _Alone(nn.Module):
    """One neuron between two linear maps."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.neuron = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), neuron
        self.head = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        for module in self.modules():
            if hasattr(module, "n_reset"):  # STEP's networks begin with this
                module.n_reset()  # type: ignore[operator]
        x = images[None].repeat(4, 1, 1, 1, 1).flatten(0, 1)
        x = self.neuron(self.norm(self.conv(x)).flatten(2)).unflatten(0, (4, -1))
        logits: Tensor = self.head(x.mean(3)).mean(0)
        return logits


NEURONS = tuple(Row(part="Neurons", name=f"`{name}`", make=_with_neuron(name)) for name in _CLASSES)


def _variant(what: str, **options: Any) -> Row:
    made = _built("static/spikformer_cifar", "spikformer_cifar", **{**_SMALL, **options})
    return Row(part="Layers that can be chosen", name=f"`spikformer_cifar`, `{what}`", make=made)


LAYERS = tuple(
    _variant(f"{key}={value!r}", **{key: value})
    for key, value in (
        *(("embed_layer", name) for name in ("vit_embed", "conv2_embed")),
        *(("attn_layer", name) for name in ("random_ssa", "repconv_attn")),
    )
)


def _encoded(encoding: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model: Any = _built("static/spikformer_cifar", "spikformer_cifar", **_SMALL)()
        model.encoder.encode_type = encoding
        model.encoder.fun = getattr(model.encoder, encoding)
        network: nn.Module = model
        return network

    return make


ENCODINGS = tuple(
    Row(part="Encodings, inside the model", name=f"`{name}`", make=_encoded(name))
    for name in ("direct", "rate", "phase", "ttfs")
)


def _sequential(name: str, length: int) -> Row:
    options = {**_SMALL, "in_channels": 1, "embed_layer": "sequential_embed"}
    make = _built(f"static/{name}", name, **options, sequence_length=length)
    return Row(
        part="Data modes",
        name=f"`{name}`, sequences of {length}",
        make=lambda: _Fed(make(), lambda sequence: sequence.flatten(2)),
        shape=(1, 1, length),
    )


DATA = (
    *(_sequential(name, 1024) for name in ("spikformer_cifar", "sdt_cifar", "spikf_semm_cifar")),
    _sequential("sdt_cifar", 784),
)


def _dense(name: str, make: Callable[[], nn.Module]) -> Row:
    return Row(
        part="Segmentation and detection",
        name=name,
        make=make,
        shape=(3, 64, 64) if "backbones" in name else (3, 16, 16),
        bare=("k_conv", "v_conv") if "semm" in name else (),
        neurons=dense.NEURONS,
    )


DENSE = tuple(_dense(name, make) for name, make in dense.NETWORKS.items())

ROWS = (*FILES, *NEURONS, *LAYERS, *ENCODINGS, *DATA, *DENSE)
