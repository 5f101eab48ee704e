"""Checkpoints: every official container loads, nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.model.digits import PREPROCESSING  # noqa: E402
from lapilli.model.families.spike_driven import SpikeDrivenConfig, SpikeDrivenTransformer  # noqa: E402
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig  # noqa: E402
from lapilli.model.loading.checkpoint import (  # noqa: E402
    Checkpoint,
    build,
    load_checkpoint,
    load_state,
    save_checkpoint,
)

pytestmark = pytest.mark.torch

Config: TypeAlias = SpikformerConfig | SpikeDrivenConfig

_GOLDEN = Path(__file__).parent / "golden"
_SMALL = {"in_channels": 1, "classes": 3, "embed_dim": 8, "heads": 2, "depth": 1, "mlp_ratio": 1}
_SPIKFORMER = SpikformerConfig(**_SMALL)  # type: ignore[arg-type]
_SPIKE_DRIVEN = SpikeDrivenConfig(**_SMALL)  # type: ignore[arg-type]


def _model(config: Config, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if isinstance(config, SpikformerConfig):
        return Spikformer(config)
    return SpikeDrivenTransformer(config)


def _state(config: Config = _SPIKFORMER) -> dict[str, Tensor]:
    return dict(_model(config).state_dict())


def _saved(content: object, folder: Path, name: str = "model.pth") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def _refused(path: Path, config: Config = _SPIKFORMER) -> str:
    """The one sentence, after the path."""
    with pytest.raises(CheckpointError) as caught:
        build(load_checkpoint(path), config)
    assert caught.value.path == path
    message = str(caught.value).removeprefix(f"{path}: ")
    assert message != str(caught.value)
    return message


def _loads(path: Path, config: Config = _SPIKFORMER) -> None:
    loaded = build(load_checkpoint(path), config)
    want = _state(config)
    assert not loaded.training
    assert loaded.state_dict().keys() == want.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, want[key]), key


# ---- what loads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {"state_dict_ema": state, "arch": "spikformer"},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, data="/x", opt=None)},
        lambda state: {"state_dict": state, "state_dict_ema": {}, "metric": 95.5},
    ],
    ids=["bare", "state_dict", "model", "ema", "module-prefix", "namespace", "timm"],
)
@pytest.mark.parametrize("config", [_SPIKFORMER, _SPIKE_DRIVEN], ids=["spikformer", "spike-driven"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_container_loads(
    wrap: Callable[[dict[str, Tensor]], object], config: Config, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth.tar"
    torch.save(wrap(_state(config)), path, _use_new_zipfile_serialization=zipped)
    _loads(path, config)


@pytest.mark.parametrize("config", [_SPIKFORMER, _SPIKE_DRIVEN], ids=["spikformer", "spike-driven"])
def test_our_own_file_says_everything(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, _model(config), config, PREPROCESSING)
    loaded = load_checkpoint(path)
    assert loaded.config == config
    assert loaded.preprocessing == PREPROCESSING
    assert type(build(loaded)) is type(_model(config))
    _loads(path, config)


def test_bare_safetensors_need_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(_state(), path)
    _loads(path)
    with pytest.raises(CheckpointError, match=r"does not say heads, T and pooling.*--config"):
        build(load_checkpoint(path))


@pytest.mark.parametrize(
    ("config", "family"), [(_SPIKFORMER, "spikformer"), (_SPIKE_DRIVEN, "spike-driven")]
)
def test_the_family_is_in_the_keys(config: Config, family: str) -> None:
    assert Checkpoint(Path(), _state(config)).family == family
    assert Checkpoint(Path(), {"head.weight": torch.zeros(1)}).family is None


@pytest.mark.parametrize(
    ("config", "unused"),
    [
        (_SPIKFORMER, ("block.0.norm1.weight", "block.0.norm1.bias", "block.0.norm2.weight")),
        (_SPIKE_DRIVEN, ("block.0.attn.talking_heads.weight",)),
    ],
)
def test_official_keys_that_nothing_uses_are_skipped(
    config: Config, unused: tuple[str, ...], tmp_path: Path
) -> None:
    _loads(_saved(_state(config) | {k: torch.ones(8) for k in unused}, tmp_path), config)


def test_half_precision_loads(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in _state().items()}
    loaded = build(load_checkpoint(_saved(state, tmp_path)), _SPIKFORMER).state_dict()
    assert all(torch.equal(loaded[k], v.to(loaded[k].dtype)) for k, v in state.items())


@pytest.mark.parametrize(
    ("make", "config", "unused", "name"),
    [
        (Spikformer, SpikformerConfig(), ("norm1", "norm2"), "spikformer_cifar10_4-384"),
        (SpikeDrivenTransformer, SpikeDrivenConfig(embed_dim=256), ("talking_heads",),
         "sdt_v1_cifar10_2-256"),
    ],
)  # fmt: skip
def test_official_names_and_shapes_are_ours(
    make: Any, config: Config, unused: tuple[str, ...], name: str
) -> None:
    lines = (_GOLDEN / f"{name}.txt").read_text().splitlines()
    official = dict(line.split("\t") for line in lines)
    used = {k: v for k, v in official.items() if k.split(".")[-2] not in unused}
    assert len(used) < len(official)

    with torch.device("meta"):
        model = make(config)

    assert {k: str(tuple(v.shape)) for k, v in model.state_dict().items()} == used


# ---- what does not ----------------------------------------------------------------------


class _Runs:
    """A pickle of this runs a shell command while it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


class _Unpickles:
    """A class of somebody's own, harmless as it is."""


@pytest.mark.parametrize("hidden", ["bare", "beside", "inside"])
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_pickle_runs_nothing(hidden: str, how: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    evil = _Runs(f"echo > {trace}")
    content: dict[str, Any] = {"bare": {"": evil}, "beside": {"model": _state(), "args": evil}}
    content["inside"] = {"model": {**_state(), "head.bias": evil}}
    path = tmp_path / "evil.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"evil": evil}, protocol=2))
    else:
        torch.save(content[hidden], path, _use_new_zipfile_serialization=how == "zip")

    message = _refused(path)

    assert not trace.exists()
    assert "asks for code to be run" in message
    assert "convert it to .safetensors" in message


def test_the_trap_would_have_sprung(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.load(_saved(_Runs(f"echo > {trace}"), tmp_path), weights_only=False)
    assert trace.exists()


def test_a_class_of_ones_own_is_refused(tmp_path: Path) -> None:
    path = _saved({"model": _state(), "args": _Unpickles()}, tmp_path)
    assert "asks for code to be run" in _refused(path)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x80", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"\x89PNG\r\n\x1a\n" * 9,
        b"hello, I am no checkpoint\n", b"\0" * 300, bytes(range(256)), b"(" * 1000, b"]\x94." * 9,
    ],
    ids=range(10),
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_what_is_no_checkpoint(data: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    message = _refused(path)
    assert "checkpoint" in message or "safetensors" in message or "state_dict" in message


def test_no_damage_does_harm(tmp_path: Path) -> None:
    """Cut or flipped anywhere: a refusal, or a checkpoint; nothing else is raised."""
    whole = [tmp_path / "zip.pth", tmp_path / "legacy.pth", tmp_path / "own.safetensors"]
    tiny = {"head.bias": torch.zeros(3), "head.weight": torch.ones(3, 8)}
    torch.save({"model": tiny}, whole[0])
    torch.save({"model": tiny}, whole[1], _use_new_zipfile_serialization=False)
    save_checkpoint(whole[2], nn.Linear(8, 3), _SPIKFORMER, PREPROCESSING)
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> int:
        return int(torch.randint(n, (1,), generator=generator))

    refused = 0
    for path in whole:
        data = path.read_bytes()
        for _ in range(200):
            damaged = bytearray(data[: draw(len(data))] if draw(2) else data)
            for _ in range(1 + draw(4)):
                if damaged:
                    damaged[draw(len(damaged))] ^= 1 + draw(255)
            other = tmp_path / f"damaged{path.suffix}"
            other.write_bytes(damaged)
            try:
                build(load_checkpoint(other), _SPIKFORMER)
            except CheckpointError:
                refused += 1
    assert refused == 600  # a head alone is never the whole model


def test_a_missing_file(tmp_path: Path) -> None:
    assert _refused(tmp_path / "no.pth") == "no such file"
    assert _refused(tmp_path).startswith("is a folder without one checkpoint")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "holds no state_dict"),
        ([1, 2], "holds no state_dict"),
        (torch.zeros(3), "holds no state_dict"),
        ({"model": {}}, "holds no state_dict"),
        ({"epoch": 3}, "entry 'epoch' is not a tensor"),
        ({"state_dict": {"head.bias": [1.0]}}, "entry 'head.bias' is not a tensor"),
    ],
)
def test_no_parameters(content: object, sentence: str, tmp_path: Path) -> None:
    assert sentence in _refused(_saved(content, tmp_path))


def _with(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("head.bias"), "lacks 'head.bias': wrong family or depth?"),
        (lambda s: [s.pop("head.bias"), s.pop("head.weight")], "lacks 'head.bias' and 1 more keys"),
        (_with("extra", torch.ones(1)), "has 'extra', which the model has not"),
        (_with("block.1.attn.q_linear.bias", torch.ones(8)), "has 'block.1.attn.q_linear.bias'"),
        (_with("head.bias", torch.zeros(4)), "'head.bias' has shape (4,), the model (3,)"),
        (_with("head.weight", torch.zeros(8, 3)), "'head.weight' has shape (8, 3)"),
        (_with("head.bias", torch.full((3,), torch.nan)), "'head.bias' holds NaN or infinity"),
        (_with("head.bias", torch.full((3,), torch.inf)), "'head.bias' holds NaN or infinity"),
        (_with("patch_embed.proj_bn.running_var", torch.tensor([torch.nan])),
         "'patch_embed.proj_bn.running_var' holds NaN"),
        (_with("head.bias", torch.zeros(3, dtype=torch.complex64)), "'head.bias' is no plain"),
        (_with("head.bias", torch.zeros(3).to_sparse()), "'head.bias' is no plain"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit(
    change: Callable[[dict[str, Tensor]], object], sentence: str, tmp_path: Path
) -> None:
    state = _state()
    change(state)
    assert sentence in _refused(_saved({"model": state}, tmp_path))


def test_the_other_family_is_refused(tmp_path: Path) -> None:
    path = _saved(_state(_SPIKE_DRIVEN), tmp_path)
    assert "lacks 'block.0.attn." in _refused(path)
    assert "wrong family or depth?" in _refused(path)


def test_a_refused_state_leaves_the_model_alone() -> None:
    model = _model(_SPIKFORMER, seed=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = _state() | {"head.weight": torch.full((3, 8), torch.nan)}
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load_state(model, Checkpoint(Path("x"), state))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def _meta(**changed: str) -> dict[str, str]:
    config = {**_SMALL, "T": 4, "pooling": "0011"}
    preprocessing = {"mean": [0.3], "std": [0.4], "classes": ["a", "b", "c"]}
    known = {"family": "spikformer", "config": json.dumps(config)}
    return {**known, "preprocessing": json.dumps(preprocessing), **changed}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (_meta(family="mamba"), "unknown family 'mamba'; known: ["),
        (_meta(config="{"), "its metadata cannot be read"),
        (_meta(config="[]"), "its metadata cannot be read"),
        (_meta(config='{"width": 3}'), "its metadata cannot be read"),
        (_meta(config='{"embed_dim": "8"}'), "its metadata cannot be read"),
        (_meta(config='{"embed_dim": 8.5}'), "its metadata cannot be read"),
        (_meta(config='{"T": 0}'), "its metadata cannot be read"),
        (_meta(config='{"heads": -1}'), "its metadata cannot be read"),
        (_meta(config='{"embed_dim": 4611686018427387904}'), "its metadata cannot be read"),
        (_meta(config='{"pooling": "2222"}'), "its metadata cannot be read"),
        (_meta(config='{"pooling": 11}'), "its metadata cannot be read"),
        (_meta(preprocessing="[]"), "its metadata cannot be read"),
        (_meta(preprocessing='{"mean": 3}'), "its metadata cannot be read"),
        ({"family": "spikformer"}, "its metadata cannot be read"),
    ],
)
def test_metadata_that_cannot_be_read(
    metadata: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    save_file(_state(), path, metadata)
    with pytest.raises(CheckpointError) as caught:
        build(load_checkpoint(path))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"embed_dim": -8}, "no model has embed_dim = -8"),
        ({"heads": "2"}, "no model has heads = '2'"),
        ({"T": 0}, "no model has T = 0"),
        ({"depth": True}, "no model has depth = True"),
        ({"pooling": "0021"}, "no model has pooling = '0021'"),
    ],
)
def test_a_configuration_that_no_model_has(
    changed: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = _saved(_state(), tmp_path)
    assert sentence in _refused(path, SpikformerConfig(**{**_SMALL, **changed}))


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_the_committed_checkpoints_load(checkpoint: Callable[[str], Checkpoint], name: str) -> None:
    loaded = checkpoint(name)
    assert loaded.preprocessing == PREPROCESSING
    assert (loaded.family or "").replace("-", "_") == name
    assert not build(loaded).training
