"""Neurons of every framework: what their adapters say is what their own code does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from frameworks import page  # noqa: E402
from frameworks.examples import EXAMPLES, T, with_k  # noqa: E402
from frameworks.faults import faulty  # noqa: E402
from torch import nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.capture.probe import probe  # noqa: E402
from lapilli.model.neurons.adapters import ADAPTERS, adapter_of, rule_of  # noqa: E402
from lapilli.model.neurons.general_rule import GeneralRule  # noqa: E402
from lapilli.model.neurons.rule import NeuronRule  # noqa: E402

pytestmark = pytest.mark.torch

FOLDER = Path(__file__).parent
HERE = tuple(group for group in page.GROUPS if group not in page.APART)  # importable here


@pytest.fixture(autouse=True)
def _frameworks_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they use what PyTorch deprecates
        yield


# ---- beside the frameworks -----------------------------------------------------------------


@pytest.fixture(scope="module")
def seen() -> dict[str, list[Any]]:
    """What each framework did; 8 192 neuron steps an example, ties among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {group: page.facts(group) for group in page.GROUPS}


def test_every_row_is_what_its_framework_does(seen: dict[str, list[Any]]) -> None:
    rows = [fact for facts in seen.values() for fact in facts]
    for fact in rows:
        assert fact.differ == 0, fact
        assert 0.2 < fact.rate < 0.6, fact


def test_every_class_of_the_table_was_run(seen: dict[str, list[Any]]) -> None:
    run = {fact.kind for facts in seen.values() for fact in facts}
    again = {name for name in ADAPTERS if name.startswith("utils.node.")}  # from another folder
    known = run | again | {"lapilli.model.neurons.adapters.Described"}  # the last is below
    assert not (missing := ADAPTERS.keys() - known), f"tests/frameworks/examples.py lacks {missing}"
    assert not (unknown := known - ADAPTERS.keys()), f"no adapter has the name of {unknown}"


def test_the_page_is_what_was_seen(seen: dict[str, list[Any]]) -> None:
    assert page.PAGE.read_text() == page.page(seen), "docs/adapters.md is old: make adapters"


# What the trap of each framework is, in numbers.
RULES = {
    "Leaky(0.5)": NeuronRule(
        decay=Fraction(1, 2),
        gain=Fraction(1),
        v_threshold=Fraction(1),
        strict=True,
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(2),  # theta / beta: it subtracts after the decay
    ),
    "LIFNode(v_reset=-0.5), step_mode='m'": NeuronRule(
        decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1), v_rest=Fraction(-1, 2)
    ),
    "LIFNode(v_reset=None), step_mode='s'": NeuronRule(
        decay=Fraction(1, 2),
        gain=Fraction(1, 2),
        v_threshold=Fraction(1),
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(1),
    ),
    "LIFCell(1/2, 1/4)": NeuronRule(
        decay=Fraction(3, 4),
        gain=Fraction(1, 4),
        v_threshold=Fraction(1),
        strict=True,
        current_decay=Fraction(1, 2),
    ),
}


def _examples() -> dict[str, Any]:
    return {e.label: e.module.eval() for group in HERE for e in EXAMPLES[group]()}


def test_rules_by_hand() -> None:
    made = _examples()
    assert {label: rule_of(made[label], label) for label in RULES} == RULES


def test_a_row_leaves_its_module_alone() -> None:
    for label, module in _examples().items():
        adapter = adapter_of(module)
        assert adapter is not None, label
        before = copy.deepcopy(module).__dict__
        rule = rule_of(module, label)
        shape = rule.shape if isinstance(rule, GeneralRule) else (5,)
        adapter.trace(copy.deepcopy(module), torch.ones(T, 2, *shape))
        probe(module, label)
        assert {k: repr(v) for k, v in before.items()} == {
            k: repr(v) for k, v in module.__dict__.items()
        }, label


# ---- the probe ------------------------------------------------------------------------------


def test_a_wrong_row_is_caught() -> None:
    caught = 0
    for label, module in _examples().items():
        assert probe(module, label) > 0
        rule = rule_of(module, label)
        ties = not isinstance(rule, NeuronRule) or _is_dyadic(rule.gain)
        for fault, wrong in faulty(rule):
            if fault == "strict" and not ties:
                continue  # no float current meets the threshold, and the integers are rounded
            with pytest.raises(CaptureError, match="is not what its rule says: after currents"):
                probe(module, label, wrong)
            caught += 1
    assert caught > 400


def _is_dyadic(value: Fraction) -> bool:
    return value.numerator == 1 and value.denominator & (value.denominator - 1) == 0


def _klif(k: float) -> Any:
    from spikingjelly.activation_based import neuron

    return with_k(neuron.KLIFNode(), k)


def _refused() -> list[tuple[Any, str]]:
    from norse.torch import LIFCell, LIFParameters
    from snntorch import Lapicque, Leaky
    from spikingjelly.activation_based import neuron, surrogate

    turned = Leaky(0.5)
    turned.state_function = turned._base_state_function
    return [
        (Leaky(0.5, reset_delay=False), "subtracts twice where the membrane stays above"),
        (Leaky(torch.tensor([0.5, 0.0])), "a decay of 0"),
        (
            Lapicque(0.5, threshold=torch.tensor([1.0, 2.0])),
            "2 thresholds with reset_mechanism='subtract'",
        ),
        (Leaky(0.5, inhibition=True), "inhibition is set"),
        (Leaky(0.5, graded_spikes_factor=2.0), "graded_spikes_factor is not 1"),
        (Leaky(0.0), "a decay of 0"),
        (turned, "state function '_base_state_function'"),
        (Lapicque(0.5, reset_mechanism="zero"), "drops the input of the step after a spike"),
        (LIFCell(LIFParameters(v_reset=torch.tensor(-0.5))), "v_reset differs from v_leak"),
        (neuron.LIFNode(v_threshold=-0.5), "is not above the resting potential"),
        (_klif(-0.5), "k is -0.5; times that, no current brings the membrane above 0"),
        (_klif(2.5), "decay is 1.25; a membrane keeps 0 to 1 of itself"),
        (neuron.PSN(4), "its T x T matrix weighs later steps: not causal"),
        (neuron.MaskedPSN(2, 4), "lambda is 0: its mask lets steps weigh later ones"),
        (neuron.EIFNode(), "its membrane grows by the exponential of itself"),
        (neuron.ComplementaryLIFNode(), "its second state decays by a sigmoid of the membrane"),
        (
            neuron.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
            "its spike function answers",
        ),
    ]


def test_options_without_a_rule_are_refused_with_the_reason() -> None:
    for module, why in _refused():
        with pytest.raises(CaptureError, match=why) as caught:
            rule_of(module, "block.0.lif")
        assert "module 'block.0.lif'" in str(caught.value)


def test_an_unknown_class_stays_unknown() -> None:
    assert adapter_of(nn.ReLU()) is None
    with pytest.raises(CaptureError, match=r"torch.nn.modules.activation.ReLU is no neuron"):
        rule_of(nn.ReLU(), "act")


# ---- STEP's, wherever it is run from -----------------------------------------------------------


def _step_class(name: str, base: str = "braincog.base.node.node.BaseNode") -> type[nn.Module]:
    """A class as STEP's `utils/node.py` defines it, imported under a name of somebody's choice."""
    module, _, kind = base.rpartition(".")
    root = type(kind, (nn.Module,), {"__module__": module, "__qualname__": kind})
    middle = type("BaseNode_Torch", (root,), {"__module__": "a.b.node"})
    return type(name, (middle,), {"__module__": "a.b.node", "__qualname__": name})


def test_steps_neurons_are_known_under_any_dotted_name() -> None:
    known = adapter_of(_step_class("LIFNode")())
    assert known is ADAPTERS["models.utils.node.LIFNode"]
    assert adapter_of(_step_class("PLIFNode")()) is ADAPTERS["models.utils.node.PLIFNode"]
    assert adapter_of(_step_class("CLIFNode")()) is None
    assert adapter_of(_step_class("LIFNode", "a.b.node.BaseNode")()) is None
    own = type(
        "LIFNode", (_step_class("LIFNode"),), {"__module__": "a.b", "__qualname__": "LIFNode"}
    )
    assert adapter_of(own()) is None  # derived once more: it may override anything
