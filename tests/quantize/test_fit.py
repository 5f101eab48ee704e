"""States that do not fit: what is given up, in which order, and what is said about it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import lapilli.quantize.fit as fitting  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.certificate import check_target  # noqa: E402
from lapilli.ir.errors import RangeError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.ir.targets.lava import LAVA  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.lower import Lowered  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch


class Crowded(nn.Module):
    """Sums over tokens; `first` feeds two neurons, one of them together with `second`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.embed_lif = nn.Linear(1, 16), LIF()
        self.first, self.second, self.third = (nn.Linear(16, 8) for _ in range(3))
        self.a, self.b, self.c, self.d = (LIF(v_threshold=v) for v in (9.0, 1.0, 0.1, 30.0))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        s = self.embed_lif(self.embed(x.flatten(1).unsqueeze(2).expand(4, -1, -1, 1)))
        first, second, third = (f(s).sum(2) for f in (self.first, self.second, self.third))
        s = self.a(first) + self.b(first + second) + self.c(third) + self.d(third)
        logits: Tensor = self.head(s).mean(0)
        return logits


def crowded(tokens: int, target: str = "stock") -> Quantized:
    torch.manual_seed(0)
    return quantize(Crowded().eval(), torch.randn(2, 1, 1, tokens), target=target)


@pytest.mark.parametrize("tokens", [16, 300, 500])
def test_all_at_once_decide_as_one_after_the_other(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: Counter[str] = Counter()
    settle = fitting._Fitting._give_up

    def counted(*args: object) -> set[str]:
        rounds["at once"] += 1
        return settle(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting._Fitting, "_give_up", counted)
    made = crowded(tokens)
    check_target(made.network.graph, LAVA)
    assert (rounds["at once"] > 1) == (tokens > 16)

    class _OneByOne(fitting._Fitting):
        """Only the first neuron that does not fit is looked at."""

        def changes(self, lowered: Lowered) -> bool:
            for name in lowered.neurons:
                only = {name: lowered.neurons[name]}
                one = replace(lowered, neurons=only)
                if super().changes(one):
                    return True
            return False

    monkeypatch.setattr(fitting, "_Fitting", _OneByOne)
    again = crowded(tokens)
    assert again.network.graph.digest == made.network.graph.digest
    assert again.notes == made.notes


def test_what_was_given_up_is_said() -> None:
    made = crowded(300)
    graph = made.network.graph
    said = "first: weights of 5 bits, here and in 1 more, so that the state of "
    assert any(str(note).startswith(said) for note in made.notes)
    for name in ("first", "second"):
        op = graph[name].op
        assert isinstance(op, ops.Linear)
        assert op.weight.range.magnitude == 16


def test_a_neuron_gives_up_bits_before_the_weights_of_a_stream() -> None:
    made = crowded(300, target="lava")
    graph = made.network.graph
    check_target(graph, LAVA)
    assert not [note for note in made.notes if note.kind is NoteKind.WEIGHT_BITS]
    for name in ("first", "second", "third"):
        op = graph[name].op
        assert isinstance(op, ops.Linear)
        assert 64 <= op.weight.mantissa.range.magnitude << (op.weight.exponent > 0) < 256
    bits = {n: lif.fraction_bits for n in "abcd" if isinstance(lif := graph[n].op, ops.Neuron)}
    assert min(bits.values()) < 6
    given = np.random.default_rng(0).integers(-127, 128, (3, 1, 1, 300))
    trace = made.reference.run_images(given)
    got = Reference().compile(graph).run({"image": np.stack([given] * 4)})
    assert any(0 < trace.values[name].mean() < 1 for name in "abcd")
    for name in graph.neurons:
        assert np.array_equal(got.values[name], trace.values[name])
        assert np.array_equal(got.membranes[name], trace.membranes[name])


class Product(nn.Module):
    """A neuron of a product of spikes alone: no synapse feeds it, its threshold is met exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(1, 32) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = LIF(), LIF(), LIF()
        self.attn_lif, self.head = LIF(v_threshold=0.5), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1).unsqueeze(2).expand(4, -1, -1, 1)
        q, k, v = self.q_lif(self.q(x)), self.k_lif(self.k(x)), self.v_lif(self.v(x))
        s = self.attn_lif((q @ (k.transpose(-1, -2) @ v)) * 0.03125)
        logits: Tensor = self.head(s.mean(2)).mean(0)
        return logits


@pytest.mark.parametrize(("tokens", "fraction_bits"), [(64, 9), (640, 3)])
def test_a_neuron_without_synapses_keeps_its_threshold(tokens: int, fraction_bits: int) -> None:
    torch.manual_seed(0)
    made = quantize(Product().eval(), torch.randn(2, 1, 1, tokens))
    lif = made.network.graph["attn_lif"].op
    assert isinstance(lif, ops.Neuron)
    assert lif.fraction_bits == fraction_bits
    assert (NoteKind.STATE in {note.kind for note in made.notes}) == (fraction_bits == 3)
    given = np.random.default_rng(0).integers(-127, 128, (3, 1, 1, tokens))
    trace = made.reference.run_images(given)
    got = Reference().compile(made.network.graph).run({"image": np.stack([given] * 4)})
    assert 0 < trace.values["attn_lif"].mean() < 1
    for name in made.network.graph.neurons:
        assert np.array_equal(got.values[name], trace.values[name])
        assert np.array_equal(got.membranes[name], trace.membranes[name])
    # The membrane meets the threshold: h = v_th, in units of 2**-f * gain * scale.
    theta = int(lif.threshold.array.max())
    ties = trace.membranes["attn_lif"] == -(-theta >> (fraction_bits - 3)) << (fraction_bits - 3)
    assert ties.sum() > 0


class Pictures(nn.Module):
    """One linear map of the whole image."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(inputs, 2), LIF(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lif(self.fc(x.flatten(1).expand(4, -1, -1)))).mean(0)
        return logits


def test_an_image_of_too_many_bits_is_named() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 32, 32)
    with pytest.raises(RangeError, match=r"'lif'.*an image of 16 bits: take fewer .*--input-bits"):
        quantize(Pictures(1024).eval(), images, input_bits=16, target="stock")
    made = quantize(Pictures(1024).eval(), images, input_bits=8, target="stock")
    assert math.log2(made.network.input.hi + 1) == 7


def test_too_many_events_are_named() -> None:
    torch.manual_seed(0)
    frames = torch.randint(0, 201, (2, 1, 64, 64)).float()
    frames[0, 0, 0, 0] = 200
    with pytest.raises(RangeError, match=r"'lif'.*counts up to 200 events: take shorter frames"):
        quantize(Pictures(4096).eval(), frames, counts=True, target="stock")


class Apart(nn.Module):
    """A read-out that adds what a tiny and a large linear map make of the same spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lif = nn.Linear(4, 8), LIF()
        self.tiny, self.large = nn.Linear(8, 3), nn.Linear(8, 3)
        with torch.no_grad():
            self.embed.weight.mul_(4)
            self.tiny.weight.mul_(1e-8)
            self.tiny.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        s = self.lif(self.embed(x.flatten(1).expand(4, -1, -1)))
        logits: Tensor = (self.tiny(s) + self.large(s)).mean(0)
        return logits


@pytest.mark.parametrize("target", ["lava", "stock"])
def test_a_stream_stays_within_a_message(target: str) -> None:
    torch.manual_seed(0)
    made = quantize(Apart().eval(), torch.randn(4, 1, 2, 2), target=target)
    graph = made.network.graph
    reach = graph.types[graph.outputs[0]].range.magnitude
    large = graph["large"].op
    assert isinstance(large, ops.Linear)
    assert large.weight.mantissa.range.magnitude < 128
    if target == "lava":
        assert 1 << 28 < reach < 1 << 31  # as fine as a message allows
        assert large.weight.exponent > 12
    else:
        assert large.weight.range.magnitude < 128  # all bytes are in one unit
    given = np.random.default_rng(0).integers(-127, 128, (6, 1, 2, 2))
    trace = made.reference.run_images(given)
    got = Reference().compile(graph).run({"image": np.stack([given] * 4)})
    assert np.array_equal(got.values["logits"][-1], trace.values["logits"][-1])
    assert 0 < trace.values["lif"].mean() < 1
