"""Import STEP's modules from a checkout, without what their packages would import beside them.

STEP's files need BrainCog, whose packages import everything that they can; timm, of which they
use a decorator and a few lines; and mmcv, of which they use a registry and a base class. None of
it decides a spike: stand-ins take their places.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Mapping, MutableSequence, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import nn

BARE = (
    *("braincog", "braincog.base", "braincog.datasets", "braincog.model_zoo"),
    *("models", "models.static", "models.dvs", "models.pc"),
    *("models.pc.utils", "models.utils"),
)
# Imported at the head of a file and not used in what is captured.
UNUSED = (
    "dv",
    "globals",
    "h5py",
    "pandas",
    "seaborn",
    "sympy",
    "thop",
    "tonic",
    "torchinfo",
    "torchvision",
    "mmcv",
    "mmengine",
)


class _Anything(ModuleType):
    """A package of which every name is an empty class."""

    __path__: MutableSequence[str] = []  # noqa: RUF012  # empty: nothing lies in it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *_, **__: None})


class _Stands(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        unused = name.partition(".")[0] in UNUSED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if unused else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def open_checkout(checkout: Path, packages: Path) -> None:
    """Make `models...` importable, as from STEP's folder `cls`; call it once, in a process of its own.

    Args:
        checkout: of STEP.
        packages: the folder in which the frameworks lie that cannot lie beside others.

    Raises:
        FileNotFoundError: BrainCog or SpikingJelly 0.0.0.0.12 is not in the frameworks' folder.
    """
    warnings.simplefilter("ignore")  # what the frameworks use is deprecated
    for group in ("braincog", "spikingjelly-old"):
        folder = packages / group
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: `make adapters` installs it")
        sys.path.insert(0, str(folder))
    sys.meta_path.append(_Stands())
    for name in BARE:
        ours = name.partition(".")[0] == "models"
        root = checkout / "cls" if ours else packages / "braincog"
        put(name, path=str(root.joinpath(*name.split("."))))
    _put_timm()
    neuron: Any = importlib.import_module("spikingjelly.clock_driven.neuron")
    neuron.check_backend = lambda backend: None  # it asks for CuPy; PyTorch computes the same
    put("farthest_point_sampling_cuda", content={"farthest_point_sample_cuda": _first_points})


def _first_points(points: torch.Tensor, count: int) -> tuple[torch.Tensor, None]:
    """Which points are sampled is the host's business: the first ones."""
    return torch.arange(count).repeat(len(points), 1), None


def put(name: str, path: str = "", content: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Make a package of this path, or of this content alone, importable."""
    module: Any = ModuleType(name)
    module.__path__ = [path] if path else []
    for key, value in content.items():
        setattr(module, key, value)
    sys.modules[name] = module


def _put_timm() -> None:
    made: Mapping[str, Any] = {"register_model": lambda maker: maker, "create_model": None}
    layers: Mapping[str, Any] = {
        "trunc_normal_": nn.init.trunc_normal_,
        "DropPath": nn.Identity,
        "to_2tuple": lambda value: (value, value),
    }
    put("timm")
    put("timm.models", content=made)
    put("timm.models.registry", content=made)
    put("timm.models.layers", content=layers)
    put("timm.models.vision_transformer", content={"_cfg": lambda **_: {}})


def load(file: str) -> Any:
    """A module of `cls/models`, such as "static/sdt_cifar"."""
    return importlib.import_module(f"models.{file.replace('/', '.')}")
