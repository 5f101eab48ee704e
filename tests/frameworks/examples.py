"""Neurons of every framework as their users make them, and how they run them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

T = 4
FOLDERS = Path(sys.prefix) / "frameworks"  # of those that cannot be installed side by side

Run = Callable[[Any, Tensor], Tensor]  # (module, currents (T, ...)) -> spikes (T, ...)


@dataclass(frozen=True, slots=True)
class Example:
    """A module as its users make it, and how they run it."""

    label: str
    module: Any
    run: Run


def whole(module: Any, x: Tensor) -> Tensor:
    """All steps in one call."""
    spikes: Tensor = module(x)
    return spikes


def fresh(module: Any, x: Tensor) -> Tensor:
    """All steps in one call, of SpikingJelly."""
    module.reset()
    return whole(module, x)


def step_by_step(module: Any, x: Tensor) -> Tensor:
    """SpikingJelly's step mode 's', and BrainCog without layer_by_layer."""
    (module.reset if hasattr(module, "reset") else module.n_reset)()
    return torch.stack([module(current) for current in x])


def with_state(module: Any, x: Tensor) -> Tensor:
    """The state passed from step to step by hand: snnTorch, norse."""
    state = module.init_leaky() if hasattr(module, "init_leaky") else None
    if hasattr(module, "init_lapicque"):
        state = module.init_lapicque()
    spikes = []
    for current in x:
        s, state = module(current, state)
        spikes.append(s)
    return torch.stack(spikes)


def integrated(module: Any, x: Tensor) -> Tensor:
    """A neuron without spikes: where its membrane has reached 1."""
    return (with_state(module, x) >= 1).to(x.dtype)


def lapilli() -> list[Example]:
    from lapilli.model.families.lif import LIF, PLIF, IntegerSpike, TernaryLIF

    return [
        Example("LIF()", LIF(), whole),
        Example("LIF(tau=1.5)", LIF(1.5), whole),
        Example("PLIF()", PLIF(), whole),
        Example("PLIF(tau=4)", PLIF(4.0), whole),
        Example("PLIF(tau=3)", PLIF(3.0), whole),
        Example("TernaryLIF()", TernaryLIF(), whole),
        Example("IntegerSpike()", IntegerSpike(), whole),
        Example("IntegerSpike(D=4, norm=1)", IntegerSpike(4, 1), whole),
    ]


def with_k(module: Any, k: float) -> Any:
    """A KLIF that has learnt."""
    with torch.no_grad():
        module.k.fill_(k)
    return module


def with_leaks(module: Any, w: list[float]) -> Any:
    """A PLIF with a leak of each channel."""
    module.w = nn.Parameter(torch.tensor(w))
    return module


def learnt(module: Any, *, causal: bool = False) -> Any:
    """Weights and thresholds that differ, of a parallel neuron; `causal` ones look back."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        weight = torch.rand(module.weight.shape, generator=random) + 0.1
        module.weight.copy_(weight.tril() if causal else weight)
        module.bias.copy_(-0.3 - 0.7 * torch.rand(module.bias.shape, generator=random))
    return module


def spikingjelly() -> list[Example]:
    from spikingjelly.activation_based import neuron as sj

    made = []
    for mode, run in (("m", fresh), ("s", step_by_step)):
        for label, module in (
            ("LIFNode()", sj.LIFNode(step_mode=mode)),
            ("LIFNode(tau=1.5)", sj.LIFNode(tau=1.5, step_mode=mode)),
            ("LIFNode(v_reset=None)", sj.LIFNode(v_reset=None, step_mode=mode)),
            ("LIFNode(v_reset=-0.5)", sj.LIFNode(v_reset=-0.5, step_mode=mode)),
            (
                "LIFNode(tau=4, decay_input=False)",
                sj.LIFNode(tau=4.0, decay_input=False, step_mode=mode),
            ),
            (
                "LIFNode(decay_input=False, v_reset=0.25)",
                sj.LIFNode(decay_input=False, v_reset=0.25, step_mode=mode),
            ),
            ("IFNode()", sj.IFNode(step_mode=mode)),
            ("IFNode(v_reset=None)", sj.IFNode(v_reset=None, step_mode=mode)),
            ("IFNode(v_reset=-0.5)", sj.IFNode(v_reset=-0.5, step_mode=mode)),
            ("ParametricLIFNode()", sj.ParametricLIFNode(step_mode=mode)),
            ("ParametricLIFNode(init_tau=3)", sj.ParametricLIFNode(3.0, step_mode=mode)),
            (
                "ParametricLIFNode(), w=[0, -1]",
                with_leaks(sj.ParametricLIFNode(step_mode=mode), [0.0, -1.0]),
            ),
            ("KLIFNode(), k=1.25", with_k(sj.KLIFNode(step_mode=mode), 1.25)),
            (
                "KLIFNode(scale_reset=True, tau=4), k=0.75",
                with_k(sj.KLIFNode(True, 4.0, step_mode=mode), 0.75),
            ),
        ):
            made.append(Example(f"{label}, step_mode={mode!r}", module, run))
    return made


def spikingjelly_new() -> list[Example]:
    """What 2.0 has beyond the release before."""
    from spikingjelly.activation_based import neuron as sj

    made = [
        Example("OTTTLIFNode()", sj.OTTTLIFNode(), step_by_step),
        Example("SLTTLIFNode()", sj.SLTTLIFNode(), step_by_step),
    ]
    for mode, run in (("m", fresh), ("s", step_by_step)):
        for label, module in (
            ("SimpleIFNode()", sj.SimpleIFNode(step_mode=mode)),
            ("SimpleLIFNode(2, True)", sj.SimpleLIFNode(2.0, True, step_mode=mode)),
            ("TernaryIFNode()", sj.TernaryIFNode(step_mode=mode)),
            ("TernaryLIFNode()", sj.TernaryLIFNode(step_mode=mode)),
            ("TernaryLIFNode(v_reset=None)", sj.TernaryLIFNode(v_reset=None, step_mode=mode)),
            (
                "KLIFNode(v_reset=None), k=0.8",
                with_k(sj.KLIFNode(v_reset=None, step_mode=mode), 0.8),
            ),
            (
                "KLIFNode(True, v_reset=None), k=0.5",
                with_k(sj.KLIFNode(True, v_reset=None, step_mode=mode), 0.5),
            ),
            ("ILIFNode()", sj.ILIFNode(step_mode=mode)),
            ("ILIFNode(tau=2)", sj.ILIFNode(2.0, step_mode=mode)),
            ("MaskedPSN(2, T)", learnt(sj.MaskedPSN(2, T, 1.0, step_mode=mode))),
            ("SlidingPSN(3)", learnt(sj.SlidingPSN(3, step_mode=mode))),
        ):
            made.append(Example(f"{label}, step_mode={mode!r}", module, run))
    cuba = sj.CUBALIFNode()
    cuba.step_mode = "m"
    psn = learnt(sj.PSN(T), causal=True)
    made += [
        Example("CUBALIFNode(), step_mode='m'", cuba, fresh),
        Example("PSN(T) that looks back", psn, whole),
    ]
    return [*spikingjelly(), *made]


def spikingjelly_old() -> list[Example]:
    from spikingjelly.clock_driven import (  # pyright: ignore[reportMissingImports]  # an older release
        neuron as sj,
    )

    class StepsLIF(sj.LIFNode):  # type: ignore[misc]
        """What STEP changes: all steps in one call, (T*B, ...), a loop over one step's forward."""

        __module__, __qualname__ = "models.utils.node", "LIFNode_Spikingjelly"

        def __init__(self) -> None:
            super().__init__(v_reset=0.0)
            self.step = T

        def forward(self, x: Tensor) -> Tensor:
            one_step: Any = sj.LIFNode.forward
            return torch.cat([one_step(self, step) for step in x.unflatten(0, (T, -1))])

    def folded(module: Any, x: Tensor) -> Tensor:
        module.reset()
        spikes: Tensor = whole(module, x.flatten(0, 1)).unflatten(0, (T, x.shape[1]))
        return spikes

    return [
        Example("STEP LIFNode_Spikingjelly()", StepsLIF(), folded),
        Example("MultiStepLIFNode()", sj.MultiStepLIFNode(backend="torch"), fresh),
        Example("MultiStepLIFNode(tau=1.5)", sj.MultiStepLIFNode(tau=1.5), fresh),
        Example("MultiStepLIFNode(v_reset=None)", sj.MultiStepLIFNode(v_reset=None), fresh),
        Example("MultiStepLIFNode(v_reset=-0.5)", sj.MultiStepLIFNode(v_reset=-0.5), fresh),
        Example(
            "MultiStepLIFNode(tau=4, decay_input=False)",
            sj.MultiStepLIFNode(tau=4.0, decay_input=False),
            fresh,
        ),
        Example("MultiStepIFNode()", sj.MultiStepIFNode(), fresh),
        Example("MultiStepIFNode(v_reset=None)", sj.MultiStepIFNode(v_reset=None), fresh),
        Example("MultiStepParametricLIFNode()", sj.MultiStepParametricLIFNode(), fresh),
        Example("MultiStepParametricLIFNode(3)", sj.MultiStepParametricLIFNode(3.0), fresh),
    ]


def snntorch() -> list[Example]:
    from snntorch import Lapicque, Leaky

    return [
        Example("Leaky(0.5)", Leaky(0.5), with_state),
        Example("Leaky(0.9)", Leaky(0.9), with_state),
        Example("Leaky(0.75, threshold=2)", Leaky(0.75, threshold=2.0), with_state),
        Example("Leaky(0.5, 'zero')", Leaky(0.5, reset_mechanism="zero"), with_state),
        Example(
            "Leaky(0.5, 'zero', reset_delay=False)",
            Leaky(0.5, reset_mechanism="zero", reset_delay=False),
            with_state,
        ),
        Example("Leaky(0.5, 'none')", Leaky(0.5, reset_mechanism="none"), with_state),
        Example("Leaky([1/2, 3/4])", Leaky(torch.tensor([0.5, 0.75])), with_state),
        Example(
            "Leaky([0.3, 0.9], threshold=[1, 2])",
            Leaky(torch.tensor([0.3, 0.9]), threshold=torch.tensor([1.0, 2.0])),
            with_state,
        ),
        Example(
            "Leaky([1/2, 0.9], 'zero')",
            Leaky(torch.tensor([0.5, 0.9]), reset_mechanism="zero"),
            with_state,
        ),
        Example("Lapicque(R=1, C=2)", Lapicque(R=1, C=2), with_state),
        Example("Lapicque(0.5)", Lapicque(0.5), with_state),
    ]


def norse() -> list[Example]:
    from norse.torch import (
        LIF,
        LIBoxCell,
        LIBoxParameters,
        LICell,
        LIFBoxCell,
        LIFCell,
        LIFParameters,
        LIParameters,
    )
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    half, quarter = torch.tensor(500.0), torch.tensor(250.0)  # of dt = 1 ms
    cuba = LIFParameters(tau_syn_inv=half, tau_mem_inv=quarter)
    raised = torch.tensor(0.25)

    def first(module: Any, x: Tensor) -> Tensor:
        spikes: Tensor = module(x)[0]
        return spikes

    return [
        Example("LIFCell()", LIFCell(), with_state),
        Example("LIFCell(1/2, 1/4)", LIFCell(cuba), with_state),
        Example("LIF(1/2, 1/4)", LIF(cuba), first),
        Example(
            "LIFCell(1/2, 1/4, v_leak=v_reset=0.25)",
            LIFCell(cuba._replace(v_leak=raised, v_reset=raised)),
            with_state,
        ),
        Example("LIFBoxCell()", LIFBoxCell(), with_state),
        Example("LIFBoxCell(1/2)", LIFBoxCell(LIFBoxParameters(tau_mem_inv=half)), with_state),
        Example(
            "LIFBoxCell(1/2, reset_subtract)",
            LIFBoxCell(LIFBoxParameters(tau_mem_inv=half, reset_method=reset_subtract)),
            with_state,
        ),
        Example(
            "LIFBoxCell(1/2, reset_subtract, v_th=[1, 3/2])",
            LIFBoxCell(
                LIFBoxParameters(
                    tau_mem_inv=half, v_th=torch.tensor([1.0, 1.5]), reset_method=reset_subtract
                )
            ),
            with_state,
        ),
        Example("LICell()", LICell(), integrated),
        Example("LICell(1/2, 1/4)", LICell(LIParameters(half, quarter)), integrated),
        Example("LIBoxCell(1/2)", LIBoxCell(LIBoxParameters(half)), integrated),
    ]


class GLIFTorch(nn.Module):
    """Gates that are open or shut, and constants of each step."""

    __module__, __qualname__ = "models.utils.node", "GLIFTorch"

    def __init__(self, *gates: float) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.T, self.static_gate = T, True
        self.alpha, self.beta, self.gamma = (nn.Parameter(torch.tensor(g)) for g in gates)
        self.tau, self.conduct = (nn.Parameter(torch.randn(T, generator=random)) for _ in "ab")
        self.Vth, self.reVth = (nn.Parameter(torch.rand(T, generator=random) - 0.3) for _ in "ab")
        self.leak = nn.Parameter(torch.randn(T, generator=random) - 2)

    def extended_state_update(
        self, u: Tensor, o: Tensor, x: Tensor, *, tau: Any, Vth: Any, leak: Any, conduct: Any,
        reVth: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        al, be, ga = ((g > 0).double() for g in (self.alpha, self.beta, self.gamma))
        kept = u * (1 - ga * o) * (tau if al else 1)
        u = kept + x * (conduct if be else 1) - (1 - al) * leak - (1 - ga) * reVth * o
        return u, (u > Vth).float()

    def forward(self, x: Tensor) -> Tensor:
        steps, spikes = x.unflatten(0, (T, -1)), []
        u = o = torch.zeros_like(steps[0])
        names = ("tau", "Vth", "leak", "conduct", "reVth")
        for t, step in enumerate(steps):
            now = {name: getattr(self, name)[t].sigmoid() for name in names}
            u, o = self.extended_state_update(u, o, step, **now)
            spikes.append(o)
        return torch.cat(spikes)


def braincog() -> list[Example]:
    # Its packages import datasets and plots; node.py and surrogate.py are all that we run.
    for name in ("braincog", "braincog.base", "braincog.base.node", "braincog.base.strategy"):
        package = types.ModuleType(name)
        package.__path__ = [str(FOLDERS / "braincog" / name.replace(".", "/"))]
        sys.modules[name] = package
    from braincog.base.node import node as bc  # pyright: ignore[reportMissingImports]  # made above

    class Step:
        """What STEP changes: thresholds of 1, >=, all steps in one call, tokens (T*B, N, C)."""

        def __init__(self, **options: Any) -> None:
            own = {"threshold": 1.0, "act_fun": bc.SigmoidGrad, "step": T, "layer_by_layer": True}
            super().__init__(**{**own, **options})

        def rearrange2node(self, inputs: Tensor) -> Tensor:
            unfolded: Tensor = inputs.unflatten(0, (self.step, -1))  # type: ignore[attr-defined]
            return unfolded

        def rearrange2op(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(0, 1)

    class LIFNode(Step, bc.LIFNode):  # type: ignore[misc]
        __module__, __qualname__ = "models.utils.node", "LIFNode"

    class IFNode(Step, bc.IFNode):  # type: ignore[misc]
        __module__, __qualname__ = "models.utils.node", "IFNode"

        def __init__(self) -> None:
            super().__init__(act_fun=bc.AtanGrad)

    class NILIFNode(LIFNode):
        """Half to even of the membrane over D thresholds, and one threshold taken off."""

        __module__, __qualname__ = "models.utils.node", "NILIFNode"
        mem: Tensor

        def __init__(self, D: int = 2, **options: Any) -> None:
            super().__init__(**options)
            self.D = D

        def calc_spike(self) -> None:
            self.spike = ((self.mem / self.threshold).clamp(0, self.D) / self.D).round()
            self.mem = self.mem - self.spike * self.threshold

    class ILIFNode(NILIFNode):
        """The same, without dividing by D: up to D events."""

        __module__, __qualname__ = "models.utils.node", "ILIFNode"

        def calc_spike(self) -> None:
            self.spike = (self.mem / self.threshold).clamp(0, self.D).round()
            self.mem = self.mem - self.spike * self.threshold

    class KLIFNode(LIFNode):
        """A factor, and a floor of 0, before it compares."""

        __module__, __qualname__ = "models.utils.node", "KLIFNode"
        mem: Tensor

        def __init__(self, k: float, **options: Any) -> None:
            super().__init__(**options)
            self.k = nn.Parameter(torch.tensor(k))

        def integral(self, inputs: Tensor) -> None:
            super().integral(inputs)
            self.mem = (self.mem * self.k).relu()

    class PSNTorch(nn.Module):
        """A matrix over the steps."""

        __module__, __qualname__ = "models.utils.node", "PSNTorch"

        def __init__(self) -> None:
            super().__init__()
            self.T, self.fc = T, learnt(nn.Linear(T, T), causal=True)
            self.act_func = bc.SigmoidGrad()

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc.weight @ x.reshape(T, -1) + self.fc.bias[:, None]
            spikes: Tensor = self.act_func(h).view(x.shape)
            return spikes

    def unfolded(module: Any, x: Tensor) -> Tensor:
        spikes: Tensor = whole(module, x.flatten(0, 1)).unflatten(0, (T, -1))
        return spikes

    class PLIFNode(Step, bc.PLIFNode):  # type: ignore[misc]
        __module__, __qualname__ = "models.utils.node", "PLIFNode"

    def folded(module: Any, x: Tensor) -> Tensor:
        module.n_reset()
        spikes: Tensor = module(x.flatten(0, 1)).unflatten(0, (T, -1))
        return spikes

    return [
        Example("IFNode()", bc.IFNode(), step_by_step),
        Example("LIFNode()", bc.LIFNode(), step_by_step),
        Example("LIFNode(tau=4)", bc.LIFNode(threshold=1.0, tau=4.0), step_by_step),
        Example("LIFNode(layer_by_layer)", bc.LIFNode(step=T, layer_by_layer=True), folded),
        Example("PLIFNode()", bc.PLIFNode(), step_by_step),
        Example("PLIFNode(tau=3)", bc.PLIFNode(tau=3.0), step_by_step),
        Example("STEP IFNode()", IFNode(), folded),
        Example("STEP NILIFNode()", NILIFNode(), folded),
        Example("STEP NILIFNode(D=3, tau=4)", NILIFNode(3, tau=4.0), folded),
        Example("STEP ILIFNode(D=2)", ILIFNode(), folded),
        Example("STEP ILIFNode(D=4, threshold=0.5)", ILIFNode(4, threshold=0.5), folded),
        Example("STEP KLIFNode(), k=1", KLIFNode(1.0), folded),
        Example("STEP KLIFNode(tau=1.5), k=1.3", KLIFNode(1.3, tau=1.5), folded),
        Example("STEP GLIFTorch(), gates 1 1 1", GLIFTorch(0.3, 0.3, 0.3), unfolded),
        Example("STEP GLIFTorch(), gates 1 1 0", GLIFTorch(0.3, 0.3, -0.3), unfolded),
        Example("STEP GLIFTorch(), gates 0 0 0", GLIFTorch(-0.3, -0.3, -0.3), unfolded),
        Example("STEP PSNTorch() that looks back", PSNTorch(), unfolded),
        Example("STEP LIFNode()", LIFNode(), folded),
        Example("STEP LIFNode(tau=1.5, threshold=0.5)", LIFNode(tau=1.5, threshold=0.5), folded),
        Example("STEP PLIFNode(tau=3)", PLIFNode(tau=3.0), folded),
    ]


EXAMPLES: Mapping[str, Callable[[], list[Example]]] = {
    "lapilli": lapilli,
    "spikingjelly": spikingjelly_new,
    "spikingjelly-14": spikingjelly,
    "spikingjelly-old": spikingjelly_old,
    "snntorch": snntorch,
    "norse": norse,
    "braincog": braincog,
}
