"""Neurons that cannot be: each message of docs/unsupported.md, "Neurons", provoked."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

torch = pytest.importorskip("torch")
sj = pytest.importorskip("spikingjelly.activation_based.neuron")
snn = pytest.importorskip("snntorch")

from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.neurons.adapters import ADAPTERS, refusal  # noqa: E402
from lapilli.model.neurons.refused import REFUSED  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402

pytestmark = pytest.mark.torch

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "unsupported.md"


class Net(nn.Module):
    """A neuron between two maps."""

    def __init__(self, neuron: nn.Module, *, used: bool = True) -> None:
        super().__init__()
        self.fc, self.lif, self.head, self.used = nn.Linear(4, 6), neuron, nn.Linear(6, 3), used
        self.other = sj.LIFNode(v_threshold=0.2, step_mode="m")

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc(images.flatten(1)).repeat(4, 1, 1)
        logits: Tensor = self.head((self.lif if self.used else self.other)(x)).mean(0)
        return logits


def steps(name: str) -> nn.Module:
    """What stands for a class of STEP: it is known by its names alone."""
    own = {"__module__": "models.utils.node", "forward": lambda self, x: x}
    bases: tuple[type, ...] = (nn.Module,)
    if name == "EIFNode":
        root = type("BaseNode", bases, {"__module__": "braincog.base.node.node"})
        bases = (type("BaseNode_Torch", (root,), {"__module__": own["__module__"]}),)
    made: nn.Module = type(name, bases, own)()
    return made


def _neurons() -> list[nn.Module]:
    klif, growing = sj.KLIFNode(step_mode="m"), sj.KLIFNode(step_mode="m")
    klif.k.data.fill_(-1.0)
    growing.k.data.fill_(2.5)
    return [
        steps("EIFNode"),
        steps("HDLIFNode"),
        steps("ComplementaryLIFNeuron"),
        sj.QIFNode(step_mode="m"),
        sj.IzhikevichNode(step_mode="m"),
        sj.LIAFNode(torch.relu, False, step_mode="m"),
        snn.RLeaky(beta=0.5, all_to_all=False),
        snn.Synaptic(alpha=0.5, beta=0.5),
        sj.PSN(4),
        sj.MaskedPSN(2, 4, step_mode="m"),
        klif,
        growing,
    ]


def test_every_message_of_the_section_is_real() -> None:
    said = []
    for neuron in _neurons():
        with pytest.raises(CaptureError) as caught:
            quantize(Net(neuron).eval(), torch.rand(6, 1, 2, 2))
        said.append(str(caught.value))
    section = _PAGE.read_text(encoding="utf-8").split("\n## Neurons\n")[1].split("\n## ")[0]
    assert [line[4:] for line in section.splitlines() if line.startswith("    ")] == said


def test_one_that_is_not_called_is_nobodys_business() -> None:
    torch.manual_seed(0)
    made = quantize(Net(steps("EIFNode"), used=False).eval(), torch.rand(6, 1, 2, 2))
    assert made.network.graph.neurons


def test_every_class_of_spikingjelly_is_known_or_refused() -> None:
    """Bases and what only wraps others aside."""
    bases = {"base_node", "flexsn_hop", "flexsn_trace"}
    mine = {
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in vars(sj).values()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
        and kind.__module__.startswith("spikingjelly.activation_based.neuron.")
        and kind.__module__.rpartition(".")[2] not in bases
        and "BaseNode" not in kind.__qualname__
    }  # fmt: skip
    assert len(mine) > 35
    unknown = {name for name in mine if name not in ADAPTERS and name not in REFUSED}
    assert not unknown
    assert not set(ADAPTERS) & set(REFUSED)


def test_classes_of_snntorch_that_are_heard_of_are_there() -> None:
    for name in (name for name in REFUSED if name.startswith("snntorch.")):
        assert resolve_name(name).__name__ in vars(snn)


@pytest.mark.parametrize("neuron", [nn.ReLU(), sj.LIFNode()], ids=["no neuron", "a known one"])
def test_nothing_else_is_refused(neuron: Any) -> None:
    assert refusal(neuron) == ""
