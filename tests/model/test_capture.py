"""Capture: other people's style goes in, and what cannot be deployed is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.ir.types import Kind  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.axes import show  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.loading.checkpoint import Checkpoint, build  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


# ---- our own ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "neurons"), [("spikformer", 19), ("spike_driven", 19)])
def test_the_digits_models(
    checkpoint: Callable[[str], Checkpoint], name: str, neurons: int
) -> None:
    model = build(checkpoint(name))
    before = {k: v.clone() for k, v in model.state_dict().items()}

    captured = capture(model, (1, 8, 8))

    assert captured.T == 4
    assert captured.module is model
    fires = [c for c in captured.calls.values() if isinstance(c.op, program.Neuron)]
    paths = {p for p, m in model.named_modules() if isinstance(m, LIF)}
    assert {c.op.module for c in fires if isinstance(c.op, program.Neuron)} == paths
    assert len(fires) == len(paths) == neurons
    assert all(c.dims[0][0].name == "T" and len(c.dims[0]) == 1 for c in fires)
    assert sum(isinstance(c.op, program.Input) for c in captured.calls.values()) == 1
    assert show(captured.calls[captured.output].dims) == "[B, 10]"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# ---- another style ----------------------------------------------------------------------


class Fused(nn.Module):
    """Patches by unflatten, one Linear for q, k and v, Q (K^T V), no norm, no convolution."""

    def __init__(self, T: int = 4, heads: int = 3, dim: int = 12) -> None:
        super().__init__()
        self.T, self.heads = T, heads
        self.embed, self.embed_lif = nn.Linear(4, dim), LIF(v_threshold=0.7)
        self.qkv, self.qkv_lif = nn.Linear(dim, 3 * dim, bias=False), LIF(v_threshold=0.2)
        self.attn_lif = LIF(v_threshold=0.05)
        self.fc, self.fc_lif = nn.Linear(dim, dim), LIF(v_threshold=0.5)
        self.head = nn.Linear(dim, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unflatten(-1, (4, 2)).unflatten(2, (4, 2)).permute(0, 2, 4, 1, 3, 5)
        x = x.flatten(start_dim=3).view(images.shape[0], 16, 4)
        x = x[None].expand(self.T, -1, -1, -1)
        x = self.embed_lif(self.embed(x))
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).permute(0, 1, 3, 2, 4)
            for part in self.qkv_lif(self.qkv(x)).chunk(3, dim=-1)
        )
        mixed = torch.matmul(q, torch.matmul(k.permute(0, 1, 2, 4, 3), v)) / 4
        y = self.attn_lif(mixed.permute(0, 1, 3, 2, 4).contiguous().view(*x.shape))
        x = x + y
        x = x + self.fc_lif(self.fc(x.view(self.T, -1, 16, 12)))
        logits: Tensor = self.head(x).sum(2).mean(0)
        return logits


def test_another_style_is_spike_exact() -> None:
    torch.manual_seed(4)
    model = Fused().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    images = torch.randn(40, 1, 8, 8)

    made = quantize(model, images[:20])

    graph = made.network.graph
    integers = (images * 2.0**made.network.input.exponent).round().numpy().astype(np.int64)
    integers = integers.clip(made.network.input.lo, made.network.input.hi)
    trace = made.reference.run_images(integers)
    shown = np.broadcast_to(integers, (graph.T, *integers.shape))
    got = Reference().compile(graph).run({"image": shown})
    assert trace.membranes.keys() == set(graph.neurons)
    assert len(graph.neurons) == 4
    compared = 0
    for name in graph.neurons:
        assert np.array_equal(got.values[name], trace.values[name]), name
        assert np.array_equal(got.membranes[name], trace.membranes[name]), name
        assert np.array_equal(got.currents[name], trace.currents[name]), name
        assert 0.02 < got.values[name].mean() < 0.98, name
        compared += got.values[name].size
    assert compared == graph.T * 40 * 16 * 12 * 6
    assert np.array_equal(got.values["logits"][-1], trace.values["logits"][-1])
    assert len(np.unique(trace.values["logits"][-1])) > 20
    assert graph.types["fc"].kind is Kind.GRADED
    with torch.no_grad():  # the integers still say what the author's floats said
        floats = model(images).argmax(1).numpy()
    assert (floats == trace.values["logits"][-1].argmax(1)).mean() > 0.8


def test_it_is_not_one_constant() -> None:
    torch.manual_seed(4)
    captured = capture(Fused().eval(), (1, 8, 8))
    dims = {
        c.path: show(c.dims) for c in captured.calls.values() if isinstance(c.op, program.Neuron)
    }
    assert dims == {
        "embed_lif": "[T, B, 16, 12]",
        "qkv_lif": "[T, B, 16, 36]",
        "attn_lif": "[T, B, 16, 12]",
        "fc_lif": "[T, B, 16, 12]",
    }


# ---- what cannot be captured ------------------------------------------------------------


class Net(nn.Module):
    """Two layers, and something in between: (T, B, 6) spikes to (T, B, 6)."""

    def __init__(self, middle: nn.Module, T: int = 4) -> None:
        super().__init__()
        self.T = T
        self.fc, self.lif, self.middle, self.head = nn.Linear(4, 6), LIF(), middle, nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1).unsqueeze(0).repeat(self.T, 1, 1)
        x = self.middle(self.lif(self.fc(x)))
        logits: Tensor = self.head(x).mean(0)
        return logits


class Does(nn.Module):
    """One line of somebody's forward."""

    def __init__(self, rule: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: Tensor) -> Any:
        return self.rule(x)


class OwnNeuron(nn.Module):
    """Keeps its membrane from call to call, as step-mode frameworks do."""

    def __init__(self) -> None:
        super().__init__()
        self.membrane: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = self.membrane / 2 + x
        fired: Tensor = (self.membrane > 0.1).to(x.dtype)
        return fired


class Buffered(nn.Module):
    """The same in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("v", torch.zeros(1))
        self.v: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.v += 1
        return x + self.v


class Leaky(nn.Module):
    """QKFormer's leak: the neuron integrates over T*B."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        fired: Tensor = self.proj_lif(x.flatten(0, 1))
        return fired.view(*x.shape)


class Swapped(nn.Module):
    """The neuron integrates over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        fired: Tensor = self.lif(x.transpose(0, 1))
        return fired.transpose(0, 1)


class Stepped(Swapped):
    """The neuron integrates over three pieces of each step, as over channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        fired: Tensor = self.lif(x.unflatten(2, (3, 2)).permute(2, 1, 0, 3))
        return fired.permute(2, 1, 0, 3).flatten(2)


class OwnStaircase(nn.Module):
    """Rounds as trained for levels of spikes, and is no class that lapilli knows."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 0.5).floor().clamp(0, 3)


class OverTime(nn.Module):
    """A linear map of the time axis."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x.permute(1, 2, 0)).permute(2, 0, 1)
        return y


def test_the_frame_itself_is_captured() -> None:
    assert capture(Net(nn.Identity()).eval(), (1, 2, 2)).T == 4


@pytest.mark.parametrize(
    ("middle", "path", "problem"),
    [
        (Does(lambda x: x.softmax(-1)), "middle", r"operator aten\.softmax\.int is not one that"),
        (nn.Sequential(nn.Identity(), nn.Softmax(-1)), "middle.1", r"operator aten\.softmax"),
        (nn.GELU(), "middle", r"operator aten\.gelu"),
        (nn.LayerNorm(6), "middle", r"operator aten\.layer_norm"),
        (OwnNeuron(), "middle", "OwnNeuron keeps state from call to call"),
        (nn.Sequential(nn.Identity(), OwnNeuron()), "middle.1", "OwnNeuron keeps state"),
        (Buffered(), "middle", "Buffered keeps state"),
        (Leaky(), "middle.proj_lif", r"integrates over axis 0 of \[T\*B, 6\].*sample to sample"),
        (Swapped(), "middle.lif", r"integrates over axis 0 of \[B, T, 6\].*sample to sample"),
        (Stepped(), "middle.lif", r"axis 0 of \[3, B, T, 2\], which holds no time steps"),
        (OwnStaircase(), "middle", r"aten\.floor.*if OwnStaircase is a neuron, describe it"),
        (Does(lambda x: x * x.mean(1, keepdim=True)), "middle", "sums over the batch"),
        (Does(lambda x: x * x.mean()), "middle", r"aten\.mean\.default"),
        (nn.Sequential(Does(lambda x: x.transpose(0, 1).reshape(-1, 2, 12).reshape(-1, 4, 6)
                            .transpose(0, 1)), LIF()),
         "middle.0", r"reshaping \[B, T, 6\] to .* cuts through T"),
        (Does(lambda x: x.reshape(x.shape[1], x.shape[0], 6).transpose(0, 1)), "middle",
         r"reshaping \[T, B, 6\] to \[B, 4, 6\] cuts through T; every step"),
        (Does(lambda x: x / x.sum(-1, keepdim=True)), "middle", "division by a computed value"),
        (Does(lambda x: x.cumsum(0)), "middle", "operator aten.cumsum"),
        (nn.Sequential(Does(lambda x: x[:2].repeat(2, 1, 1)), LIF()), "middle.0", "time or batch"),
        (Does(lambda x: x @ x.transpose(-1, -2) @ x), "middle", "across T or B"),
        (nn.Sequential(OverTime(), LIF()), "middle.0.fc", "across T or B"),
    ],
)  # fmt: skip
def test_what_cannot_be_captured_is_named(middle: nn.Module, path: str, problem: str) -> None:
    torch.manual_seed(0)  # weights with which a state changes what is answered
    with pytest.raises(CaptureError, match=problem) as caught:
        capture(Net(middle).eval(), (1, 2, 2))
    assert caught.value.path == path
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("inner", "path"), [(nn.BatchNorm1d(6), "middle.inner"), (nn.Dropout(0.5), "middle.inner")]
)
def test_training_mode_is_refused(inner: nn.Module, path: str) -> None:
    class PerStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x.flatten(0, 1))
            return y.view(*x.shape)

    model = Net(PerStep())
    with pytest.raises(CaptureError, match=r"is in training mode; call model\.eval\(\)") as caught:
        capture(model, (1, 2, 2))
    assert caught.value.path == path
    assert capture(model.eval(), (1, 2, 2)).T == 4


class _Ends(nn.Module):
    """The frame with another end."""

    def __init__(self, end: Callable[[Tensor], Any], T: int = 4) -> None:
        super().__init__()
        self.net, self.end = Net(nn.Identity(), T), end

    def forward(self, images: Tensor) -> Any:
        x = images.flatten(1).unsqueeze(0).repeat(self.net.T, 1, 1)
        return self.end(self.net.head(self.net.lif(self.net.fc(x))))


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (lambda x: x.flatten(0, 1), r"returns \[T\*B, 3\]; expected \[B, classes\]"),
        (lambda x: x.flatten(1), r"returns \[T, B\*3\]; expected"),
        (lambda x: (None, 3), "returns no tensor; it must return the logits"),
    ],
)
def test_what_is_no_answer(end: Callable[[Tensor], Any], problem: str) -> None:
    with pytest.raises(CaptureError, match=problem) as caught:
        capture(_Ends(end).eval(), (1, 2, 2))
    assert "(the model itself)" in str(caught.value)


def test_images_of_the_wrong_size() -> None:
    with pytest.raises(CaptureError, match=r"its forward fails on images \(1, 3, 3\): mat1"):
        capture(Net(nn.Identity()).eval(), (1, 3, 3))


def test_one_step_is_a_model_without_time() -> None:
    captured = capture(Net(nn.Identity(), T=1).eval(), (1, 2, 2))
    assert captured.T == 1
    (fire,) = (c for c in captured.calls.values() if isinstance(c.op, program.Neuron))
    assert show(fire.dims) == "[1, B, 6]"


def test_no_neuron_at_all() -> None:
    with pytest.raises(CaptureError, match="no time axis"):
        capture(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), (1, 2, 2))


def test_a_neuron_is_no_network() -> None:
    with pytest.raises(CaptureError, match="is a neuron, not a network"):
        capture(LIF().eval(), (1, 2, 2))


class Branches(nn.Module):
    """A branch on data: no graph can say it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 3 else x


def test_a_branch_on_data_cannot_be_traced() -> None:
    with pytest.raises(CaptureError, match=r"'middle': torch\.export cannot trace Branches"):
        capture(Net(Branches()).eval(), (1, 2, 2))
