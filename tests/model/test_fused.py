"""A LIF as one function over all steps: the spikes of the loop bit for bit, and its gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch import dtype as DType  # noqa: E402, N812

from lapilli.model.families import fused  # noqa: E402
from lapilli.model.families.lif import LIF, PLIF, TernaryLIF  # noqa: E402
from lapilli.model.families.spike_driven import (  # noqa: E402
    SpikeDrivenConfig,
    SpikeDrivenTransformer,
)
from lapilli.model.families.spikformer import Spikformer, SpikformerConfig  # noqa: E402

pytestmark = pytest.mark.torch


def currents(*shape: int, dtype: DType = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x: Tensor = torch.randn(*shape, generator=generator, dtype=torch.float64) * 2
    return x.to(dtype)


def spikes_and_gradient(neuron: LIF, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    spikes = neuron(x)
    upstream = torch.empty_like(spikes).copy_(currents(*x.shape, dtype=torch.float64).cos())
    (gradient,) = torch.autograd.grad(spikes, x, upstream)
    return spikes.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("piece", [50, 1 << 16])  # a sample or two at a time, or all
@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (1.7, 0.3), (5.0, 0.9)])
@pytest.mark.parametrize("shape", [(4, 7, 3, 5, 5), (3, 5, 40), (6, 9), (4,)])
def test_spikes_and_gradients_are_those_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, ...],
    tau: float,
    threshold: float,
    piece: int,
    dtype: DType,
) -> None:
    monkeypatch.setattr(fused, "_PIECE", piece)
    x = currents(*shape, dtype=dtype)

    got = spikes_and_gradient(LIF(tau, threshold).train(), x)
    want = spikes_and_gradient(LIF(tau, threshold).eval(), x)

    assert torch.equal(got[0], want[0])
    # PyTorch's sigmoid rounds the last few values of an array otherwise than the rest.
    tolerance = 0 if piece > x[0].numel() else 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(got[1], want[1], rtol=tolerance, atol=tolerance)
    assert shape == (4,) or 0 < float(want[0].mean()) < 1  # neurons both fire and rest


def test_a_current_that_is_shown_again_and_again_gets_the_sum_of_its_gradients() -> None:
    x = currents(1, 6, 50)
    got = x.clone().requires_grad_()
    LIF().train()(got.expand(4, -1, -1)).square().sum().backward()
    want = x.clone().requires_grad_()
    LIF().eval()(want.repeat(4, 1, 1)).square().sum().backward()
    assert got.grad is not None
    assert torch.equal(got.grad, want.grad)
    assert got.grad.abs().max() > 0


def test_the_layout_of_a_step_is_kept() -> None:
    steps = currents(8, 6, 5, 5).to(memory_format=torch.channels_last)
    x = steps.unflatten(0, (4, 2)).requires_grad_()
    spikes = LIF().train()(x)
    assert spikes.stride() == x.stride()
    (gradient,) = torch.autograd.grad(spikes.contiguous().sum(), x)
    assert gradient.stride() == x.stride()
    assert torch.equal(spikes, LIF().eval()(x))


def test_bfloat16_currents_charge_membranes_of_float32() -> None:
    x = currents(4, 16, 64, dtype=torch.bfloat16)
    spikes, gradient = spikes_and_gradient(LIF(1.7).train(), x)
    assert spikes.dtype == gradient.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), LIF(1.7).eval()(x.float()))
    assert not torch.equal(spikes, LIF(1.7).eval()(x))  # whose membranes are rounded to 8 bits


@pytest.mark.parametrize("neuron", [PLIF(), TernaryLIF()])
def test_neurons_of_other_rules_take_the_loop(monkeypatch: pytest.MonkeyPatch, neuron: LIF) -> None:
    monkeypatch.setattr(fused._FusedLIF, "apply", None)
    spikes = neuron.train()(currents(4, 3, 50))
    assert 0 < float(spikes.detach().abs().mean()) < 1
    with pytest.raises(TypeError):
        LIF().train()(currents(4, 3, 50))


@pytest.mark.parametrize("layout", ["cifar", "imagenet", "spike-driven"])
def test_what_is_the_same_at_each_step_is_computed_once(layout: str) -> None:
    """An image, and frames that repeat it: the same logits, gradients and running means."""
    made: list[nn.Module] = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(
            SpikeDrivenTransformer(SpikeDrivenConfig(embed_dim=16, heads=2, depth=1))
            if layout == "spike-driven"
            else Spikformer(
                SpikformerConfig(embed_dim=16, heads=2, depth=1, layout=layout)  # type: ignore[arg-type]
            )
        )
    once, each = (model.double().train() for model in made)
    seen: list[int] = []
    for model in (once, each):
        stem = model.get_submodule("patch_embed.proj_conv")
        stem.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    images = currents(5, 3, 16, 16, dtype=torch.float64)

    got, want = once(images), each(images.unsqueeze(1).repeat(1, 4, 1, 1, 1))
    got.square().sum().backward()
    want.square().sum().backward()

    assert seen == [5, 20]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    for (name, a), b in zip(once.named_parameters(), each.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9, msg=name)
    for (name, mean), other in zip(once.named_buffers(), each.buffers(), strict=True):
        if name.endswith("running_mean"):
            torch.testing.assert_close(mean, other, rtol=1e-9, atol=1e-12, msg=name)


def test_gradients_reach_batch_norm_in_the_layout_of_its_values() -> None:
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(SpikeDrivenConfig(embed_dim=16, heads=2, depth=1))
    seen: list[bool] = []

    def watch(_: nn.Module, __: object, out: Tensor) -> None:
        out.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last)))

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(watch)
    images = currents(4, 3, 16, 16).to(memory_format=torch.channels_last)
    model.train()(images).square().sum().backward()
    assert len(seen) == len(norms)
    assert all(seen)
