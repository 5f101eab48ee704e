"""How a module is called: time in its images, events, several results, batches of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, InputError, QuantizeError  # noqa: E402
from lapilli.ir.types import Kind  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.pytorch.float_module import FloatModule  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

_T = 5


class Frames(nn.Module):
    """(T, B, 2, 6, 6) inside; outside as `layout` says; `end` makes what is returned."""

    def __init__(self, layout: str, end: Callable[[Tensor, Any], Any] | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.end = end or (lambda y, hook: y.mean(0))
        self.conv, self.lif = nn.Conv2d(2, 4, 3, padding=1), LIF(v_threshold=0.3)
        self.fc, self.fc_lif = nn.Linear(4 * 36, 10), LIF(v_threshold=0.2)
        self.head = nn.Linear(10, 3)

    def forward(self, images: Tensor, hook: dict[str, Tensor] | None = None) -> Any:
        x = images
        if self.layout == "BCHW":
            x = x.unsqueeze(1).repeat(1, _T, 1, 1, 1)
        if self.layout != "TBCHW":
            x = x.permute(1, 0, 2, 3, 4)
        x = self.lif(self.conv(x.flatten(0, 1)).view(*x.shape[:2], 4, 6, 6))
        x = self.fc_lif(self.fc(x.flatten(2)))
        return self.end(self.head(x), hook)


def frames(layout: str, end: Callable[[Tensor, Any], Any] | None = None) -> nn.Module:
    torch.manual_seed(2)
    model = Frames(layout, end)
    with torch.no_grad():
        model.fc.weight.mul_(3)
    return model.eval()


def given(layout: str, count: int, seed: int) -> Tensor:
    """Images as `quantize` takes them: time second, if they have time."""
    shape = (count, 2, 6, 6) if layout == "BCHW" else (count, _T, 2, 6, 6)
    drawn: Tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn


@pytest.mark.parametrize("layout", ["BCHW", "BTCHW", "TBCHW"])
def test_layouts_are_spike_exact(layout: str, exact_on: Callable[..., int]) -> None:
    made = quantize(frames(layout), given(layout, 12, 0), layout=layout)
    graph = made.network.graph
    assert graph.T == _T
    assert graph.types[graph.inputs[0]].shape == (2, 6, 6)
    assert exact_on(made, given(layout, 6, 1)) > 10_000


def test_steps_differ(exact_on: Callable[..., int]) -> None:
    made = quantize(frames("BTCHW"), given("BTCHW", 12, 0), layout="BTCHW")
    integers = np.zeros((1, _T, 2, 6, 6), np.int64)
    integers[0, 3] = made.network.input.hi
    lif = made.reference.run_images(integers).values["lif"]
    assert lif[3].any()
    assert not (lif[3] == lif[0]).all()


@pytest.mark.parametrize("layout", ["BTCHW", "TBCHW"])
def test_events_stay_what_they_are(layout: str, exact_on: Callable[..., int]) -> None:
    generator = torch.Generator().manual_seed(4)
    events = torch.poisson(torch.full((20, _T, 2, 6, 6), 0.8), generator=generator)
    made = quantize(frames(layout), events[:10], layout=layout, counts=True)
    graph, source = made.network.graph, made.network.input

    most = int(events[:10].max())
    assert graph.types[graph.inputs[0]].kind is Kind.COUNTS
    assert (source.lo, source.hi, source.exponent) == (0, most, 0)
    assert [n.op.graded for n in graph.nodes if isinstance(n.op, ops.Conv2d)] == [False]
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 2, 8, 16)
    assert np.array_equal(source.encode(pixels), np.minimum(pixels.astype(np.int64), most))
    assert exact_on(made, events[10:]) > 10_000

    compared = compare(
        made.network,
        made.reference,
        Reference().compile(made.network.graph),
        events[10:].numpy().astype(np.uint8),
    )
    assert compared.exact
    with pytest.raises(InputError, match="images of 3 steps; the graph takes 5"):
        made.network.encode(np.zeros((1, 3, 2, 6, 6), np.uint8))


def _events(*shape: int) -> Tensor:
    """One event or none for each pixel."""
    flat: Tensor = torch.arange(math.prod(shape)) % 2
    return flat.reshape(shape).float()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda e: e + 0.5, "must be whole, from 0 to 255"),
        (lambda e: e - 1, "must be whole"),
        (lambda e: e * 0, r"reach 0\.0; are they images"),
        (lambda e: e + 256, "must be whole"),
    ],
)
def test_what_are_no_events(change: Callable[[Tensor], Tensor], problem: str) -> None:
    events = change(_events(2, _T, 2, 6, 6))
    with pytest.raises(QuantizeError, match=problem):
        quantize(frames("BTCHW"), events, layout="BTCHW", counts=True)


def test_events_are_not_normalised() -> None:
    with pytest.raises(QuantizeError, match="leave mean and std out"):
        quantize(frames("BTCHW"), _events(2, _T, 2, 6, 6), layout="BTCHW", counts=True, mean=(0.5,))


@pytest.mark.parametrize(
    ("layout", "shape", "problem"),
    [
        ("BTCHW", (4, 2, 6, 6), r"calibration must be \(count, T, C, H, W\)"),
        ("BCHW", (4, 5, 2, 6, 6), r"calibration must be \(count, C, H, W\)"),
    ],
)
def test_images_that_do_not_fit_the_layout(
    layout: str, shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(QuantizeError, match=problem):
        quantize(frames(layout), torch.ones(shape), layout=layout)


def test_a_layout_that_is_none() -> None:
    with pytest.raises(CaptureError, match="layout 'CHW' is no order of axes"):
        quantize(frames("BCHW"), _events(2, 2, 6, 6), layout="CHW")


def test_one_step_of_frames() -> None:
    with pytest.raises(CaptureError, match="a single time step; drop that axis"):
        quantize(frames("BTCHW"), _events(2, 1, 2, 6, 6), layout="BTCHW")


# ---- what is returned ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "output", "leaf", "notes"),
    [
        (lambda y, hook: (y.mean(0), hook), None, 0, ("for the logits",)),
        (lambda y, hook: (hook, y.mean(0)), None, 1, ("for the logits",)),
        (lambda y, hook: (y, y.mean(0)), None, 1, ("for the logits",)),
        (lambda y, hook: [y.mean(0), y.mean(0) * 2], 1, 1, ()),
        (lambda y, hook: {"aux": y.mean(0) * 3, "logits": y.mean(0)}, "logits", 1, ()),
        (lambda y, hook: {"deep": {"x": y.sum(2), "y": (y.mean(0),)}}, "deep", 1, ()),
        (lambda y, hook: y, None, 0, ("mean over T",)),
        (lambda y, hook: y.sum(0), None, 0, ()),
    ],
)
def test_what_a_model_returns(
    end: Callable[[Tensor, Any], Any],
    output: int | str | None,
    leaf: int,
    notes: tuple[str, ...],
    exact_on: Callable[..., int],
) -> None:
    made = quantize(frames("BCHW", end), given("BCHW", 12, 0), result=output)
    assert made.reference.signature.leaf == leaf
    assert exact_on(made, given("BCHW", 6, 1)) > 10_000
    assert [
        said
        for said in ("for the logits", "mean over T")
        if any(said in n.text for n in made.notes)
    ] == [word for word in ("for the logits", "mean over T") if word in notes]


@pytest.mark.parametrize("output", [7, "nothing"])
def test_a_result_that_is_not_there(output: int | str) -> None:
    model = frames("BCHW", lambda y, hook: {"logits": y.mean(0)})
    with pytest.raises(CaptureError, match=f"returns no output {output!r}"):
        quantize(model, given("BCHW", 4, 0), result=output)


# ---- state that leaks ------------------------------------------------------------------------


class Leaks(nn.Module):
    """QKFormer's line: `proj_lif` sees (T*B, C, N), so that state goes from sample to sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv1d(1, 6, 1), LIF(v_threshold=0.3)
        self.proj_conv, self.proj_bn = nn.Conv1d(6, 6, 1), nn.BatchNorm1d(6)
        self.proj_lif = LIF(v_threshold=0.4)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        T, B = 4, images.shape[0]
        x = images.flatten(1)[None, :, None].repeat(T, 1, 1, 1)  # T B 1 N
        x = self.lif(self.conv(x.flatten(0, 1)).reshape(T, B, 6, -1))
        x = x.flatten(0, 1)
        x = self.proj_lif(self.proj_bn(self.proj_conv(x))).reshape(T, B, 6, -1)
        logits: Tensor = self.head(x.mean(3).mean(0))
        return logits


def leaking() -> nn.Module:
    torch.manual_seed(3)
    return Leaks().eval()


def test_a_leak_is_named_with_its_remedy() -> None:
    with pytest.raises(CaptureError, match=r"integrates over axis 0 of \[T\*B, 6, 16\]") as caught:
        quantize(leaking(), torch.randn(4, 1, 4, 4))
    assert caught.value.path == "proj_lif"
    assert "per_sample=True" in str(caught.value)


def test_per_sample_is_what_a_batch_of_one_does(exact_on: Callable[..., int]) -> None:
    images = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2
    model = leaking()
    made = quantize(model, images[:6], per_sample=True)
    assert exact_on(made, images[6:]) > 4000
    (note,) = (n for n in made.notes if n.path == "proj_lif" and not n.is_warning)
    assert "state leaks from sample to sample; captured per sample" in note.text
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert not torch.equal(together, alone)  # the leak is real: batches change the answer
    name = made.network.graph.inputs[0]
    assert isinstance(made.network.graph[name].op, ops.Input)


class Averages(nn.Module):
    """STEP's SEMM for ImageNet: the mean over T*B, so that a batch has one answer, [classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif, self.head = nn.Conv1d(1, 6, 1), LIF(v_threshold=0.3), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)[None, :, None].repeat(4, 1, 1, 1).flatten(0, 1)
        x = self.lif(self.conv(x).unflatten(0, (4, -1))).flatten(0, 1)
        logits: Tensor = self.head(x.mean(2).mean(0))
        return logits


def test_a_mean_over_time_and_batch_is_of_each_sample(exact_on: Callable[..., int]) -> None:
    images = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2
    torch.manual_seed(3)
    model = Averages().eval()
    with pytest.raises(CaptureError, match=r"it sums over the batch: \[T\*B, 6\]; or ask"):
        quantize(model, images[:6])
    made = quantize(model, images[:6], per_sample=True)
    assert exact_on(made, images[6:]) > 4000
    (note,) = (n for n in made.notes if "it sums over the batch" in n.text)
    assert "captured per sample" in note.text
    assert made.network.graph.types["logits"].shape == (3,)


class _Gained(nn.Module):
    """A linear map whose weights are computed: the captured program runs in PyTorch."""

    def __init__(self, own: nn.Linear) -> None:
        super().__init__()
        self.own, self.gain = own, nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.own.weight * self.gain, self.own.bias)


def test_the_float_module_is_called_as_the_author_wrote_it() -> None:
    """Also where the reference is called otherwise, because the program runs in its place."""
    model = frames("TBCHW", lambda y, hook: {"steps": y, "logits": y.mean(0) * 2})
    assert isinstance(model, Frames)
    model.head = _Gained(model.head)  # type: ignore[assignment]
    images = given("TBCHW", 6, 0)
    made = quantize(model, images, layout="TBCHW", result="logits")
    assert made.reference.signature != made.reference.authors == made.signature
    run = FloatModule.beside(made.reference, model, lambda _: images).run(np.zeros(0, np.uint8))
    with torch.no_grad():
        want = model(images.transpose(0, 1))["logits"]
    assert run.logits == pytest.approx(want.numpy(), rel=1e-6)
    assert {node: s.shape[:2] for node, s in run.spikes.items()} == dict.fromkeys(
        ("lif", "fc_lif"), (_T, 6)
    )
    assert 0 < run.spikes["fc_lif"].mean() < 1
