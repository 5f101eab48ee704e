"""What people do to a module around training: the same function, or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")

from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import Tensor, fx, nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from torch.nn.utils.fusion import fuse_conv_bn_eval  # noqa: E402
from torch.optim.swa_utils import AveragedModel  # noqa: E402

from lapilli.ir.errors import CaptureError  # noqa: E402
from lapilli.model.capture.capture import capture  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.loading.strict import as_network  # noqa: E402
from lapilli.model.neurons.copies import copied  # noqa: E402

pytestmark = pytest.mark.torch


def _spectral(net: Net) -> Net:
    parametrizations.spectral_norm(net.fc2)
    net.second = LIF(v_threshold=0.1)  # its weights are small now
    return net


def _variants() -> dict[str, Callable[[Net], Any]]:
    return {
        "half": lambda net: net.half(),
        "bfloat16": lambda net: net.bfloat16(),
        "double": lambda net: net.double(),
        "frozen": lambda net: net.requires_grad_(False),
        "weight_norm": lambda net: torch.nn.utils.weight_norm(net.fc2) and net,
        "weight_norm parametrized": lambda net: parametrizations.weight_norm(net.fc2) and net,
        "spectral_norm": _spectral,
        "pruned": lambda net: prune.l1_unstructured(net.fc2, "weight", 0.5) and net,
        "averaged": AveragedModel,
        "data parallel": nn.DataParallel,
    }


@pytest.mark.parametrize("variant", _variants())
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_variant_is_captured_and_exact(variant: str) -> None:
    net = Net(LIF(), LIF()).eval()
    made = quantized(_variants()[variant](net).eval())
    assert compared(made) > 10_000
    derived = any("weights are computed from the parameters" in note.text for note in made.notes)
    assert derived == (variant in ("spectral_norm", "pruned") or variant.startswith("weight_norm"))


class Head(Net):
    """The same network with another end."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__(LIF(), LIF())
        self.end = end

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc1(images.flatten(1)).unsqueeze(0).repeat(self.T, 1, 1)
        return self.end(self.head(self.second(self.fc2(self.first(x)))))


@pytest.mark.parametrize(
    "end",
    [
        lambda x: x.mean(0).softmax(-1),
        lambda x: (x * torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(-1, 1, 1)).sum(0),
        lambda x: x[-2:].mean(0),
    ],
)  # fmt: skip
def test_other_answers_are_exact(end: Callable[[Tensor], Tensor]) -> None:
    assert compared(quantized(Head(end).eval())) > 10_000


def test_the_largest_of_all_steps_is_refused_by_name() -> None:
    why = r"'\(the model itself\)': operator aten\.max\.dim is not one"
    with pytest.raises(CaptureError, match=why):
        capture(Head(lambda x: x.max(0).values).eval(), (3, 4, 4))


class Traced(fx.Tracer):
    """Takes neurons whole, as their loops over time need."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LIF) or super().is_leaf_module(m, module_qualified_name)


def test_a_graph_module_of_fx_is_captured_and_exact() -> None:
    net = Net(LIF(), LIF()).eval()
    made: Any = fx.GraphModule(net, Traced().trace(net))
    assert compared(quantized(made)) > 10_000


class Pictured(nn.Module):
    """Convolutions, batch norms and the names T and B, as networks for pictures are written."""

    def __init__(self, neuron: Callable[[], nn.Module] = LIF) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.lif = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), neuron()
        self.conv2, self.bn2, self.lif2 = nn.Conv2d(8, 9, 3, 1, 1), nn.BatchNorm2d(9), neuron()
        self.head = nn.Linear(9, 5)
        with torch.no_grad():
            for norm in (self.bn, self.bn2):
                norm.weight.mul_(9)
                nn.init.uniform_(norm.state_dict()["running_mean"], -0.1, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        T, B = x.shape[0], x.shape[1]
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).unflatten(0, (T, B)))
        x = self.lif2(self.bn2(self.conv2(x.flatten(0, 1))).unflatten(0, (T, B)))
        logits: Tensor = self.head(x.flatten(3).mean(3)).mean(0)
        return logits


def _deployed(net: nn.Module) -> Any:
    """The usual form for deployment: traced, each batch norm inside its convolution."""
    made: Any = fx.GraphModule(net, Traced().trace(net))
    for node in list(made.graph.nodes):
        if node.op == "call_module" and node.target.startswith("bn"):
            conv = node.args[0].target
            fused = fuse_conv_bn_eval(getattr(made, conv), getattr(made, node.target))
            setattr(made, conv, fused)
            node.replace_all_uses_with(node.args[0])
            made.graph.erase_node(node)
    made.delete_all_unused_submodules()
    made.recompile()
    return made


def test_a_deployed_graph_module_is_captured_and_exact() -> None:
    made = _deployed(Pictured().eval())
    assert {name for name, _ in made.named_children()} == {"conv", "lif", "conv2", "lif2", "head"}
    assert compared(quantized(made)) > 10_000


def _not_to_be_called(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("torch.compile compiles")


class Transformed(Pictured):
    """A compiled method, and a fixed transform that the first call builds and never registers.

    Spiking wavelets are written so.
    """

    haar: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bn3, self.lif3 = nn.BatchNorm2d(8), LIF(v_threshold=0.5)
        with torch.no_grad():
            nn.init.uniform_(self.bn3.weight, 0.5, 2)
            nn.init.uniform_(self.bn3.bias, -0.2, 0.6)

    @torch.compile(backend=_not_to_be_called)  # type: ignore[untyped-decorator]
    def transformed(self, x: Tensor) -> Tensor:
        haar = self.haar
        if haar is None:
            self.haar = haar = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
        y: Tensor = haar @ x
        return y

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).unflatten(0, (4, -1)))
        x = self.lif2(self.bn2(self.conv2(self.third(x).flatten(0, 1))).unflatten(0, (4, -1)))
        logits: Tensor = self.head(x.flatten(3).mean(3)).mean(0)
        return logits

    def third(self, x: Tensor) -> Tensor:
        y: Tensor = self.lif3(self.bn3(self.transformed(x).flatten(0, 1)).unflatten(0, x.shape[:2]))
        return y


@pytest.mark.parametrize("called", [False, True])
def test_compiled_methods_and_matrices_built_late_are_exact(called: bool) -> None:
    net: Any = Transformed().eval()
    if called:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            net(torch.zeros(2, 3, 4, 4))
    assert compared(quantized(net)) > 10_000
    assert (net.haar is not None) == called


class _Rounds(torch.autograd.Function):  # type: ignore[name-defined,misc]  # torch types it so
    """A straight-through rounding, an instance of which some authors keep to call `apply`."""


class KeepsFunction(Pictured):
    """Holds what Python cannot copy, and computes as it did."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = _Rounds()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_functions_of_autograd_that_a_module_keeps_are_shared() -> None:
    net = KeepsFunction().eval()
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(net)
    assert copied(net).rounds is net.rounds
    assert compared(quantized(cast("Any", net))) > 10_000


class Unrolled(nn.Module):
    """A neuron that torch.fx can trace through."""

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = torch.zeros_like(x[0])
        spikes: list[Tensor] = []
        for t in range(4):
            h = h / 2 + x[t]
            spikes.append(torch.ge(h, 1).float())
        fired: Tensor = torch.stack(spikes)
        return fired


def test_neurons_that_fx_traced_through_are_named() -> None:
    made = fx.symbolic_trace(Pictured(Unrolled).eval())
    with pytest.raises(CaptureError, match=r"'lif': .*torch\.fx traced through the module of this"):
        capture(made, (3, 4, 4))


_SHOWN = {Pictured: (2, 3, 4, 4), nn.Linear: (2, 48)}


@pytest.mark.parametrize(
    "made",
    [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(_SHOWN.get(type(m), (4, 8))))],
)
@pytest.mark.parametrize("path", ["", "fc1", "first.0"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Iterating over a tensor:torch.jit.TracerWarning")
def test_torchscript_is_named(made: Callable[[nn.Module], Any], path: str) -> None:
    if not path:
        whole = made(Pictured().eval())
        with pytest.raises(CaptureError, match=r"'\(the model itself\)': is TorchScript"):
            as_network(whole, "x.py:Net")
        with pytest.raises(CaptureError, match=r"'\(the model itself\)': is TorchScript"):
            capture(whole, (3, 4, 4))
        return
    net = Net(nn.Sequential(nn.Identity(), LIF()), LIF()).eval()
    net.set_submodule(path, made(net.get_submodule(path)))
    with pytest.raises(CaptureError, match=rf"'{path}': is TorchScript, made by torch\.jit"):
        capture(net, (3, 4, 4))


def test_what_torch_export_made_is_named() -> None:
    net = Net(LIF(), LIF()).eval()
    made = torch.export.export(net, (torch.ones(2, 3, 4, 4),)).module()
    with pytest.raises(CaptureError, match=r"'\(the model itself\)': is what torch\.export"):
        as_network(made, "x.py:Net")
    holder = Head(made.requires_grad_(False))
    with pytest.raises(CaptureError, match=r"'end': is what torch\.export or make_fx made"):
        capture(holder, (3, 4, 4))


def test_a_module_without_values_is_refused() -> None:
    with torch.device("meta"):
        net = Head(lambda x: x.mean(0))
    with pytest.raises(CaptureError, match=r"'fc1\.weight': is on the meta device"):
        capture(net.eval(), (3, 4, 4))


# ---- many axes ---------------------------------------------------------------------------------


class Windows(nn.Module):
    """Windows of windows: a permutation of ten axes between two neurons."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif = nn.Conv2d(3, 8, 1), LIF(v_threshold=0.3)
        self.fc, self.lif2, self.head = nn.Linear(4, 8), LIF(v_threshold=0.3), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = images.repeat(4, 1, 1, 1, 1)
        T, B = x.shape[:2]
        x = self.lif(self.conv(x.flatten(0, 1)).reshape(T, B, 8, 4, 4))
        x = x.reshape(T, B, 2, 2, 2, 2, 2, 2, 2, 1).permute(0, 1, 9, 5, 7, 2, 8, 3, 6, 4)
        x = self.lif2(self.fc(x.reshape(T, B, 32, 4)))
        logits: Tensor = self.head(x.mean(2)).mean(0)
        return logits


def test_a_permutation_of_ten_axes_is_exact() -> None:
    assert compared(quantized(Windows())) > 10_000  # type: ignore[arg-type]


# ---- numbers that are none ---------------------------------------------------------------------


class Gain(nn.Module):
    """A factor computed from a buffer, as SpikingResformer's before training."""

    rate: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.register_buffer("rate", torch.tensor(rate))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * (1.0 / torch.sqrt(self.rate))
        return y


@pytest.mark.parametrize(("rate", "what"), [(0.0, "infinity"), (-1.0, "NaN")])
def test_a_factor_that_is_not_finite_is_named(rate: float, what: str) -> None:
    net = Net(LIF(), nn.Sequential(Gain(rate), LIF()))
    why = rf"'second\.0': aten\.mul\.Tensor takes {what} that is computed from parameters"
    with pytest.raises(CaptureError, match=why):
        quantized(net)
    assert compared(quantized(Net(LIF(), nn.Sequential(Gain(0.25), LIF())))) > 10_000


@pytest.mark.parametrize("name", ["fc1.weight", "fc2.bias", "norm.running_var", "norm.weight"])
@pytest.mark.parametrize(("value", "what"), [(float("nan"), "NaN"), (float("-inf"), "infinity")])
def test_a_parameter_that_is_not_finite_is_named(name: str, value: float, what: str) -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__(LIF(), LIF())
            self.norm = nn.BatchNorm1d(20)

        def forward(self, images: Tensor) -> Tensor:
            x = self.fc1(images.flatten(1)).unsqueeze(0).repeat(self.T, 1, 1)
            x = self.norm(self.fc2(self.first(x)).flatten(0, 1)).unflatten(0, (self.T, -1))
            logits: Tensor = self.head(self.second(x)).mean(0)
            return logits

    net = Normed()
    net.state_dict()[name].view(-1)[0] = value
    owner = name.partition(".")[0]
    with pytest.raises(CaptureError, match=rf"'{owner}': .* takes {what} from {name}"):
        quantized(net)
