"""Every family: official keys, shapes and parameter counts; neurons that live; gradients."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from lapilli.deploy.cli.app import app  # noqa: E402
from lapilli.deploy.cli.flow import Overrides, open_checkpoint  # noqa: E402
from lapilli.ir.errors import CheckpointError  # noqa: E402
from lapilli.model.digits import PREPROCESSING  # noqa: E402
from lapilli.model.families.a2os2a import A2OS2AConfig  # noqa: E402
from lapilli.model.families.e_spikeformer import ESpikeFormerConfig  # noqa: E402
from lapilli.model.families.family import lines_of  # noqa: E402
from lapilli.model.families.layers import encode  # noqa: E402
from lapilli.model.families.lif import LIF, IntegerSpike, TernaryLIF  # noqa: E402
from lapilli.model.families.meta_spikeformer import MetaSpikeFormerConfig, PaddedBatchNorm  # noqa: E402
from lapilli.model.families.presets import PRESETS, assumed, fitting, normalisation  # noqa: E402
from lapilli.model.families.qkformer import QKFormerConfig  # noqa: E402
from lapilli.model.families.spike_driven import SpikeDrivenConfig  # noqa: E402
from lapilli.model.families.spikformer import SpikformerConfig  # noqa: E402
from lapilli.model.families.spikingformer import SpikingformerConfig  # noqa: E402
from lapilli.model.families.table import (  # noqa: E402
    FAMILIES,
    Config,
    check,
    detect,
    family_of,
    make,
    matched,
    undecided,
    unused,
)
from lapilli.model.loading.checkpoint import (  # noqa: E402
    Checkpoint,
    build,
    load_checkpoint,
    save_checkpoint,
)
from lapilli.model.neurons.shiftmax import Shiftmax  # noqa: E402
from lapilli.model.trial import SMALL, alive, trial_images  # noqa: E402

pytestmark = pytest.mark.torch

_GOLDEN = Path(__file__).parent / "golden"

# Key list of an official file: the preset that it is, and its number of parameters.
_OFFICIAL = {
    "spikformer_cifar10_4-384": ("spikformer-cifar10-4-384", 9330874),
    "spikformer_imagenet_8-512": ("spikformer-imagenet-8-512", 29705768),
    "spikformer_cifar10dvs_2-256": ("spikformer-cifar10-dvs-2-256-t16", 2585610),
    "spikingformer_cifar10_4-384": ("spikingformer-cifar10-4-384", 9326266),
    "spikingformer_imagenet_8-512": ("spikingformer-imagenet-8-512", 29705768),
    "spikingformer_cifar10dvs_2-256": ("spikingformer-cifar10-dvs-2-256-t16", 2568714),
    "sdt_v1_cifar10_2-256": ("spike-driven-cifar10-2-256", 2567082),
    "sdt_v1_imagenet_8-512": ("spike-driven-imagenet-8-512", 29689896),
    "qkformer_cifar10_4-384": ("qkformer-cifar10-4-384", 6706234),
    "qkformer_imagenet_10-384": ("qkformer-imagenet-10-384", 16473688),
    "qkformer_cifar10dvs": ("qkformer-cifar10-dvs-2-256", 1504138),
    "sdt_v2_8_384": ("meta-spikeformer-imagenet-8-384-t4", 31333864),
    "sdt_v3_s": ("e-spikeformer-imagenet-s", 5105608),
    "step_spikformer_cifar": ("step-spikformer-cifar10", 9324796),
    "step_spikformer_imagenet": ("step-spikformer-imagenet-8-512", 29701794),
    "step_spikingformer_cifar": ("step-spikingformer-cifar10", 9318650),
    "step_sdt_cifar": ("step-spike-driven-cifar10", 10233590),
    "step_qkformer_cifar": ("step-qkformer-cifar10", 6706304),
    "step_spikf_semm_cifar": ("step-semm-cifar10", 7739372),
    "step_spikf_semm_imagenet": ("step-semm-imagenet-8-512", 27550338),
}

# Millions of parameters as published, with those that nothing uses.
_MILLIONS = {
    "spikformer-cifar10-4-256": 4.16, "spikformer-cifar10-2-384": 5.77,
    "spikformer-imagenet-8-384": 16.83, "spikformer-imagenet-6-512": 23.39,
    "spikformer-imagenet-10-512": 36.03, "spikformer-imagenet-8-768": 66.36,
    "spikingformer-cifar10-4-256": 4.16, "spikingformer-cifar10-2-384": 5.77,
    "spikingformer-imagenet-8-384": 16.83, "spikingformer-imagenet-8-768": 66.36,
    "spike-driven-cifar10-2-512": 10.23, "spike-driven-imagenet-8-384": 16.82,
    "spike-driven-imagenet-6-512": 23.37, "spike-driven-imagenet-10-512": 36.01,
    "spike-driven-imagenet-8-768": 66.34, "qkformer-cifar100-4-384": 6.74,
    "qkformer-imagenet-10-512": 29.08, "qkformer-imagenet-10-768": 64.96,
    "qkformer-dvs128-gesture-2-256": 2.00, "meta-spikeformer-imagenet-8-512-t4": 55.35,
    "meta-spikeformer-imagenet-8-512-kd-t4": 55.99, "meta-spikeformer-imagenet-8-768-t4": 123.7,
    "e-spikeformer-imagenet-t": 2.70, "e-spikeformer-imagenet-m": 10.02,
    "e-spikeformer-imagenet-l": 18.99, "a2os2a-cifar10-2-256": 2.59, "a2os2a-cifar10-4-256": 4.15,
    "a2os2a-cifar10-2-384": 5.76, "a2os2a-cifar10-4-384": 9.32, "a2os2a-cifar10-2-512": 10.23,
    "a2os2a-imagenet-10-512": 36.01,
}  # fmt: skip

_every_small = pytest.mark.parametrize("name", SMALL)


def _official(name: str) -> dict[str, Tensor]:
    """An official file without values, but for thresholds."""
    state = {}
    for line in (_GOLDEN / f"{name}.txt").read_text().splitlines():
        key, shape = line.split("\t")
        state[key] = torch.empty(ast.literal_eval(shape), device="meta")
        if key.endswith(".threshold"):
            state[key] = torch.tensor(0.5 if key.endswith(".attn_lif.threshold") else 1.0)
    return state


def _on_meta(config: Config) -> nn.Module:
    with torch.device("meta"):
        return make(config)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _neurons(model: nn.Module) -> Mapping[str, nn.Module]:
    kinds = (LIF, IntegerSpike)
    return {path: m for path, m in model.named_modules() if isinstance(m, kinds)}


# ---- official files ---------------------------------------------------------------------


@pytest.mark.parametrize("name", _OFFICIAL)
def test_official_names_shapes_and_counts_are_ours(name: str) -> None:
    preset, parameters = _OFFICIAL[name]
    state = _official(name)
    model = _on_meta(PRESETS[preset])

    found = matched(model, state)

    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    thresholds = [k for k in state if k.endswith(".threshold")]
    left = set(unused(state)) - set(thresholds)
    assert len(found) + len(left) + len(thresholds) == len(state)
    learned = [state[k].numel() for k in left if not re.search(r"running_|num_batches", k)]
    count = _parameters(model) + sum(learned) + len(thresholds)
    assert count == parameters


@pytest.mark.parametrize("preset", _MILLIONS)
def test_published_parameter_counts(preset: str) -> None:
    config = PRESETS[preset]
    count = _parameters(_on_meta(config))
    if isinstance(config, SpikformerConfig | SpikingformerConfig):
        count += 4 * config.embed_dim * config.depth  # norm1, norm2
    assert abs(count / 1e6 - _MILLIONS[preset]) < 0.06 if config.in_channels == 3 else count


@pytest.mark.parametrize("name", _OFFICIAL)
def test_the_family_and_the_preset_are_in_the_keys(name: str) -> None:
    state, preset = _official(name), _OFFICIAL[name][0]
    assert detect(state) == family_of(PRESETS[preset])
    fits = fitting(state)
    assert preset in fits
    assert detect(state) == family_of(PRESETS[fits[0]])


def test_every_small_model_is_recognised() -> None:
    for name, (config, _) in SMALL.items():
        state = _on_meta(config).state_dict()
        family = "spike-driven" if isinstance(config, A2OS2AConfig) else family_of(config)
        assert detect(state) == family, f"{name}: {undecided(state)}"


def test_every_configuration_is_of_a_family() -> None:
    """`Config` is for the type checker, which reads no table."""
    configs = {family.config for family in FAMILIES.values()}
    assert set(get_args(Config)) == configs, "Config and _ALL of families/table.py differ"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_model(preset: str) -> None:
    config = PRESETS[preset]
    check(config)
    assert (normalisation(preset) is None) == (config.in_channels == 2)
    assert re.search(r"cifar100?|imagenet|dvs128", preset), "a preset's name has its data set"
    if preset.startswith(("bsa", "a2os2a")):
        assert assumed(preset)


def test_no_official_file_is_of_two_families() -> None:
    for name in _OFFICIAL:
        lines = lines_of(_official(name))
        fits = [n for n, f in FAMILIES.items() if any(k.fit(lines) for k in f.recognises)]
        assert fits == [family_of(PRESETS[_OFFICIAL[name][0]])], name


def test_the_keys_that_decide_are_said() -> None:
    spikformer = _official("spikformer_imagenet_8-512")
    both = spikformer | _official("qkformer_cifar10_4-384") | _official("sdt_v2_8_384")
    assert detect(both) is None
    assert re.search(
        r"'qkformer' by '.*tssa.*' and 'meta-spikeformer' by '.*q_conv\.0\.body", undecided(both)
    )
    stemless = {k: v for k, v in spikformer.items() if "rpe_conv" not in k}
    assert detect(stemless) is None
    assert undecided(stemless).endswith(
        "nearest is 'spikformer', but it lacks 'patch_embed.rpe_conv.'"
    )
    routed = spikformer | {"block.0.attn.router1.weight": torch.empty(4, 512, 1, device="meta")}
    assert detect(routed) == "semm-imagenet"
    assert "no family" in undecided({"head.weight": torch.zeros(1)})


def test_an_older_spelling_loads(tmp_path: Path) -> None:
    config = SpikingformerConfig(embed_dim=16, heads=2, depth=1, layout="imagenet", pooling="1111")
    state = make(config).state_dict()
    older = {
        re.sub(r"proj([1-3])_(conv|bn)", r"proj_\2\1", re.sub("proj4_", "rpe_", k)).replace(
            ".mlp.mlp", ".mlp.fc"
        ): v
        for k, v in state.items()
    }
    assert older.keys() != state.keys()
    loaded = build(Checkpoint(tmp_path, older), config).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


def test_a_threshold_in_the_file_must_be_the_models(tmp_path: Path) -> None:
    config = SpikeDrivenConfig(embed_dim=16, heads=2, depth=1)
    state = dict(make(config).state_dict())
    state["block.0.attn.talking_heads_lif.threshold"] = torch.tensor(1.0)
    build(Checkpoint(tmp_path, state), replace(config, mask_threshold=1.0))
    with pytest.raises(CheckpointError, match=r"talking_heads_lif.*is 1\.0, the model's 0\.5"):
        build(Checkpoint(tmp_path, state), config)


def test_heads_that_the_file_gives_away(tmp_path: Path) -> None:
    config = SpikeDrivenConfig(embed_dim=16, heads=2, depth=1)
    state = dict(make(config).state_dict())
    state["block.0.attn.talking_heads.weight"] = torch.ones(4, 4, 1)
    with pytest.raises(CheckpointError, match="has 4 heads, not 2"):
        build(Checkpoint(tmp_path, state), config)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_files_say_everything(family: str, tmp_path: Path) -> None:
    config = next(c for c, _ in SMALL.values() if family_of(c) == family)
    model = make(config)
    save_checkpoint(tmp_path / "m.safetensors", model, config, PREPROCESSING)
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert loaded.config == config
    again = build(loaded).state_dict()
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (SpikformerConfig(heads=7), "embed_dim = 384, no multiple"),
        (SpikformerConfig(layout="tiny"), "layout = 'tiny'"),  # type: ignore[arg-type]
        (SpikingformerConfig(tau=0.0), r"tau = 0\.0"),
        (SpikingformerConfig(proj_bias=1), "proj_bias = 1"),  # type: ignore[arg-type]
        (QKFormerConfig(heads=64), "embed_dim = 384, no multiple"),
        (QKFormerConfig(depth=2), "depth = 2, fewer blocks than stages"),
        (MetaSpikeFormerConfig(heads=7), "widths = "),
        (MetaSpikeFormerConfig(widths=(8, 8)), "widths = "),  # type: ignore[arg-type]
        (ESpikeFormerConfig(depths=(0, 1)), "depths = "),
    ],
)
def test_a_configuration_that_no_model_has(config: Config, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(config)


@pytest.mark.parametrize("name", ["spikformer cifar", "spike-driven cifar", "qkformer cifar"])
def test_a_transposed_weight_is_refused(name: str, tmp_path: Path) -> None:
    config = SMALL[name][0]
    state = dict(make(config).state_dict())
    state["head.weight"] = state["head.weight"].T
    with pytest.raises(CheckpointError, match=r"'head\.weight' has shape"):
        build(Checkpoint(tmp_path, state), config)


def test_another_number_of_frames_is_refused() -> None:
    config, size = SMALL["spikformer dvs"]
    with pytest.raises(ValueError, match="9 frames for a model of T = 10"):
        make(config)(trial_images(config, size)[:, :9])
    assert encode(torch.zeros(2, 3, 4, 4), 5).shape == (5, 2, 3, 4, 4)


# ---- inspect ----------------------------------------------------------------------------


def _inspected(path: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert result.exit_code == 0
    facts: dict[str, Any] = json.loads(result.output)
    return facts


def test_inspect_names_the_presets_that_fit(tmp_path: Path) -> None:
    state = {k: torch.zeros(v.shape) for k, v in _official("qkformer_cifar10_4-384").items()}
    save_file(state, tmp_path / "q.safetensors")
    facts = _inspected(tmp_path / "q.safetensors")
    assert facts["family"] == "qkformer"
    assert facts["layout"] == ["cifar"]
    assert facts["presets"][0] == "qkformer-cifar10-4-384"
    assert "heads, T" in facts["missing"][0]
    assert len(facts["missing"]) == 1  # the preset knows how images were normalised
    assert "--preset qkformer-cifar10-4-384" in facts["next"]


def test_a_preset_says_configuration_and_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    save_file({"head.bias": torch.zeros(10)}, path)
    opened = open_checkpoint(path, Overrides(preset="qkformer-cifar10-4-384"))
    assert opened.config == QKFormerConfig()
    assert opened.preprocessing is not None
    assert opened.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    own = Overrides(preset="qkformer-cifar10-4-384", mean=(0.5,), std=(0.25,))
    given = open_checkpoint(path, own).preprocessing
    assert given is not None
    assert given.std == (0.25,)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (Overrides(preset="qkformer-cifar10"), r"did you mean .*qkformer-cifar10-4-384"),
        (Overrides(preset="?"), "no preset is called '\\?'; see docs/families.md"),
        (Overrides(preset="step-semm-cifar10", config="{}"), "--preset or --config, not both"),
    ],
)
def test_a_preset_that_is_none(overrides: Overrides, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    save_file({"head.bias": torch.zeros(10)}, path)
    with pytest.raises(CheckpointError, match=sentence):
        open_checkpoint(path, overrides)


def test_a_preset_of_events_says_no_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    save_file({"head.bias": torch.zeros(10)}, path)
    overrides = Overrides(preset="qkformer-cifar10-dvs-2-256")
    assert open_checkpoint(path, overrides).preprocessing is None


# ---- what the models do -----------------------------------------------------------------


@_every_small
def test_every_neuron_lives(name: str) -> None:
    config, size = SMALL[name]
    model = alive(config, size)
    fired: dict[str, Tensor] = {}
    for path, neuron in _neurons(model).items():
        neuron.register_forward_hook(lambda _m, _i, out, path=path: fired.update({path: out}))
    with torch.no_grad():
        logits = model(trial_images(config, size, seed=2))
    assert logits.shape == (3, config.classes)
    assert logits.std(0).max() > 0
    assert fired.keys() == _neurons(model).keys()
    silent = {
        path: float((spikes != 0).double().mean())
        for path, spikes in fired.items()
        if len(spikes.unique()) == 1
    }
    assert not silent


@_every_small
def test_gradients_flow(name: str) -> None:
    config, size = SMALL[name]
    torch.manual_seed(0)
    model = make(config)
    model(trial_images(config, size)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    first = next(iter(model.parameters()))
    assert first.grad is not None
    assert first.grad.abs().max() > 0


@_every_small
def test_a_sample_does_not_see_its_neighbours(name: str) -> None:
    config, size = SMALL[name]
    model = alive(config, size).double()
    images = trial_images(config, size, seed=2).double()
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_eroded_spikes_depend_on_the_heads() -> None:
    config, size = SMALL["spike-driven cifar10-dvs"]
    assert isinstance(config, SpikeDrivenConfig)
    models = [alive(config, size), make(replace(config, heads=8)).eval()]
    models[1].load_state_dict(models[0].state_dict())
    images = trial_images(config, size, seed=2)
    with torch.no_grad():
        assert not torch.equal(models[0](images), models[1](images))


def test_the_border_is_what_batch_norm_makes_of_zero() -> None:
    torch.manual_seed(0)
    padded = PaddedBatchNorm(2)
    nn.init.normal_(padded.bn.bias)
    *_, y = (padded(torch.randn(4, 2, 3, 3) + 1) for _ in range(3))
    zero = padded.bn.eval()(torch.zeros(1, 2, 1, 1))
    assert torch.allclose(y[:, :, 0, :], zero[:, :, 0].expand(4, 2, 5), atol=1e-6)
    z = padded.eval()(torch.randn(4, 2, 3, 3))
    assert torch.equal(z[:, :, :, 4], zero[:, :, 0].expand(4, 2, 5))


# ---- neurons ----------------------------------------------------------------------------


def test_a_ternary_neuron_by_hand() -> None:
    spikes, membranes = TernaryLIF(v_threshold=1.0).trace(
        torch.tensor([1.0, 1.5, -2.0, -1.0, -2.0])
    )
    assert membranes.tolist() == [0.5, 1.0, -1.0, -0.5, -1.25]
    assert spikes.tolist() == [0.0, 1.0, -1.0, 0.0, -1.0]


def test_integer_spikes_round_half_to_even() -> None:
    x = torch.tensor([-1.0, 0.5, 0.51, 1.5, 2.5, 3.5, 9.0])
    assert IntegerSpike(norm=1)(x).tolist() == [0, 0, 1, 2, 2, 4, 4]
    assert IntegerSpike()(x).tolist() == [0, 0, 0.25, 0.5, 0.5, 1, 1]
    assert IntegerSpike(D=2, norm=1)(x).tolist() == [0, 0, 1, 2, 2, 2, 2]
    x.requires_grad_()
    IntegerSpike()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0.25, 0.25, 0.25, 0.25, 0.25, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shiftmax_is_the_exact_power_of_two(dtype: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-9, 10, (300, 7), generator=generator)
    rows[0] = torch.tensor([3, 3, 3, 3, -9, -9, -9])
    rows[1] = 0
    for row, result in zip(rows.tolist(), Shiftmax().weights(rows.to(dtype)).tolist(), strict=True):
        total = sum(Fraction(2) ** x for x in row)
        gamma = next(g for g in range(-20, 40) if Fraction(2) ** g >= total)
        assert [Fraction(y) for y in result] == [Fraction(2) ** (x - gamma) for x in row]
        assert Fraction(1, 2) < sum(map(Fraction, result)) <= 1


def test_powers_of_two_are_exact_in_torch() -> None:
    n = torch.arange(-120, 121)
    for dtype in (torch.float32, torch.float64):
        assert [Fraction(y) for y in torch.exp2(n.to(dtype)).tolist()] == [
            Fraction(2) ** int(i) for i in n
        ]
