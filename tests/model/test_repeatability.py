"""Hidden states: found by what a module does; what it only stores is nobody's business."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from frameworks.examples import EXAMPLES, Example  # noqa: E402
from networks import planted_states  # noqa: E402
from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.ir.recipe import Note  # noqa: E402
from lapilli.model import trial  # noqa: E402
from lapilli.model.capture import forked, repeatability  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.capture.output import Asked  # noqa: E402
from lapilli.model.capture.repeatability import check_repeatable  # noqa: E402
from lapilli.model.capture.signature import Signature  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.adapters import rule_of  # noqa: E402
from lapilli.model.neurons.general_rule import GeneralRule  # noqa: E402

pytestmark = pytest.mark.torch

_UNSUPPORTED = Path(__file__).resolve().parents[2] / "docs" / "unsupported.md"


def around(middle: nn.Module) -> nn.Module:
    """A network with `middle` between a neuron and a linear map."""
    net = Net(LIF(), LIF())
    net.second = nn.Sequential(middle, LIF())
    return net.eval()


def check(model: nn.Module, shape: tuple[int, ...] = (3, 4, 4), **how: Any) -> tuple[Note, ...]:
    return check_repeatable(model, Signature(**how), shape, Asked())


# ---- states that count ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "where"), planted_states.PLANTED.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_a_hidden_state_is_found_and_named(made: Callable[[], nn.Module], where: str) -> None:
    name = getattr(made, "__name__", "")
    with pytest.raises(CaptureError) as caught:
        capture(around(made()), (3, 4, 4))
    assert caught.value.path == "second.0"
    assert f"{name} keeps state from call to call and is no neuron" in str(caught.value)
    assert f"what changes: {where}." in str(caught.value)


@pytest.mark.parametrize("made", planted_states.UNSEEN, ids=lambda v: v.__name__)
def test_what_is_not_seen_is_on_the_page(made: Callable[[], nn.Module]) -> None:
    assert check(around(made())) == ()
    page = _UNSUPPORTED.read_text(encoding="utf-8")
    assert "only after more calls" in page
    assert "only after images unlike" in page


def test_the_caller_is_named_where_the_state_is_its_own() -> None:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__(LIF(), LIF())
            self.calls = [0.0]

        def forward(self, images: Tensor) -> Tensor:
            self.calls[0] += 0.25
            logits: Tensor = super().forward(images + self.calls[0])
            return logits

    with pytest.raises(CaptureError, match=r"\(the model itself\).*what changes: self\.calls\."):
        check(Own().eval())


def test_what_a_seed_changes_is_random_and_no_memory() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + torch.rand_like(x)
            return y

    with pytest.raises(CaptureError, match=r"'second\.0': Noisy is random: .* another seed"):
        check(around(Noisy()))


def test_a_clock_is_neither() -> None:
    class Clock(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + time.perf_counter()

    with pytest.raises(CaptureError, match=r"'second\.0': Clock answers .* as if by a clock"):
        check(around(Clock()))


def test_nothing_of_the_author_s_has_moved() -> None:
    seen = list(planted_states._SEEN)
    state, numbers = planted_states.InDict(), planted_states.InGenerator()
    for middle in (state, numbers, planted_states.InGlobal(), planted_states.InClass()):
        net, random_numbers = around(middle), torch.get_rng_state()
        with pytest.raises(CaptureError, match="keeps state"):
            check(net)
        assert torch.equal(torch.get_rng_state(), random_numbers)
    assert state.d == {"n": 0.0}
    assert next(numbers.numbers) == 0.0
    assert seen == planted_states._SEEN
    assert planted_states.InClass.total == 0.0


# ---- what is stored, and changes nothing -------------------------------------------------------


class Stores(nn.Module):
    """Keeps something for a look, or to save time."""

    seen: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.calls, self.store, self.log = 0, dict[str, Any](), list[Any]()
        self.register_buffer("seen", torch.zeros(()))
        self.table: Any = None

    def forward(self, x: Tensor) -> Tensor:
        match self.what:
            case "map":
                self.map = x.detach()
            case "size":
                self.size, self.k = x.shape, int(x.shape[-1] * 0.5)
            case "list":
                self.log = [x.detach()]
            case "append":
                self.log.append(x)
            case "dict":
                self.store["map"] = x.detach()
            case "counter":
                self.calls += 1
            case "buffer":
                self.seen += 1
            case "average":
                self.seen.mul_(0.9).add_(x.mean())
            case "table":
                if self.table is None:
                    self.table = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
                y: Tensor = x + self.table
                return y
            case _:
                raise AssertionError(self.what)
        return x


_STORED = ("map", "size", "list", "append", "dict", "counter", "buffer", "average", "table")


class Looked(Net):
    """A network with modules that store behind its second linear map."""

    def __init__(self, *stores: Stores) -> None:
        super().__init__(LIF(), nn.Sequential(*stores, LIF()))
        self.kept: Any = None


@pytest.mark.parametrize("what", _STORED)
def test_what_is_only_stored_is_captured_and_exact(what: str) -> None:
    assert compared(quantized(Looked(Stores(what)))) > 10_000


def test_what_was_kept_with_its_gradient_is_captured() -> None:
    net = Looked(Stores("map"), Stores("append"))
    net.kept = net(torch.rand(2, 3, 4, 4))
    assert net.kept.grad_fn is not None
    assert compared(quantized(net)) > 10_000


@pytest.mark.parametrize("layout", trial.SMALL)
def test_no_family_is_refused(layout: str) -> None:
    config, size = trial.SMALL[layout]
    how = {} if config.in_channels == 3 else {"layout": "BTCHW"}
    shape = trial.trial_images(config, size).shape[1:]
    assert check(trial.random_model(config), tuple(shape), **how) == ()


class _Runs(nn.Module):
    """A neuron between two linear maps, run as its users run it."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.neuron, self.run = example.module, example.run
        rule = rule_of(example.module, "neuron")
        self.channels = 16
        if isinstance(rule, GeneralRule) and rule.shape != (1,):  # a constant for each channel
            self.channels = math.prod(rule.shape)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)[:, : self.channels].repeat(4, 1, 1)
        y: Tensor = self.run(self.neuron, x).mean(0)
        return y


@pytest.mark.parametrize("group", ["lapilli", "spikingjelly", "snntorch", "norse"])
def test_no_known_neuron_is_refused(group: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frameworks use what PyTorch deprecates
        for example in EXAMPLES[group]():
            assert check(_Runs(example).eval(), (1, 4, 4)) == (), example.label


# ---- processes ----------------------------------------------------------------------------------


def test_without_a_fork_a_copy_is_called_and_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forked, "_CAN_FORK", False)
    state = planted_states.InDict()
    net = around(state)
    random_numbers = torch.get_rng_state()
    with pytest.raises(CaptureError, match=r"what changes: self\.d\."):
        check(net)
    assert state.d == {"n": 0.0}
    assert torch.equal(torch.get_rng_state(), random_numbers)
    (note,) = check(around(nn.Identity()))
    assert "closures has seen these calls" in note.text
    assert note in quantized(Net(LIF(), LIF())).notes


class _InChild(nn.Module):
    """Does something in a forked process alone."""

    def __init__(self, does: Callable[[], Any]) -> None:
        super().__init__()
        self.does, self.parent = does, os.getpid()

    def forward(self, x: Tensor) -> Tensor:
        if os.getpid() != self.parent:
            self.does()
        return x


@pytest.mark.parametrize("does", [lambda: time.sleep(600), lambda: os._exit(3)])
def test_a_child_that_hangs_or_dies_is_replaced(
    does: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "SILENCE_S", 0.5)
    started = time.monotonic()
    (note,) = check(around(_InChild(does)))
    assert "in this process, on a copy" in note.text
    assert time.monotonic() - started < 60
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_child_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before ")
    check(around(_InChild(lambda: print("again", flush=True))))  # noqa: T201 (the author prints)
    assert capfd.readouterr().out == "before "


def test_a_forward_that_fails_says_why_once() -> None:
    with pytest.raises(CaptureError, match=r"its forward fails on images \(3, 5, 5\): mat1"):
        check(around(nn.Identity()), (3, 5, 5))


def test_what_cannot_be_copied_is_named() -> None:
    class Holds(nn.Identity):
        def __init__(self) -> None:
            super().__init__()
            self.numbers = (n for n in range(3))

    why = r"'second\.0': its attribute 'numbers' cannot be copied"
    with pytest.raises(CaptureError, match=why):
        capture(around(Holds()), (3, 4, 4))


# ---- the check can fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "orders"),
    [
        (planted_states.FirstImages, repeatability._ORDERS[:1]),
        (planted_states.FromThirdCall, tuple(order[:2] for order in repeatability._ORDERS)),
    ],
)
def test_fewer_calls_would_miss_it(
    made: Callable[[], nn.Module], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeatability, "_ORDERS", orders)
    assert check(around(made())) == ()
