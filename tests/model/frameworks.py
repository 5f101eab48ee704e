"""Run every neuron row beside its framework; write docs/adapters.md from what was seen.

    python tests/model/frameworks.py --write       write the page
    python tests/model/frameworks.py --facts NAME  facts of one group, as JSON

Each example steps the framework's own module in float64, in the way that its users do, on
random currents of which many meet the threshold exactly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapilli.ir.ops import Neuron, Reset
from lapilli.ir.semantics import State, evaluate, integrate
from lapilli.model.adapters import adapter_of
from lapilli.model.rule import Adapter, NeuronRule, Rule, StaircaseRule
from lapilli.model.simulate import simulate
from lapilli.quantize.neurons import IntegerNeuron, integer_neuron

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adapters.md"
FOLDERS = Path(sys.prefix) / "frameworks"  # of those that cannot be installed side by side
APART: Mapping[str, tuple[str, ...]] = {
    "spikingjelly-old": ("spikingjelly==0.0.0.0.12",),
    "braincog": ("braincog==0.2.7.19",),
}
GROUPS = ("lapilli", "spikingjelly", "spikingjelly-old", "snntorch", "norse", "braincog")
T, LANES, NEURONS = 4, 4, 512

Run = Callable[[Any, Tensor], Tensor]  # (module, currents (T, ...)) -> spikes (T, ...)


@dataclass(frozen=True, slots=True)
class Example:
    """A module as its users make it, and how they run it."""

    label: str
    module: Any
    run: Run


@dataclass(frozen=True, slots=True)
class Fact:
    """What was seen of one example."""

    label: str
    kind: str
    rule: str
    start: str
    integers: str
    compared: int
    differ: int
    rate: float
    shows: str


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
    from lapilli.model.neuron import LIF, PLIF, IntegerSpike, TernaryLIF

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
    from spikingjelly.clock_driven import neuron as sj

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
    from braincog.base.node import node as bc

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
    "spikingjelly-old": spikingjelly_old,
    "snntorch": snntorch,
    "norse": norse,
    "braincog": braincog,
}


def look(example: Example) -> Fact:
    """Run one example and compare it with its row."""
    module = example.module.double().eval()
    adapter = adapter_of(module)
    if adapter is None:
        raise TypeError(f"{example.label}: {type(module)} has no row")
    rule = adapter.rule(module)
    scale = _scale(rule)
    made = integer_neuron(rule, scale, T)
    random = torch.Generator().manual_seed(1)
    shape = (T, LANES, NEURONS)
    n = torch.randint(-9, 17, shape, generator=random)
    x = n.double() * float(scale)
    if not made.exact:  # floats round: away from ties
        x = x + torch.randn(shape, generator=random, dtype=torch.float64) * float(scale)
    with torch.no_grad():
        spikes = example.run(module, x).double()
        traced, membranes = adapter.trace(module, x)
        again = example.run(module, x).double()  # the trace has left it as it was
    want, state = _integers(made, n, rule) if made.exact else simulate(rule, x)
    differ = sum(int((a != b).sum()) for a, b in ((spikes, want), (traced, want), (again, want)))
    compared = 3 * spikes.numel()
    if made.exact:
        differ += int((membranes != state).sum())
        compared += state.numel()
    return Fact(
        label=example.label,
        kind=f"{type(module).__module__}.{type(module).__qualname__}",
        rule=_in_words(rule, silent=adapter.silent),
        start=_number(rule.rest) if isinstance(rule, NeuronRule) else "no state",
        integers="exact in floats" if made.exact else "integer neuron on both sides",
        compared=compared,
        differ=differ,
        rate=float((spikes != 0).double().mean()),
        shows=_shown(adapter, module),
    )


def _scale(rule: Rule) -> Fraction:
    """A grid of currents that meets every threshold."""
    return rule.thetas[0] / rule.gain / 8 if isinstance(rule, NeuronRule) else Fraction(1, 4)


def _integers(made: IntegerNeuron, n: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Spikes and membranes of the integer neuron, in real units."""
    x = n.numpy()
    if isinstance(rule, StaircaseRule) or not isinstance(made.op, Neuron):
        counts = torch.from_numpy(evaluate(made.op, (x,)))
        return counts.double() * float(rule.output_scale), n.double() * float(made.scale)
    state = State.rest(x.shape[1:])
    spikes, membranes = [], []
    for current in x:
        fired = integrate(made.op, current, state)
        state = fired.state
        spikes.append(torch.from_numpy(fired.spikes).double())
        membranes.append(torch.from_numpy(fired.membrane).double())
    unit = float(made.unit / 2**made.op.fraction_bits)
    return torch.stack(spikes), torch.stack(membranes) * unit + float(rule.rest)


def _shown(adapter: Adapter, module: Any) -> str:
    """Which membrane the author's forward can read."""
    if adapter.silent:
        return "the answer"
    if not adapter.stepwise(module) or not adapter.membrane:
        return "no"
    return "after reset" if adapter.shows_after_reset(module) else "before reset"


def _in_words(rule: Rule, *, silent: bool) -> str:
    if isinstance(rule, StaircaseRule):
        return f"round(clamp(x, 0, {rule.levels})) / {rule.norm}, half to even"
    sign = ">" if rule.strict else ">="
    parts = [f"keeps {_number(rule.decay)}", f"input x {_number(rule.gain)}"]
    if rule.current_decay:
        parts.append(f"current keeps {_number(rule.current_decay)}")
    if silent:
        return ", ".join([*parts, "no spikes: answers h"])
    fires = f"h {sign} {_number(rule.rest + rule.thetas[0])}"
    parts.append(f"|{fires[0]}|{fires[1:]}" if rule.ternary else fires)
    reset = {
        Reset.TO_ZERO: f"to {_number(rule.rest)}",
        Reset.BY_SUBTRACTION: f"by {_number(rule.reset_by)}",
        Reset.NONE: "none",
    }[rule.reset]
    return ", ".join([*parts, f"reset {reset}"])


def _number(value: Fraction) -> str:
    short = value.denominator <= 4096
    return str(value) if short else f"{float(value):.6g}"


def facts(group: str) -> list[Fact]:
    """Facts of one group, from another process if it needs packages of its own."""
    if group not in APART or os.environ.get("LAPILLI_GROUP") == group:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # frameworks use what PyTorch deprecates
            return [look(example) for example in EXAMPLES[group]()]
    folder = FOLDERS / group
    if not folder.is_dir():
        _install(group, folder)
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, __file__, "--facts", group],
        env={**os.environ, "PYTHONPATH": path, "LAPILLI_GROUP": group},
        check=True,
        capture_output=True,
        text=True,
    )
    return [Fact(**fact) for fact in json.loads(done.stdout)]


def _install(group: str, folder: Path) -> None:
    """Whole or not at all: another process may be at it as well."""
    FOLDERS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDERS) as draft:
        target = Path(draft) / group
        command = ["pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([sys.executable, "-m", *command, *APART[group]], check=True)
        with suppress(OSError):  # the other one was faster
            target.rename(folder)


HEAD = """# Neurons that lapilli knows

Written by `python tests/model/frameworks.py --write`; a test fails when it is not what the
frameworks do. A row is an instance, run in float64 by its framework's own code beside the rule
that lapilli reads off it, T = {T}, on {count} random currents of which many meet the threshold.

In the order of a step: *current* i <- keeps * i + x; *membrane* h <- rest + keeps * (v - rest) +
input * i; it fires where the condition holds; a reset goes to a value, or subtracts an amount
before the next decay (a framework that subtracts after the decay subtracts threshold / decay
here). `x` below is times. Where floats would round, the integer neuron stands on both sides:
spikes are then compared with the rule in float64, away from ties, and membranes are not.

Your own class: `quantize(model, ..., neurons={{"package.module.Class": NeuronRule(...)}})`. It
takes currents (T, ...), and is probed against its own forward before it is believed.

The last column says which membrane a neuron of one time step a call shows to a forward that reads
it. One without spikes is compared where its membrane reaches 1.

| neuron | rule | starts at | integers | compared | differ | fires | membrane |
|---|---|---|---|---:|---:|---:|---|
"""


def page(seen: Mapping[str, list[Fact]]) -> str:
    """The text of docs/adapters.md."""
    lines = [
        f"| `{group}` {f.label} | {f.rule.replace('|', chr(92) + '|')} | {f.start} "
        f"| {f.integers} | {f.compared:,} | {f.differ} | {f.rate:.0%} | {f.shows} |"
        for group, rows in seen.items()
        for f in rows
    ]
    return HEAD.format(T=T, count=T * LANES * NEURONS) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", metavar="NAME", choices=GROUPS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.facts:
        print(json.dumps([asdict(fact) for fact in facts(options.facts)]))  # noqa: T201
    elif options.write:
        PAGE.write_text(page({group: facts(group) for group in GROUPS}))
    else:
        parser.error("say --write, or --facts NAME")
