"""Fine-tuning of what is no image, behind an encoding, and with neurons of many constants."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import InputError, LapilliError, QuantizeError  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.fit import Options, Split  # noqa: E402
from lapilli.model.neurons.adapters import Constants, GeneralRule  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.quantize.finetuning import FineTuned, finetune  # noqa: E402
from lapilli.quantize.finetuning.neurons import surrogate_spikes  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
T, COUNT = 4, 160


class Sequences(nn.Module):
    """Steps (T, B, F) to three logits."""

    def __init__(self, features: int = 6, neuron: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lif = nn.Linear(features, 12), (neuron or (lambda: LIF(2.0, 0.3)))()
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lif(self.first(x))).mean(0)
        return logits


class Pictures(Sequences):
    """Images (B, C, H, W), shown at each step, to three logits."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1).unsqueeze(0).repeat(T, 1, 1))


class Frames(Sequences):
    """Steps (T, B, C, H, W) to three logits."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(2))


class Reads(Sequences):
    """Token ids (B, N) to three logits."""

    def __init__(self) -> None:
        super().__init__(5 * 8)
        self.look, self.fires = nn.Embedding(11, 8), LIF(2.0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.look(x).unsqueeze(0).repeat(T, 1, 1, 1)
        return super().forward(self.fires(x).flatten(2))


def sequences() -> Split:
    """Noise, which is higher in the first half of the features, or in the second."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    x = rng.random((COUNT, T, 6)).astype(np.float32)
    x[labels == 1, :, :3] += 1
    x[labels == 2, :, 3:] += 1
    return Split(x, labels)


def pictures() -> Split:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    x = rng.integers(0, 120, (COUNT, 1, 4, 4), np.uint8)
    x[labels == 1, :, :2] += 130
    x[labels == 2, :, 2:] += 130
    return Split(x, labels)


def tokens() -> Split:
    ids = np.random.default_rng(0).integers(0, 11, (COUNT, 5))
    return Split(ids, (ids[:, 0] > 6).astype(np.int64) + (ids[:, 1] > 6))


def tuned(model: nn.Module, split: Split, epochs: int = 3, **options: Any) -> FineTuned:
    how = options.pop("training", Options(epochs=epochs, batch=32, warmup=1, learning_rate=1e-2))
    given = {"weight_bits": 3, **options}
    return finetune(model.eval(), split.images, split.labels, training=how, **given)


def require_learnt(done: FineTuned, first: Tensor) -> None:
    assert not torch.equal(done.module.get_parameter("first.weight"), first)
    assert done.epochs[-1].loss < done.epochs[0].loss
    graph = done.quantized.network.graph
    weights = [n.op for n in graph.nodes if isinstance(n.op, ops.Linear)]
    assert all(np.abs(op.weight.mantissa.array).max() <= 3 for op in weights)


@pytest.mark.parametrize("layout", ["TBF", "BTF"])
def test_sequences_of_numbers(layout: str) -> None:
    class Turned(Sequences):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if layout == "TBF" else x.transpose(0, 1))

    model, split = Turned(), sequences()
    before = model.first.weight.detach().clone()
    done = tuned(model, split, layout=layout, held_out=split)
    require_learnt(done, before)
    again = Turned().eval()
    again.load_state_dict(done.module.state_dict())
    made = quantize(again, torch.from_numpy(split.images), weight_bits=3, layout=layout)
    assert made.network.graph.digest == done.quantized.network.graph.digest
    assert int(done.epochs[-1].right or 0) > COUNT // 2


@pytest.mark.parametrize(
    ("encoding", "model", "layout", "fires"),
    [
        ("rate:T=4,seed=3", lambda: Frames(16), "TBCHW", True),
        ("phase:T=4", lambda: Frames(16), "TBCHW", False),
        ("rows", lambda: Sequences(4), "TBF", False),
    ],
)
def test_images_behind_an_encoding(
    encoding: str, model: Callable[[], nn.Module], layout: str, fires: bool
) -> None:
    made, split = model(), pictures()
    before = made.get_parameter("first.weight").detach().clone()
    known = {"mean": (0.4,), "std": (0.25,)} if encoding == "rows" else {}
    options: Any = {"layout": layout, "encoding": encoding, **known}
    done = tuned(made, split, held_out=split, **options)
    require_learnt(done, before)
    network = done.quantized.network
    assert network.encoding is not None
    assert network.graph.types[network.graph.inputs[0]].is_binary is fires
    again = quantize(done.module, torch.from_numpy(split.images), weight_bits=3, **options)
    assert again.network.digest == network.digest


def test_an_embedding_is_a_table_that_does_not_learn_so() -> None:
    split = tokens()
    with pytest.raises(
        QuantizeError, match="layer 'look': is a table of tokens, of which the module"
    ):
        tuned(Reads(), split, layout="BN", ids=11)


class Blind(nn.Module):
    """No gradient passes a comparison."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for current in x:
            v = (v / 2 + current).clamp(min=0)
            out.append((v >= 0.25).to(x.dtype) + (v >= 0.75).to(x.dtype))
            v = v * (out[-1] == 0)
        spikes: Tensor = torch.stack(out)
        return spikes


RULE = GeneralRule(
    taps=Constants.one(Fraction(1), between=1),
    decay=Constants.one(Fraction(1, 2)),
    thresholds=Constants((Fraction(1, 4), Fraction(3, 4)), (1, 2, 1)),
    strict=(False, False),
    floored=True,
)


def klif() -> nn.Module:
    sj = pytest.importorskip("spikingjelly.activation_based.neuron")
    lif: nn.Module = sj.KLIFNode(v_threshold=0.3, step_mode="m")
    return lif


def sliding() -> nn.Module:
    sj = pytest.importorskip("spikingjelly.activation_based.neuron")
    torch.manual_seed(1)
    psn: nn.Module = sj.SlidingPSN(2, step_mode="m")
    return psn


@pytest.mark.parametrize(
    ("neuron", "options"),
    [(Blind, {"neurons": {"Blind": RULE}}), (klif, {}), (sliding, {})],
    ids=["none", "KLIF", "sliding PSN"],
)
def test_neurons_of_many_constants(
    neuron: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    model, split = Pictures(16, neuron), pictures()
    before = model.first.weight.detach().clone()
    done = tuned(model, split, mean=(0.4,), std=(0.25,), **options)
    require_learnt(done, before)
    graph = done.quantized.network.graph
    assert [type(graph[name].op) for name in graph.firing] == [ops.GeneralNeuron]


def test_each_level_has_the_gradient_of_a_sigmoid() -> None:
    x = torch.tensor([[0.25, 0.5, 0.75, -1.0]], dtype=torch.float64, requires_grad=True)
    spikes = surrogate_spikes(RULE, x)
    assert spikes.tolist() == [[1.0, 1.0, 2.0, 0.0]]
    spikes.sum().backward()

    def slope(h: float) -> float:
        said = 0.0
        for theta in (0.25, 0.75):
            s = 1 / (1 + np.exp(-4 * (h - theta) / theta))
            said += 4 / theta * s * (1 - s)
        return said

    want = [slope(0.25), slope(0.5), slope(0.75), 0.0]  # the floor ends it
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx(want)


@pytest.mark.parametrize(
    ("model", "split", "options", "error", "reason"),
    [
        (Sequences, sequences, {"layout": {"x": "TBF"}}, InputError, "several by name have no"),
        (Sequences, pictures, {"layout": "TBF"}, InputError,
         r"images must be floats \(count, T, F\), and some; got uint8"),
        (Sequences, sequences, {"layout": "BF"}, InputError, r"must be floats \(count, F\)"),
        (Sequences, sequences, {"layout": "TBF", "training": Options(epochs=1, shift=1)},
         InputError, "samples of layout TBF are no images, to be moved or mirrored"),
        (Sequences, lambda: Split(sequences().images * np.nan, sequences().labels),
         {"layout": "TBF"}, InputError, "images: a number that is not finite"),
        (Reads, sequences, {"layout": "BN", "ids": 11}, InputError, "must be whole numbers"),
        (Reads, tokens, {"layout": "BN", "ids": 9}, QuantizeError, "are not below 9, from 0"),
        (Frames, sequences, {"layout": "TBCHW", "encoding": "rate:T=4"}, InputError,
         "and some, with an encoding; got float32"),
        (Frames, pictures, {"layout": "TBCHW", "encoding": "loud:T=4"}, QuantizeError, "is none"),
        (Sequences, sequences, {"layout": "TBF", "held_out": pictures()}, InputError,
         r"held_out must be floats \(count, T, F\)"),
    ],
)  # fmt: skip
def test_refusals_before_any_time_is_spent(
    model: Callable[[], nn.Module],
    split: Callable[[], Split],
    options: dict[str, Any],
    error: type[LapilliError],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lapilli.model.fit.fit", None)
    with pytest.raises(error, match=reason):
        tuned(model(), split(), **options)
