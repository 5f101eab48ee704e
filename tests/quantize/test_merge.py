"""Linear maps in a row become one, with their edges; what cannot is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import MismatchError, QuantizeError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.merging.linear_map import added, as_linear_map, composed  # noqa: E402
from lapilli.quantize.merging.merge import merge  # noqa: E402
from lapilli.quantize.pytorch import agreement  # noqa: E402
from lapilli.quantize.pytorch.agreement import check_agreement  # noqa: E402
from lapilli.quantize.pytorch.interpreter import Program  # noqa: E402

pytestmark = pytest.mark.torch


class BNAndPad(nn.Module):
    """Batch norm, then a frame of what it gives for silence: RepVGG's, in Meta-SpikeFormer."""

    def __init__(self, channels: int, pixels: int = 1) -> None:
        super().__init__()
        self.bn, self.pixels = nn.BatchNorm2d(channels), pixels

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        mean, var = self.bn.get_buffer("running_mean"), self.bn.get_buffer("running_var")
        pad = self.bn.bias.detach() - mean * self.bn.weight.detach() / torch.sqrt(var + self.bn.eps)
        y = F.pad(y, [self.pixels] * 4)
        pad = pad.view(1, -1, 1, 1)
        y[:, :, 0 : self.pixels, :] = pad
        y[:, :, -self.pixels :, :] = pad
        y[:, :, :, 0 : self.pixels] = pad
        y[:, :, :, -self.pixels :] = pad
        return y


class RepConv(nn.Sequential):
    """1x1, batch norm with padding, depthwise 3x3, 1x1, batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 1, bias=False),
            BNAndPad(channels),
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ),
        )


class Branches(nn.Module):
    """RepVGG in training form: 3x3, 1x1 and the identity, added, then a batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(channels, channels, 1, groups=2)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.wide(x) + self.narrow(x) + x)
        return y


def _conv(*args: Any, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*args, **options)


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "rep-conv": lambda: RepConv(4),
    "rep-conv-and-norm": lambda: nn.Sequential(RepConv(4), nn.BatchNorm2d(4)),
    "depthwise-pointwise": lambda: nn.Sequential(
        _conv(4, 4, 5, padding=2, groups=4, bias=False), _conv(4, 6, 1), nn.BatchNorm2d(6)
    ),
    "pointwise-depthwise": lambda: nn.Sequential(
        _conv(4, 6, 1, bias=False), _conv(6, 6, 3, padding=1, groups=6)
    ),
    "grouped-in-a-row": lambda: nn.Sequential(
        _conv(4, 8, 3, groups=2), _conv(8, 4, 2, groups=2), nn.BatchNorm2d(4)
    ),
    "strides": lambda: nn.Sequential(_conv(4, 4, 3, stride=2, padding=1), _conv(4, 5, 2, stride=2)),
    "dilated": lambda: nn.Sequential(_conv(4, 4, 2, dilation=2), _conv(4, 4, 2, dilation=1)),
    "three": lambda: nn.Sequential(*(_conv(4, 4, 2) for _ in range(3))),
    "norm-of-spikes": lambda: nn.Sequential(nn.BatchNorm2d(4), _conv(4, 4, 2)),
    "norm-of-spikes-alone": lambda: nn.BatchNorm2d(4),
    "two-norms": lambda: nn.Sequential(_conv(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
    "branches": lambda: Branches(4),
    "average-before-pointwise": lambda: nn.Sequential(nn.AvgPool2d(2, 1), _conv(4, 4, 1)),
}


class Net(nn.Module):
    """Images, stem neuron, something linear, neuron, head."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.stem_lif = nn.Conv2d(1, 4, 3, padding=1), LIF(v_threshold=0.3)
        self.middle, self.lif = middle, LIF(v_threshold=0.2)
        self.head = nn.LazyLinear(3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.repeat(4, 1, 1, 1, 1)
        x = self.stem_lif(self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        y = self.lif(self.middle(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        logits: Tensor = self.head(y.flatten(2)).mean(0)
        return logits


def build(middle: nn.Module, seed: int = 0) -> nn.Module:
    """Deterministic, with batch norms that have seen data, in evaluation mode."""
    torch.manual_seed(seed)
    model = Net(middle)
    with torch.no_grad():
        model(torch.randn(2, 1, 7, 7))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.get_buffer("running_mean").normal_(0, 0.3)
                module.get_buffer("running_var").uniform_(0.3, 1.5)
                module.weight.uniform_(-1.5, 1.5)
                module.bias.normal_(0.2, 0.3)
            elif isinstance(module, nn.Conv2d):
                module.weight.mul_(2)
    return model.eval()


def images(count: int = 8, seed: int = 1) -> Tensor:
    drawn: Tensor = torch.randn(count, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    return drawn * 1.5


@pytest.mark.parametrize("name", MIDDLES)
def test_merged_maps_are_spike_exact(name: str, exact_on: Callable[..., int]) -> None:
    torch.manual_seed(0)
    made = quantize(build(MIDDLES[name]()), images())
    assert exact_on(made, images(5, seed=7)) > 4000
    assert NoteKind.CAPTURED_PROGRAM in {note.kind for note in made.notes}
    maps = [n.name for n in made.network.graph.nodes if isinstance(n.op, ops.Conv2d | ops.Linear)]
    assert len(maps) == 3, maps


@pytest.mark.parametrize("name", MIDDLES)
def test_the_merged_program_computes_what_the_author_wrote(name: str) -> None:
    torch.manual_seed(0)
    model = build(MIDDLES[name]()).double()
    merged = merge(capture(model, (1, 7, 7)))
    from lapilli.model.capture import program

    weights = {
        c.name: (
            torch.from_numpy(merged.array(c.op.weight)),
            None if c.op.bias is None else torch.from_numpy(merged.array(c.op.bias)),
        )
        for c in merged.calls.values()
        if isinstance(c.op, program.Synapse)
    }
    given, seen = images().double(), {}
    with torch.no_grad():
        for which, module in (("author", model), ("merged", Program(merged, model, weights))):
            hook = model.get_submodule("lif").register_forward_hook(
                lambda m, a, y, w=which: seen.update({w: a[0]})
            )
            module(given)
            hook.remove()
    difference = (seen["author"] - seen["merged"]).abs().max()
    assert seen["author"].std() > 0.1
    assert difference < 1e-12  # a sum in another order; an edge that is wrong is 1e10 larger


class Reals(nn.Module):
    """Spikingformer's end: a real stream, its mean, a linear head, no neuron between."""

    def __init__(self, *, first: bool, width: int = 8) -> None:
        super().__init__()
        self.stem, self.lif = nn.Linear(49, width), LIF(v_threshold=0.3)
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.lif2 = LIF(v_threshold=0.3)
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(width, 3)
        self.first = first

    def forward(self, images: Tensor) -> Tensor:
        x = self.lif(self.stem(images.flatten(1).repeat(4, 1, 1)))
        x = self.one(x)
        x = x + self.two(self.lif2(x))
        if self.first:
            logits: Tensor = self.head(x.mean(0))
            return logits
        logits = self.head(x)
        return logits.mean(0)


@pytest.mark.parametrize("first", [True, False])
def test_a_head_on_a_real_stream_multiplies_on_the_host(
    first: bool, exact_on: Callable[..., int]
) -> None:
    torch.manual_seed(1)
    made = quantize(Reals(first=first).eval(), images())
    assert exact_on(made, images(5, seed=7)) > 1000
    graded = [n.name for n in made.network.graph.nodes if getattr(n.op, "graded", False)]
    assert graded == ["stem", "head"]
    assert NoteKind.CAPTURED_PROGRAM not in {note.kind for note in made.notes}


def test_where_a_head_has_no_bits_left_its_stream_gives_some_up(
    exact_on: Callable[..., int],
) -> None:
    """Of 512 channels; one member of the stream is 1,024 times as large as the other."""
    torch.manual_seed(1)
    model = Reals(first=True, width=512).eval()
    with torch.no_grad():
        model.two.weight.mul_(1 << 10)
    made = quantize(model, images())
    assert exact_on(made, images(5, seed=7)) > 1000
    head = made.network.graph["head"].op
    assert isinstance(head, ops.Linear)
    assert head.weight.range.bits == 2
    assert made.network.graph.types["head"].range.bits <= 32
    notes = {note.path: note.text for note in made.notes if note.kind is NoteKind.WEIGHT_BITS}
    assert set(notes) == {"head", "one"}
    assert "so that the value of logits fits" in notes["one"]


@pytest.mark.parametrize(
    ("middle", "problem"),
    [
        (lambda: nn.Sequential(_conv(4, 4, 3, padding=1), _conv(4, 4, 3, padding=1)),
         "pads the result of the first with zeros"),
        (lambda: nn.Sequential(_conv(4, 4, 1), _conv(4, 4, 3, padding=1)),
         "pads the result of the first with zeros"),
        (lambda: nn.Sequential(_conv(4, 4, 3), nn.ZeroPad2d(1), _conv(4, 4, 3)),
         "pads the result of a map with a kernel"),
        (lambda: nn.Sequential(_conv(4, 4, 1), nn.ZeroPad2d(1), _conv(4, 4, 3)),
         "pads with another value"),
        (lambda: nn.Sequential(_conv(4, 4, 1, bias=False), nn.ZeroPad2d((0, 1, 0, 1)),
                               _conv(4, 4, 3)), "uneven"),
        (lambda: nn.Sequential(_conv(4, 4, 3), nn.Flatten(2), nn.Linear(25, 25)),
         "is reshaped or transposed in between"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_named(middle: Callable[[], nn.Module], problem: str) -> None:
    torch.manual_seed(0)
    module = middle()
    last = len(list(module.children())) - 1
    with pytest.raises(QuantizeError, match=problem) as caught:
        quantize(build(module), images())
    assert caught.value.layer in (f"middle.{last}", f"middle.{last - 1}")


def test_kernels_compose_as_their_convolutions() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 11, 9, generator=generator).double()
    first = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2).double()
    second = nn.Conv2d(6, 8, (2, 3), stride=(1, 2), groups=2).double()
    with torch.no_grad():
        forms = []
        for conv in (first, second):
            op = program.Synapse(weight="w", bias="b", space=2, stride=conv.stride,  # type: ignore[arg-type]
                         padding=conv.padding, groups=2)  # type: ignore[arg-type]  # fmt: skip
            forms.append(as_linear_map(op, conv.weight.numpy(), conv.bias.numpy()))  # type: ignore[union-attr]
        whole = composed(*forms)
        got = F.conv2d(x, torch.from_numpy(whole.weight), torch.from_numpy(whole.bias),
                       whole.stride, whole.padding, 1, whole.groups)  # fmt: skip
        assert torch.allclose(got, second(first(x)), rtol=0, atol=1e-12)
        with pytest.raises(ValueError, match="windows differ"):
            added(*forms)


def test_the_program_is_the_authors_forward_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    captured = capture(build(RepConv(4)), (1, 7, 7))
    check_agreement(captured)

    class Wrong(Program):
        def _padded(self, op: Any, x: Tensor) -> Tensor:
            (top, left), (bottom, right) = op.before, op.after
            return F.pad(x, (left, right, top, bottom))

    monkeypatch.setattr(agreement, "Program", Wrong)
    with pytest.raises(MismatchError, match="not the author's forward"):
        check_agreement(captured)


class _Gain(nn.Module):
    """A factor that is learned, in front of a neuron: the program holds its value, no name."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.body, self.gain = nn.Conv2d(4, 4, 3, padding=1), nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) * self.gain
        return y


@pytest.mark.parametrize(("gain", "times"), [(0.5, 0), (0.3, 1)])
def test_a_program_that_holds_values_of_parameters_is_captured_again(
    gain: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    captured = capture(build(_Gain(gain)), (1, 7, 7))
    assert not captured.constants
    made = []

    def noted(*args: Any, **options: Any) -> Any:
        made.append(capture(*args, **options))
        return made[-1]

    monkeypatch.setattr(agreement, "capture", noted)
    check_agreement(captured)
    assert len(made) == times


def test_a_neuron_is_compared_when_both_sides_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one neuron's values wait, however deep the model is."""
    torch.manual_seed(0)
    captured = capture(build(RepConv(4)), (1, 7, 7))
    most, compared = [], []

    class Watched(agreement._Pairs):
        def add(self, key: tuple[str, int], call: Any) -> None:
            super().add(key, call)
            most.append(len(self.waiting))
            compared.append(len(self.compared))

    monkeypatch.setattr(agreement, "_Pairs", Watched)
    check_agreement(captured)
    neurons = sum(isinstance(c.op, program.Neuron) for c in captured.calls.values())
    assert neurons > 1
    assert max(most) == 1
    assert compared[-1] == neurons


@pytest.mark.parametrize("wrong", ["spikes", "logits", "lost"])
def test_every_way_to_differ_is_found(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    torch.manual_seed(0)
    captured = capture(build(RepConv(4)), (1, 7, 7))

    class Wrong(Program):
        def _value(self, call: Any, args: list[Tensor]) -> Tensor:
            off = 1e-9 if wrong == "logits" and call.name == self.captured_program.output else 0.0
            y: Tensor = super()._value(call, args) + off
            return y

        def _fired(self, call: Any, path: str, x: Tensor) -> Tensor:
            if wrong == "lost":
                return x * 0
            spikes: Tensor = super()._fired(call, path, 1 - x if wrong == "spikes" else x)
            return spikes

    monkeypatch.setattr(agreement, "Program", Wrong)
    problem = {"spikes": "is not the author's forward", "logits": "logits are not those",
               "lost": "never calls it"}[wrong]  # fmt: skip
    with pytest.raises(MismatchError, match=problem):
        check_agreement(captured)
