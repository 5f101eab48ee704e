"""Checkpoints trained with learned time constants: `w` beside every neuron."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sj = pytest.importorskip("spikingjelly.activation_based.neuron")

from torch import Tensor, nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.digits import PREPROCESSING  # noqa: E402
from lapilli.model.families.lif import LIF, PLIF  # noqa: E402
from lapilli.model.families.presets import PRESETS, fitting  # noqa: E402
from lapilli.model.families.table import make  # noqa: E402
from lapilli.model.loading.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint  # noqa: E402
from lapilli.model.trial import SMALL, alive, trial_images  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_NAMES = ["spike-driven cifar", "spikformer imagenet", "semm", "meta-spikeformer"]


def _trained(name: str, spread: float = 0.7) -> dict[str, Tensor]:
    """The state of a model whose neurons live, each with a time constant of its own."""
    config, size = SMALL[name]
    model = alive(config, size)
    state = dict(model.state_dict())
    lifs = [path for path, m in model.named_modules() if type(m) is LIF]
    values = torch.linspace(-spread, spread, len(lifs)) + 0.01
    return state | {f"{path}.w": w for path, w in zip(lifs, values, strict=True)}


def _with_spikingjelly(model: nn.Module) -> nn.Module:
    """The same model with SpikingJelly's neurons."""
    for path, module in list(model.named_modules()):
        if isinstance(module, PLIF):
            theirs = sj.ParametricLIFNode(step_mode="m", v_threshold=module.v_threshold)
            theirs.w.data = module.w.data.clone()
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, theirs.eval())
    return model


@pytest.mark.parametrize("name", _NAMES)
def test_learned_time_constants_are_those_of_spikingjelly(name: str, tmp_path: Path) -> None:
    config, size = SMALL[name]
    state = _trained(name)
    model = build(Checkpoint(tmp_path, state), config)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert len([m for m in model.modules() if isinstance(m, PLIF)]) > 10
    images = trial_images(config, size, seed=2).double()
    theirs = _with_spikingjelly(build(Checkpoint(tmp_path, state), config)).double()
    with torch.no_grad():
        logits = model.double()(images)
        plain = alive(config, size).double()(images)
        assert torch.equal(theirs(images), logits)
    assert not torch.equal(plain, logits)  # the constants matter


@pytest.mark.parametrize("name", ["spike-driven cifar", "spikformer imagenet"])
def test_learned_time_constants_are_exact(
    name: str, tmp_path: Path, exact_on: Callable[..., int]
) -> None:
    config, size = SMALL[name]
    images = trial_images(config, size)
    model = build(Checkpoint(tmp_path, _trained(name, spread=0.3)), config)
    quantized = quantize(model, images)
    neurons = sum(isinstance(m, PLIF) for m in model.modules())
    assert [n.kind for n in quantized.notes].count(NoteKind.INTEGER_NEURON) == neurons
    assert exact_on(quantized, images, live=False) > 100_000
    of_spikingjelly = quantize(_with_spikingjelly(model), images)
    assert of_spikingjelly.network.graph.digest == quantized.network.graph.digest


def test_an_untrained_w_is_a_lif(tmp_path: Path) -> None:
    config, size = SMALL["spike-driven cifar"]
    state = {k: v * (not k.endswith(".w")) for k, v in _trained("spike-driven cifar").items()}
    images = trial_images(config, size)
    plain = quantize(alive(config, size), images, target="stock").network.graph
    learned = quantize(build(Checkpoint(tmp_path, state), config), images, target="stock")
    assert learned.network.graph.digest == plain.digest
    assert NoteKind.INTEGER_NEURON not in {note.kind for note in learned.notes}


def test_official_keys_of_neurons_that_nothing_calls(tmp_path: Path) -> None:
    state = _trained("spike-driven cifar")
    extra = {f"block.0.attn.{n}.w": torch.zeros(()) for n in ("attn_lif",)}
    extra["patch_embed.rpe_lif.w"] = torch.zeros(())
    model = build(Checkpoint(tmp_path, state | extra), SMALL["spike-driven cifar"][0])
    assert model.state_dict().keys() == state.keys()
    with pytest.raises(CheckpointError, match=r"has 'block\.0\.mlp\.no_lif\.w'"):
        build(
            Checkpoint(tmp_path, state | {"block.0.mlp.no_lif.w": torch.zeros(())}),
            SMALL["spike-driven cifar"][0],
        )


def test_inspect_tells_learned_time_constants(tmp_path: Path) -> None:
    name = "spike-driven-cifar10-2-256"
    state = dict(make(PRESETS[name]).state_dict())
    lifs = [path for path, m in make(PRESETS[name]).named_modules() if type(m) is LIF]
    state |= {f"{path}.w": torch.tensor(-0.5) for path in lifs}
    assert fitting(state)[0] == name
    torch.save({"model": state}, tmp_path / "plif.pth")
    facts = json.loads(
        CliRunner().invoke(app, ["inspect", str(tmp_path / "plif.pth"), "--json"]).output
    )
    assert facts["learned tau"] == f"{len(lifs)} neurons, 2.65 to 2.65"
    assert f"--preset {name}" in facts["next"]


def test_our_own_file_keeps_them(tmp_path: Path) -> None:
    config, _ = SMALL["spike-driven cifar"]
    state = _trained("spike-driven cifar")
    model = build(Checkpoint(tmp_path, state), config)
    save_checkpoint(tmp_path / "own.safetensors", model, config, PREPROCESSING)
    again = build(load_checkpoint(tmp_path / "own.safetensors")).state_dict()
    assert all(torch.equal(again[k], v) for k, v in state.items())


def test_w_is_learned() -> None:
    neuron = PLIF(tau=3.0)
    assert float(1 / neuron.w.detach().sigmoid()) == pytest.approx(3.0)
    neuron(torch.linspace(-1, 3, 40).reshape(4, 10)).sum().backward()
    assert neuron.w.grad is not None
    assert neuron.w.grad != 0
