"""Neurons of every framework as their users make them, and how they run them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
        ):
            made.append(Example(f"{label}, step_mode={mode!r}", module, run))
    return made


def spikingjelly_old() -> list[Example]:
    from spikingjelly.clock_driven import (  # pyright: ignore[reportMissingImports]  # an older release
        neuron as sj,
    )

    return [
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
        Example("LICell()", LICell(), integrated),
        Example("LICell(1/2, 1/4)", LICell(LIParameters(half, quarter)), integrated),
        Example("LIBoxCell(1/2)", LIBoxCell(LIBoxParameters(half)), integrated),
    ]


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

    class PLIFNode(Step, bc.PLIFNode):  # type: ignore[misc]
        __module__, __qualname__ = "models.utils.node", "PLIFNode"

    def folded(module: Any, x: Tensor) -> Tensor:
        module.n_reset()
        spikes: Tensor = module(x.flatten(0, 1)).unflatten(0, (T, -1))
        return spikes

    return [
        Example("LIFNode()", bc.LIFNode(), step_by_step),
        Example("LIFNode(tau=4)", bc.LIFNode(threshold=1.0, tau=4.0), step_by_step),
        Example("LIFNode(layer_by_layer)", bc.LIFNode(step=T, layer_by_layer=True), folded),
        Example("PLIFNode()", bc.PLIFNode(), step_by_step),
        Example("PLIFNode(tau=3)", bc.PLIFNode(tau=3.0), step_by_step),
        Example("STEP LIFNode()", LIFNode(), folded),
        Example("STEP LIFNode(tau=1.5, threshold=0.5)", LIFNode(tau=1.5, threshold=0.5), folded),
        Example("STEP PLIFNode(tau=3)", PLIFNode(tau=3.0), folded),
    ]


EXAMPLES: Mapping[str, Callable[[], list[Example]]] = {
    "lapilli": lapilli,
    "spikingjelly": spikingjelly,
    "spikingjelly-14": spikingjelly,
    "spikingjelly-old": spikingjelly_old,
    "snntorch": snntorch,
    "norse": norse,
    "braincog": braincog,
}
