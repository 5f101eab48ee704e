"""SpikingJelly 2's own models: recognised by their keys, and exact in their own class."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based")

from spikingjelly.activation_based.functional import reset_net  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.modules import OwnModel, arguments_from, build_own  # noqa: E402
from lapilli.deploy.cli.own_imports import ModuleFileError  # noqa: E402
from lapilli.ir.errors import QuantizeError  # noqa: E402
from lapilli.model.loading.foreign import foreign  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_MODELS = "spikingjelly.activation_based.model"
_TINY = {"num_classes": 5, "embed_dims": 32}
# Module and class, arguments, and those that no shape tells.
_SMALL: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "spikformer": (
        "spikformer:Spikformer", {**_TINY, "depths": 1}, {"T": 4, "num_heads": 2, "patch_size": 4}
    ),
    "spike-driven": (
        "spike_driven_transformer:SpikeDrivenTransformer",
        {**_TINY, "depths": 1},
        {"T": 4, "num_heads": 2, "pooling_stat": "0011"},
    ),
    "qkformer": (
        "qkformer:QKFormer",
        {**_TINY, "depths": (1, 1, 1)},
        {"T": 4, "num_heads": (1, 1, 2), "qka_type": "token"},
    ),
    "maxformer cifar": (
        "maxformer:MaxFormer", {**_TINY, "depths": (1, 1, 1), "cifar": True}, {"T": 4}
    ),
}  # fmt: skip
_FACTORIES = (
    "spikformer:spikformer_ti", "spikformer:spikformer_s", "spikformer:spikformer_cifar10",
    "spike_driven_transformer:sdt_8_384", "qkformer:qkformer_10_384",
    "maxformer:maxformer_10_384", "maxformer:maxformer_cifar",
)  # fmt: skip


def _made(name: str) -> tuple[nn.Module, Tensor]:
    """A model whose neurons live, and images."""
    source, told, asked = _SMALL[name]
    torch.manual_seed(0)
    model: nn.Module = build_own(
        OwnModel(source=f"{_MODELS}.{source}", arguments={**told, **asked})
    )
    size = 32 if name == "qkformer" else 16
    images = torch.randn(3, 3, size, size) * torch.tensor([0.3, 1.0, 3.0]).reshape(3, 1, 1, 1)
    for path, module in model.train().named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.normal_(module.bias, -0.5 if "qk_conv_bn" in path else 0.8, 1.0)  # an OR
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(images)
            reset_net(model)
    return model.eval(), images


@pytest.mark.parametrize("name", _SMALL)
def test_a_checkpoint_of_theirs_is_exact(
    name: str, tmp_path: Path, exact_on: Callable[..., int]
) -> None:
    model, images = _made(name)
    file = tmp_path / "theirs.pth"
    torch.save({"model": model.state_dict()}, file)

    result = CliRunner().invoke(app, ["inspect", str(file), "--json"])

    assert result.exit_code == 0
    facts = json.loads(result.output)
    assert facts["family"].startswith("SpikingJelly 2's ")
    words = shlex.split(facts["next"])
    source, told, asked = _SMALL[name]
    assert words[:3] == ["lapilli", "quantize", f"{_MODELS}.{source}"]
    given = [words[i + 1] for i, word in enumerate(words) if word == "--arg"]
    arguments = {k: v for k, v in arguments_from(given).items() if v is not ...}
    assert arguments == told
    assert {text.removesuffix("=...") for text in given if text.endswith("=...")} == asked.keys()
    assert words[words.index("--checkpoint") + 1] == str(file)

    own = OwnModel(source=words[2], arguments={**arguments, **asked}, checkpoint=file)
    loaded: nn.Module = build_own(own)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())
    assert exact_on(quantize(loaded, images), images) > 100_000


@pytest.mark.parametrize("factory", _FACTORIES)
def test_their_sizes_are_known(factory: str) -> None:
    with torch.device("meta"):
        model: nn.Module = build_own(
            OwnModel(source=f"{_MODELS}.{factory}", arguments={"num_classes": 7})
        )
    found = foreign(model.state_dict())
    assert found is not None
    assert (found.source, found.arguments) == (f"{_MODELS}.{factory}", {"num_classes": 7})
    assert found.unknown == ("T",)


def test_their_maxformer_for_imagenet_attends_to_currents() -> None:
    arguments = {**_TINY, "depths": (1, 1, 1)}
    model: nn.Module = build_own(
        OwnModel(source=f"{_MODELS}.maxformer:MaxFormer", arguments=arguments)
    )
    with pytest.raises(QuantizeError, match=r"qkv_conv_bn.*is a linear map of a real current"):
        quantize(model, torch.randn(3, 3, 16, 16))


def test_keys_of_nobody() -> None:
    assert foreign({"head.weight": torch.zeros(3, 8)}) is None


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("lapilli.no_such_module:Net", "does not import: ModuleNotFoundError.*is it installed?"),
        (f"{_MODELS}.qkformer:Net", "has no class or function 'Net'; it has QKFormer, qkformer_10"),
        (f"{_MODELS}.qkformer:QKFormer", r"QKFormer\(embed_dims=3\) fails: ValueError"),
    ],
)
def test_a_module_that_gives_no_model(source: str, sentence: str) -> None:
    with pytest.raises(ModuleFileError, match=sentence):
        build_own(OwnModel(source=source, arguments={"embed_dims": 3}))
