"""STEP's segmentation and detection: its backbones, necks and heads around stand-ins for mmcv.

What mmseg and mmdet wrap around a network (registries, losses, anchors, boxes, non-maximum
suppression) is the host's; of mmcv, a convolution with its batch norm is left.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from step.checkout import load, put
from torch import Tensor, nn

from lapilli.model.neurons.rule import StaircaseRule

_PARTS = ("backbones", "decode_heads", "dense_heads", "necks", "roi_heads.mask_heads")


class _Module(nn.Module):
    """mmengine's base: a module that is given how to begin."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg


class _ConvModule(nn.Sequential):
    """mmcv's: convolution, batch norm if there is one, ReLU unless there is none."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        norm_cfg: Any = None,
        act_cfg: Any = "ReLU",
        conv_cfg: Any = None,
        inplace: bool = True,
        kernel_size: int = 0,
        **options: Any,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel or kernel_size, bias=norm_cfg is None, **options)
        ]
        layers += [nn.BatchNorm2d(outputs)] if norm_cfg else []
        layers += [nn.ReLU()] if act_cfg else []
        super().__init__(*layers)


class _DecodeHead(_Module):
    """mmseg's, without losses: which levels it takes, and the last convolution."""

    def __init__(
        self,
        in_channels: Any,
        channels: int,
        num_classes: int = 5,
        input_transform: str = "",
        **_: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.channels, self.align_corners = in_channels, channels, False
        self.conv_cfg, self.norm_cfg, self.act_cfg = None, "BN", None
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def _transform_inputs(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return inputs

    def cls_seg(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_seg(x)
        return y


class _AnchorHead(_Module):
    """mmdet's, without anchors: three of them at each place, and four numbers of a box."""

    def __init__(
        self, num_classes: int, in_channels: int, feat_channels: int = 8, **_: Any
    ) -> None:
        super().__init__()
        self.num_classes = self.cls_out_channels = num_classes
        self.in_channels, self.feat_channels = in_channels, feat_channels
        self.num_base_priors, self.bbox_coder = 3, SimpleNamespace(encode_size=4)
        self._init_layers()

    def _init_layers(self) -> None:
        raise NotImplementedError

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [part for level in levels for part in self.forward_single(level)]

    def forward_single(self, level: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError


def open_dense(checkout: Path) -> None:
    """Make `mmseg.models...` and `mmdet.models...` of a checkout importable."""
    registry = SimpleNamespace(
        register_module=lambda *_, **__: lambda kind: kind, build=lambda *_: None
    )
    once = SimpleNamespace(retry_if_cuda_oom=lambda function: function)
    for name, folder in (("mmseg", "seg/mmseg"), ("mmdet", "det/mmdet")):
        for part in ("", ".models", *(f".models.{part}" for part in _PARTS), ".models.roi_heads"):
            path = str(checkout / folder / part.replace(".", "/").lstrip("/"))
            put(f"{name}{part}", path=path)
        put(f"{name}.registry", content={"MODELS": registry})
    for name in (
        "mmdet.structures.bbox",
        "mmdet.structures.mask",
        "mmdet.models.task_modules.samplers",
    ):
        put(name.rpartition(".")[0])
        put(name, content=dict.fromkeys(_HOSTS))
    put("mmdet.models.utils", content={"empty_instances": None})
    put("mmengine.model", content={"BaseModule": _Module, "ModuleList": nn.ModuleList})
    layers = {
        "ConvModule": _convolution,
        "build_conv_layer": _layer,
        "build_upsample_layer": _larger,
    }
    put("mmcv.cnn", content=layers)
    put("mmdet.utils", content={"AvoidCUDAOOM": once, **dict.fromkeys(_TYPES, Any)})
    put("mmseg.models.decode_heads.decode_head", content={"BaseDecodeHead": _DecodeHead})
    put("mmdet.models.dense_heads.anchor_head", content={"AnchorHead": _AnchorHead})
    put("mmseg.models.utils", path=str(checkout / "seg/mmseg/models/utils"))
    wrappers: Any = importlib.import_module("mmseg.models.utils.wrappers")
    own = {"resize": wrappers.resize, "Upsample": wrappers.Upsample}
    put("mmseg.models.utils", str(checkout / "seg/mmseg/models/utils"), content=own)
    neuron = load("utils/node").LIFNode  # BrainCog's own does not take (T * B, C, N)
    sys.modules["braincog.base.node"].LIFNode = neuron  # type: ignore[attr-defined]


_HOSTS = (
    *("cat_boxes", "empty_box_as", "get_box_tensor", "get_box_wh", "scale_boxes", "mask_target"),
    "SamplingResult",
)
_TYPES = (
    "ConfigType",
    "MultiConfig",
    "OptConfigType",
    "OptInstanceList",
    "InstanceList",
    "OptMultiConfig",
)


def _convolution(inputs: int, outputs: int, kernel: int = 0, **options: Any) -> nn.Module:
    return _ConvModule(inputs, outputs, kernel, **options)


def _layer(_: Any, inputs: int, outputs: int, kernel: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel)


def _larger(options: Mapping[str, Any]) -> nn.Module:
    given = {k: v for k, v in options.items() if k != "type"}
    return nn.ConvTranspose2d(**given)


class Network(nn.Module):
    """A backbone, a neck and a head; their maps as one vector, averaged over time if they have it."""

    def __init__(self, *parts: nn.Module, T: int = 4) -> None:
        super().__init__()
        self.parts, self.T = nn.Sequential(*parts), T

    def forward(self, images: Tensor) -> Tensor:
        made = self.parts(images)
        maps = [made] if isinstance(made, Tensor) else list(made)
        flat = [m.flatten(2).mean(0) if m.ndim == 5 else m.flatten(1) for m in maps]
        answer: Tensor = torch.cat(flat, 1)
        return answer


class _Stem(nn.Module):
    """Currents of three levels, where STEP's backbones are too large to be tried with their necks."""

    def __init__(self, widths: Sequence[int] = (6, 8, 10)) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, n, 3, 2**i, 1) for i, n in enumerate(widths))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images[None].repeat(4, 1, 1, 1, 1)
        return [conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for conv in self.convs]


def _of(module: str, name: str, *given: Any, **options: Any) -> nn.Module:
    made: nn.Module = getattr(importlib.import_module(module), name)(*given, **options)
    _on_torch(made)
    return made


def _on_torch(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "backend"):
            module.backend = "torch"  # type: ignore[assignment]


_SEG, _DET = "mmseg.models", "mmdet.models"
_SMALL: Mapping[str, Any] = {
    "img_size_h": 64, "img_size_w": 64, "patch_size": 32, "in_channels": 3, "embed_dim": 32, "depths": 1,
}  # fmt: skip
_FPN: Mapping[str, Any] = {
    "in_channels": [6, 8, 10],
    "out_channels": 8,
    "num_outs": 3,
    "norm_cfg": "BN",
}


def _backbone(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: Network(_of(f"{_SEG}.backbones.{module}", name, **_SMALL, **options))


def _detecting() -> nn.Module:
    return Network(
        _of(
            f"{_DET}.backbones.sdt", "Spiking_vit_MetaFormer", in_channels=3, embed_dim=[4, 8, 16, 20],
            num_heads=2, mlp_ratios=4, sr_ratios=1, depths=8, T=4,
        )
    )  # fmt: skip


def _head(name: str, **options: Any) -> Callable[[], nn.Module]:
    given = {"in_channels": [6, 8, 10], "feature_strides": [4, 8, 16], "channels": 8, **options}
    module = "fcn_head" if name == "FCNHead_SNN" else "fpn_head"
    if module == "fcn_head":
        given = {"in_channels": 6, "channels": 8, **options}
        return lambda: Network(
            _Stem((6,)), _First(), _of(f"{_SEG}.decode_heads.{module}", name, **given)
        )
    return lambda: Network(_Stem(), _of(f"{_SEG}.decode_heads.{module}", name, **given))


class _First(nn.Module):
    """The one level that a head takes."""

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return levels[0]


class _Folded(nn.Module):
    """Levels (T * B, C, H, W), as what was written without time takes them."""

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [level.flatten(0, 1) for level in levels]


class _Unfolded(nn.Module):
    """Maps of each step again."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [m.unflatten(0, (4, -1)) for m in maps]


def _neck(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: Network(_Stem(), _of(module, name, **{**_FPN, **options}))


def _dense(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: Network(
        _Stem((8, 8, 8)), _of(f"{_DET}.dense_heads.{module}", name, in_channels=8, **options)
    )


def _mask() -> nn.Module:
    head = _of(
        f"{_DET}.roi_heads.mask_heads.spike_fcn_mask_head", "SpikeFCNMaskHead", num_convs=2, in_channels=6,
        conv_out_channels=8, num_classes=3, norm_cfg="BN",
    )  # fmt: skip
    return Network(_Stem((6,)), _First(), head)


# What STEP calls its integer spikes, without memory.
NEURONS: Mapping[str, Callable[[Any], StaircaseRule]] = {
    "Qtrick.MultiSpike_norm": lambda m: StaircaseRule(levels=4, norm=int(m.T)),
    "spike_fpn.MultiSpike_norm4": lambda m: StaircaseRule(levels=int(m.T), norm=int(m.T)),
    "spike_rpn_head.MultiSpike_norm4": lambda m: StaircaseRule(levels=4, norm=int(m.T)),
    "spike_fcn_mask_head.MultiSpike_norm4": lambda m: StaircaseRule(levels=4, norm=int(m.T)),
}

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "`seg/…/backbones/spikformer.py`": _backbone("spikformer", "Spikformer", num_heads=4),
    "`seg/…/backbones/sdtv1.py`": _backbone("sdtv1", "SDTV1", num_heads=4),
    "`seg/…/backbones/semm.py`": _backbone("semm", "SEMM", expert_dim=8, mlp_ratios=4, sr_ratios=1),
    "`seg/…/necks/fpn.py`, `QFPN`": lambda: Network(
        _Stem(), _Folded(), _of(f"{_SEG}.necks.fpn", "QFPN", **_FPN), _Unfolded()
    ),
    "`seg/…/necks/fpn.py`, `FPN_SNN`": _neck(f"{_SEG}.necks.fpn", "FPN_SNN"),
    "`seg/…/decode_heads/fcn_head.py`": _head("FCNHead_SNN"),
    "`seg/…/decode_heads/fpn_head.py`, `FPNHead_SNN`": _head("FPNHead_SNN"),
    "`det/…/backbones/sdt.py`": _detecting,
    "`det/…/necks/spike_fpn.py`": _neck(f"{_DET}.necks.spike_fpn", "SpikeFPN"),
    "`det/…/dense_heads/spike_rpn_head.py`": _dense("spike_rpn_head", "SpikeRPNHead"),
    "`det/…/dense_heads/spike_retina_head.py`": _dense("spike_retina_head", "SpikeRetinaHead", num_classes=2, stacked_convs=1, norm_cfg="BN"),
    "`det/…/mask_heads/spike_fcn_mask_head.py`": _mask,
}  # fmt: skip
