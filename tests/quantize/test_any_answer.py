"""Answers of any shape, several of them, and what is taken of their time steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.check_golden import check  # noqa: E402
from lapilli.deploy.comparison.compare import Comparison, compare_all  # noqa: E402
from lapilli.deploy.comparison.golden import write_golden  # noqa: E402
from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir.errors import CaptureError, MismatchError, UnsupportedError  # noqa: E402
from lapilli.ir.network import Task  # noqa: E402
from lapilli.ir.recording import Recording  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.replay import reference_of  # noqa: E402

pytestmark = pytest.mark.torch

_T, _K = 4, 3


@dataclass
class Found:
    """What nobody told torch of."""

    boxes: Tensor
    scores: Tensor


class Maps(nn.Module):
    """Per step: a map (T, B, K, H, W), logits of tokens (T, B, N, K), logits (T, B, K), spikes."""

    def __init__(self, end: Callable[..., Any], *, merged: bool = False) -> None:
        super().__init__()
        self.end = end
        self.conv, self.lif = nn.Conv2d(2, 5, 3, padding=1), LIF(v_threshold=0.3)
        self.mid, self.lif2 = nn.Conv2d(5, 6, 3, padding=1), LIF(v_threshold=0.2)
        self.seg = nn.Conv2d(6, _K, 1)
        self.tokens, self.head = nn.Linear(6, _K), nn.Linear(6 * 16, _K)
        self.again = nn.Conv2d(5, 5, 1) if merged else nn.Identity()

    def forward(self, images: Tensor) -> Any:
        B = images.shape[0]
        x = images.unsqueeze(0).repeat(_T, 1, 1, 1, 1).flatten(0, 1)
        x = self.lif(self.again(self.conv(x)).reshape(_T, B, 5, 4, 4))
        x = self.lif2(self.mid(x.flatten(0, 1)).reshape(_T, B, 6, 4, 4))
        maps = self.seg(x.flatten(0, 1)).reshape(_T, B, _K, 4, 4)
        tokens = self.tokens(x.flatten(3).transpose(2, 3))
        return self.end(maps, tokens, self.head(x.flatten(2)), x)


def maps(end: Callable[..., Any], *, merged: bool = False) -> Maps:
    torch.manual_seed(5)
    model = Maps(end, merged=merged).eval()
    with torch.no_grad():
        model.mid.weight.mul_(3)
    return model


def calibration(count: int = 10) -> Tensor:
    made: Tensor = torch.rand((count, 2, 4, 4), generator=torch.Generator().manual_seed(1))
    return made


def pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 2, 4, 4), np.uint8)


def equal_everywhere(made: Quantized, given: np.ndarray) -> list[Comparison]:
    graph = made.network.graph
    others = {
        name: target(name).compile(graph) for name in ("reference", "event-driven", "onnx", "fast")
    }
    done = compare_all(made.network, made.reference, others, given)
    for comparison in done:
        comparison.require()
    return done


ENDS: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[int, ...]]] = {
    "a map, mean by the author": (lambda m, t, y, s: m.mean(0), {}, (_K, 4, 4)),
    "a map of each step, mean": (lambda m, t, y, s: m, {}, (_K, 4, 4)),
    "a map of each step": (lambda m, t, y, s: m, {"over_time": "steps"}, (_K, 4, 4)),
    "tokens": (lambda m, t, y, s: t.sum(0), {}, (16, _K)),
    "tokens of each step, batch first": (
        lambda m, t, y, s: t.transpose(0, 1), {"over_time": "steps"}, (16, _K),
    ),
    "logits, sum": (lambda m, t, y, s: y, {"over_time": "sum"}, (_K,)),
    "logits, last": (lambda m, t, y, s: y, {"over_time": "last"}, (_K,)),
    "logits, last two": (lambda m, t, y, s: y, {"over_time": "last:2"}, (_K,)),
    "logits, last of the author": (lambda m, t, y, s: y[-1], {}, (_K,)),
    "spikes of each step": (lambda m, t, y, s: s, {"over_time": "steps"}, (6, 4, 4)),
    "channels last": (lambda m, t, y, s: m.mean(0).permute(0, 2, 3, 1), {}, (4, 4, _K)),
    "samples last": (lambda m, t, y, s: y.mean(0).T, {}, (_K,)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "merged"),
    [*((name, False) for name in ENDS), ("a map of each step", True), ("logits, last two", True)],
)
def test_answers_are_exact(name: str, merged: bool, tmp_path: Path) -> None:
    end, options, shape = ENDS[name]
    model = maps(end, merged=merged)
    made = quantize(model, calibration(), **options)
    network, given = made.network, pixels()
    (output,) = network.graph.outputs
    assert network.graph.types[output].shape == shape
    done = equal_everywhere(made, given)

    recording = made.reference.run(network.encode(given))
    (answer,) = network.read(recording).values()
    counted = network.graph.T if options.get("over_time") in ("steps", "last:2") else 1
    assert recording.values[output].shape == (counted, len(given), *shape)
    assert len(np.unique(answer)) > 1 + (name != "spikes of each step")
    neurons = sum(network.graph.types[n].shape[0] * 16 for n in network.graph.firing)
    firing = 3 * _T * len(given) * neurons
    own = 0 if output in network.graph.firing else recording.values[output].size
    assert {c.compared for c in done} == {firing + own}

    save_network(network, tmp_path / "n.lapilli")
    loaded = load_network(tmp_path / "n.lapilli")
    assert (loaded.digest, loaded.answers) == (network.digest, network.answers)
    again = reference_of(loaded, model).run(loaded.encode(given))
    assert np.array_equal(next(iter(loaded.read(again).values())), answer)

    real = _float(model, given, options.get("over_time", "mean"), name)
    ours = answer * float(network.every_answer[0].scale)
    assert np.corrcoef(ours.ravel(), real.ravel())[0, 1] > 0.8  # the author's, but for rounding
    assert 0.7 < np.std(ours) / np.std(real) < 1.4


def _float(model: nn.Module, given: np.ndarray, over_time: str, name: str) -> np.ndarray:
    """What the author's own module answers."""
    with torch.no_grad():
        real = model(torch.from_numpy(given).float() / 255).double()
    if name == "samples last":
        real = real.T
    elif name == "tokens of each step, batch first":
        real = real.transpose(0, 1)
    elif tuple(real.shape[:2]) == (_T, len(given)):
        pools: dict[str, Callable[[Tensor], Tensor]] = {
            "mean": lambda y: y.mean(0), "sum": lambda y: y.sum(0), "last": lambda y: y[-1],
            "last:2": lambda y: y[-2:].mean(0), "steps": lambda y: y,
        }  # fmt: skip
        real = pools[over_time](real)
    found: np.ndarray = real.numpy()
    return found


def test_what_an_answer_is_about() -> None:
    tasks = {name: quantize(maps(e[0]), calibration(), **e[1]).network for name, e in ENDS.items()}
    assert tasks["a map, mean by the author"].task is Task.MAP
    assert tasks["a map of each step"].task is Task.VALUES
    assert tasks["logits, last two"].task is Task.CLASSES
    assert tasks["tokens"].task is Task.VALUES
    assert tasks["tokens"].classes == ()
    assert tasks["a map, mean by the author"].classes == ("0", "1", "2")
    assert tasks["logits, last two"].answers[0].weights == (0, 0, 1, 1)


# ---- several ----------------------------------------------------------------------------------

SEVERAL: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
    "a dictionary": (
        lambda m, t, y, s: {"logits": y.mean(0), "map": m.mean(0)}, {"result": "*"},
        ("logits", "map"),
    ),
    "a tuple": (lambda m, t, y, s: (y.mean(0), m), {"result": "*"}, ("0", "1")),
    "some of a list": (
        lambda m, t, y, s: [y.mean(0), None, t.mean(0)], {"result": [2, 0]}, ("2", "0"),
    ),
    "nested, and by name over time": (
        lambda m, t, y, s: {"out": {"map": m, "steps": t}, "y": y},
        {"result": "*", "over_time": {"out.steps": "steps", "y": "last:3"}},
        ("out.map", "out.steps", "y"),
    ),
    "a dataclass": (
        lambda m, t, y, s: Found(boxes=t.mean(0), scores=y.mean(0)), {"result": "*"},
        ("boxes", "scores"),
    ),
    "one value twice, and a neuron's spikes": (
        lambda m, t, y, s: (y, y, s),
        {"result": "*", "over_time": {"0": "last", "1": "steps", "2": "steps"}},
        ("0", "1", "2"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "merged"),
    [*((name, False) for name in SEVERAL), ("nested, and by name over time", True)],
)
def test_several_answers_are_exact(name: str, merged: bool, tmp_path: Path) -> None:
    end, options, names = SEVERAL[name]
    model = maps(end, merged=merged)
    made = quantize(model, calibration(), **options)
    network, given = made.network, pixels()
    assert tuple(a.name for a in network.answers) == names
    equal_everywhere(made, given)
    answers = network.read(made.reference.run(network.encode(given)))
    assert tuple(answers) == names
    ran = target("event-driven").compile(network.graph).run(network.encode(given))
    for key, value in network.read(ran).items():
        assert np.array_equal(value, answers[key])

    save_network(network, tmp_path / "n.lapilli")
    loaded = load_network(tmp_path / "n.lapilli")
    assert (loaded.digest, loaded.answers) == (network.digest, network.answers)
    reference_of(loaded, model)
    made_golden = write_golden(network, given, tmp_path / "golden")
    golden = np.load(made_golden.files[0])
    assert check(golden, golden) == 0
    with pytest.raises(UnsupportedError):
        _nir(network, tmp_path / "x.nir")


def _nir(network: Any, path: Path) -> None:
    from lapilli.export.nir.write.writer import save_nir

    save_nir(network, path)


def test_a_fault_in_any_answer_is_noticed(tmp_path: Path) -> None:
    """One integer of one answer, at a step that only this answer looks at."""
    end, options, _ = SEVERAL["nested, and by name over time"]
    made = quantize(maps(end), calibration(), **options)
    network, given = made.network, pixels()
    right = target("reference").compile(network.graph)

    class Wrong:
        def __init__(self, node: str, t: int) -> None:
            self.node, self.t = node, t

        def run(self, inputs: Any) -> Recording:
            seen = right.run(inputs)
            values = {name: array.copy() for name, array in seen.values.items()}
            values[self.node][self.t, 1] += 1
            return Recording(values, seen.membranes, seen.currents)

    for node, t in zip(network.graph.outputs, (-1, 0, 1), strict=True):
        (found,) = compare_all(network, made.reference, {"wrong": Wrong(node, t)}, given)
        assert found.first is not None
        assert (found.first.node, found.first.t) == (node, t % _T)
        with pytest.raises(MismatchError):
            found.require()

    write_golden(network, given, tmp_path)
    golden = dict(np.load(tmp_path / "golden.npz"))
    yours = {**golden, "steps:out.steps": golden["steps:out.steps"].copy()}
    yours["steps:out.steps"][1, 0] += 1
    assert "step 1" in str(check(_File(golden), _File(yours)))


class _File(dict):  # type: ignore[type-arg]
    @property
    def files(self) -> list[str]:
        return list(self)


# ---- the host's functions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "dropped"),
    [
        (lambda m, t, y, s: y.mean(0).softmax(-1), "softmax"),
        (lambda m, t, y, s: torch.sigmoid(y.mean(0)), "sigmoid"),
        (lambda m, t, y, s: torch.log_softmax(m.mean(0), 1), "log_softmax"),
        (lambda m, t, y, s: m.mean(0).argmax(1), "argmax"),
        (lambda m, t, y, s: nn.functional.softmax(y.mean(0), -1).argmax(-1), "argmax of softmax"),
    ],
)
def test_functions_at_the_end_are_the_hosts(end: Callable[..., Any], dropped: str) -> None:
    made = quantize(maps(end), calibration())
    assert any(f"its {dropped} at the end is left to the host" in str(n) for n in made.notes)
    equal_everywhere(made, pixels())
    assert made.network.class_count == _K


@pytest.mark.parametrize(
    ("end", "options", "problem"),
    [
        (lambda m, t, y, s: y.softmax(-1), {}, "returns softmax of each step, and mean over time"),
        (lambda m, t, y, s: y.flatten(0, 1), {}, r"returns \[T\*B, 3\]; expected \[B, classes\]"),
        (lambda m, t, y, s: y, {"over_time": "median"}, "over_time 'median' is none of mean"),
        (lambda m, t, y, s: y, {"over_time": "last:9"}, "has 4 time steps, fewer than last:9"),
        (lambda m, t, y, s: {"a": y}, {"result": ["a", "b"]}, "returns no output 'b'"),
        (lambda m, t, y, s: {"a": y}, {"result": ["a", "a"]}, "needs results that differ"),
        (
            lambda m, t, y, s: {"a": y, "b": m},
            {"result": "*", "over_time": {"c": "sum"}},
            "over_time is given for 'c'; its answers are a, b",
        ),
        (
            lambda m, t, y, s: {"a": y, "b": torch.zeros(3)}, {"result": "*"},
            "returns 'b' a constant",
        ),
    ],
)  # fmt: skip
def test_what_is_no_answer(end: Callable[..., Any], options: dict[str, Any], problem: str) -> None:
    with pytest.raises(CaptureError, match=problem):
        quantize(maps(end), calibration(), **options)


def test_the_scale_of_a_few_steps_is_that_of_their_mean() -> None:
    one = quantize(maps(lambda m, t, y, s: y), calibration(), over_time="last").network
    two = quantize(maps(lambda m, t, y, s: y), calibration(), over_time="last:2").network
    assert two.logit_scale == one.logit_scale * Fraction(1, 2)


# ---- membranes -----------------------------------------------------------------------------------


class Shows(nn.Module):
    """A loop that keeps spikes and membranes of its last neuron."""

    def __init__(self, end: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        snntorch = pytest.importorskip("snntorch")
        self.fc, self.out, self.end = nn.Linear(32, 8), nn.Linear(8, 3), end
        self.lif = snntorch.Leaky(beta=0.5, threshold=0.3)
        self.last = snntorch.Leaky(beta=0.5, threshold=0.5)
        with torch.no_grad():
            self.out.weight.mul_(3)

    def forward(self, x: Tensor) -> Any:
        first, second = self.lif.init_leaky(), self.last.init_leaky()
        spikes, membranes = [], []
        for _ in range(_T):
            s, first = self.lif(self.fc(x.flatten(1)), first)
            s, second = self.last(self.out(s), second)
            spikes.append(s)
            membranes.append(second)
        return self.end(torch.stack(spikes), torch.stack(membranes))


@pytest.mark.parametrize(
    ("end", "options"),
    [
        (lambda s, m: m, {"over_time": "steps"}),
        (lambda s, m: m, {"over_time": "last:2"}),
        (lambda s, m: {"s": s, "m": m}, {"result": "*", "over_time": {"s": "sum", "m": "last"}}),
    ],
)
def test_membranes_are_answers_at_any_step(
    end: Callable[[Tensor, Tensor], Any], options: dict[str, Any]
) -> None:
    made = quantize(Shows(end).eval(), calibration(), **options)
    assert made.network.graph.membranes
    equal_everywhere(made, pixels())
