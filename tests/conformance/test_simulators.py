"""Every simulator, every case, and proof that the cases can fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.comparison.targets import NAMES
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, RangeError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.recording import Recording
from lapilli.ir.semantics import Fired, State, evaluate, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.c import PortableC, compiler
from lapilli.simulators.conformance import CASES, Case, check
from lapilli.simulators.conformance.general_cases import GENERAL
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.fast import Fast
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.nengo_loihi.simulator import NengoLoihi
from lapilli.simulators.nir.nirtorch import Nir, NirTorch
from lapilli.simulators.nir.norse import Norse
from lapilli.simulators.nir.snntorch import SnnTorch
from lapilli.simulators.nir.spikingjelly import SpikingJelly
from lapilli.simulators.onnx import Onnx
from lapilli.simulators.protocol import Executable, Simulator
from lapilli.simulators.reference import Reference

Inputs = tuple[IntArray, ...]
_C = ("-std=c99", "-O0")  # compiled in less time; tests/simulators/test_c.py takes -O2
SIMULATORS: tuple[Simulator, ...] = (
    Reference(),
    EventDriven(),
    Fast(),
    Onnx(),
    Onnx("onnx-inlined", inlined=True),
    Onnx("onnx-step", step=True),
    Onnx("onnx-step-inlined", step=True, inlined=True),
    PortableC(options=_C),
    PortableC("c-step", step=True, options=_C),
)


@pytest.mark.parametrize("simulator", SIMULATORS, ids=lambda s: s.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_reference(simulator: Simulator, case: Case) -> None:
    if isinstance(simulator, PortableC) and compiler() is None:
        pytest.skip("no C compiler is installed")
    assert check(simulator, case) > 0


# Readers of NIR, each in its flavour, and what they decline of the cases: words of the reason.
NIR_READERS: tuple[Simulator, ...] = (Nir(), NirTorch(), SnnTorch(), SpikingJelly(), Norse())
_TWO_INPUTS, _BEHIND = "a second input", "x: is needed behind neurons"
DECLINED = {
    "decay-truncates-toward-zero": "s: its state truncates: 0 fraction bits, 3 steps need 2",
    "input-shifts-to-the-right": "s: its state truncates: -2 fraction bits",
    "current-decays-on-its-own": "s: synaptic current decays by 2048/4096",
    "neuron-bias-every-step": "s: has a bias register",
    "matmul-gates-rows": _TWO_INPUTS,
    "gate-keeps-the-sign": _TWO_INPUTS,
    "matmul-adds-a-row-per-event": _TWO_INPUTS,
    "gate-adds-per-event": _TWO_INPUTS,
    "concat-keeps-the-order": _TWO_INPUTS,
    "membrane-is-read-before-its-reset": "s: shows a membrane",
    "membrane-is-read-after-its-reset": "s: shows a membrane",
    "shift-sum-stops-at-a-power-of-two": _TWO_INPUTS,
    "shift-sum-truncates-the-sum-toward-zero": _TWO_INPUTS,
    "shift-sum-leaves-out-what-is-far": _TWO_INPUTS,
    **{name: "a general neuron" for name, *_ in GENERAL},
}
# A chain shows its graded input to the first neurons alone; neurons cannot carry it further.
DECLINED_BY_CHAINS = {
    "soft-reset-keeps-the-rest": _BEHIND,
    "soft-reset-by-its-own-amount": _BEHIND,
    "fraction-bits-keep-the-half": _BEHIND,
    "v-below-zero-is-kept": _BEHIND,
    "ternary-fires-both-ways": _BEHIND,
    "a-negative-spike-adds-what-a-spike-takes": _BEHIND,
    "pool-takes-the-largest": _BEHIND,
    "relu-drops-the-negative": _BEHIND,
}


@pytest.mark.torch
@pytest.mark.parametrize("simulator", NIR_READERS, ids=lambda s: s.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_readers_of_nir_are_exact_or_decline(simulator: Simulator, case: Case) -> None:
    for package in ("nir", "nirtorch", "torch", "snntorch", "spikingjelly", "norse"):
        pytest.importorskip(package)
    declined = {**DECLINED, **(DECLINED_BY_CHAINS if simulator.name == "norse" else {})}
    if case.name not in declined:
        assert check(simulator, case) > 0
        return
    with pytest.raises(UnsupportedError, match=re.escape(declined[case.name])):
        check(simulator, case)


def test_every_simulator_of_the_table_is_held_to_the_suite() -> None:
    # tests/simulators/test_lava.py, test_lava_stock.py, test_nengo_loihi.py
    elsewhere = {Lava().name, StockLava().name, NengoLoihi().name}
    here = {simulator.name for simulator in (*SIMULATORS, *NIR_READERS)}
    missing = set(NAMES) - here - elsewhere
    assert not missing, f"name it in SIMULATORS above, to run it on every case: {missing}"


@pytest.mark.parametrize("case", [c for c in CASES if c.by_hand is not None], ids=str)
def test_the_reference_agrees_with_paper(case: Case) -> None:
    (output,) = case.graph.outputs
    got = Reference().compile(case.graph).run(case.inputs).values[output]
    assert tuple(got.ravel().tolist()) == case.by_hand


def test_the_block_is_not_vacuous() -> None:
    (case,) = (c for c in CASES if c.name == "attention-block")
    values = Reference().compile(case.graph).run(case.inputs).values
    for name in case.graph.neurons:
        assert 0 < values[name].mean() < 1, name


def _strict_threshold(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, threshold=IntTensor(op.threshold.array + 1)), x, state)


def _always_hard(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, reset=ops.Reset.TO_ZERO), x, state)


def _always_soft(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    by = int(op.threshold.array.max())
    return integrate(replace(op, reset=ops.Reset.BY_SUBTRACTION, reset_by=by), x, state)


def _resets_by_threshold(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, reset_by=int(op.threshold.array.max())), x, state)


def _floors(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    kept = State(state.u, np.floor_divide(state.v * (ops.DECAY_ONE - op.dv), ops.DECAY_ONE))
    return integrate(replace(op, dv=0), x, kept)


def _no_fraction(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    whole = replace(op, fraction_bits=0, threshold=IntTensor((op.threshold.array + 1) // 2))
    return integrate(whole, x, state)


def _shifts_toward_zero(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    if op.fraction_bits >= 0:
        return integrate(op, x, state)
    small = np.sign(x) * (np.abs(x) >> -op.fraction_bits)
    return integrate(replace(op, fraction_bits=0), small, state)


def _no_negative_v(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(op, x, State(state.u, np.maximum(state.v, 0)))


def _no_current_memory(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, du=ops.DECAY_ONE), x, state)


def _no_neuron_bias(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, bias=IntTensor.of([0])), x, state)


def _takes_after_a_negative_spike(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    fired = integrate(op, x, state)
    if op.reset is not ops.Reset.BY_SUBTRACTION:
        return fired
    left = fired.membrane - np.abs(fired.spikes) * op.reset_by
    return replace(fired, state=State(fired.state.u, left))


def _never_negative(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, ternary=False), x, state)


def _no_floor(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, floored=False), x, state)


def _floor_of_zero(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, floor=0), x, state)


def _takes_once(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    fired = integrate(op, x, state)
    left = fired.membrane - np.sign(fired.spikes) * op.reset_by.array[0]
    return replace(fired, state=replace(fired.state, v=left))


def _constants_of_the_first_step(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(op, x, replace(state, t=0))


def _forgets_inputs(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(op, x, replace(state, past=()))


def _oldest_tap_first(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, taps=IntTensor(op.taps.array[:, ::-1])), x, state)


def _weighs_toward_zero(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    weighed = op.taps.array[0, 0] * x
    small = np.sign(weighed) * (np.abs(weighed) >> op.shift)
    return integrate(replace(op, taps=IntTensor.of([[[1]]]), shift=0), small, state)


def _one_decay(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, dv=IntTensor(op.dv.array[:, :1])), x, state)


def _one_amount(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, reset_by=IntTensor(op.reset_by.array[:, :1])), x, state)


def _no_general_current(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, du=IntTensor.of([[ops.DECAY_ONE]])), x, state)


def _no_bias(op: ops.Stateless, x: Inputs) -> IntArray:
    y = evaluate(op, x)
    return y - op.bias.array if isinstance(op, ops.Linear) else y


def _boolean_cast(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Linear):
        return evaluate(op, ((x[0] != 0).astype(np.int64),))
    return evaluate(op, x)


def _weights_of_a_byte(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Linear):
        op = replace(op, weight=IntTensor(op.weight.array.clip(-128, 127)))
    return evaluate(op, x)


def _turned_kernel(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Conv2d):
        op = replace(op, weight=IntTensor(op.weight.array[..., ::-1, ::-1]))
    return evaluate(op, x)


def _zero_padded_pool(op: ops.Stateless, x: Inputs) -> IntArray:
    y = evaluate(op, x)
    return np.maximum(y, 0) if isinstance(op, ops.MaxPool2d) else y


def _transposed_product(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.SpikeMatmul):
        return evaluate(op, (x[0], x[1][..., ::-1, :]))
    return evaluate(op, x)


def _unsigned_gate(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(op, (np.abs(x[0]), x[1])) if isinstance(op, ops.Gate) else evaluate(op, x)


def _boolean_matmul(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.SpikeMatmul):
        return evaluate(op, (x[0], np.sign(x[1])))
    return evaluate(op, x)


def _boolean_gate(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(op, (x[0], np.sign(x[1]))) if isinstance(op, ops.Gate) else evaluate(op, x)


def _beyond_a_power(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.ShiftSum):  # one more term, as small as can be, of a value that is 0
        least = x[0].max(axis=-1, keepdims=True) - op.window
        nothing = np.zeros_like(x[1][..., :1, :])
        x = (np.concatenate([x[0], least], -1), np.concatenate([x[1], nothing], -2))
    return evaluate(op, x)


def _rounds_down(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.ShiftSum):
        return evaluate(op, (x[0], x[1] << op.reach)) >> op.reach
    return evaluate(op, x)


def _truncates_each_term(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.ShiftSum):
        rows = np.eye(x[1].shape[-2], dtype=np.int64)[:, :, None]
        return np.asarray(sum(evaluate(op, (x[0], x[1] * row)) for row in rows))
    return evaluate(op, x)


def _adds_all_powers(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(replace(op, window=40) if isinstance(op, ops.ShiftSum) else op, x)


def _shifts_any_distance(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(replace(op, reach=op.window) if isinstance(op, ops.ShiftSum) else op, x)


def _strict_steps(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(op, (x[0] - 1,)) if isinstance(op, ops.Staircase) else evaluate(op, x)


def _rectifies_both(op: ops.Stateless, x: Inputs) -> IntArray:
    return np.abs(x[0]) if isinstance(op, ops.Relu) else evaluate(op, x)


def _repeats_elements(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Expand):
        return np.resize(np.repeat(x[0].ravel(), 2), (len(x[0]), *op.shape))
    return evaluate(op, x)


def _off_by_one(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Slice):
        op = replace(op, start=op.start - 1, stop=op.stop - 1)
    return evaluate(op, x)


def _second_first(op: ops.Stateless, x: Inputs) -> IntArray:
    return evaluate(op, x[::-1] if isinstance(op, ops.Concat) else x)


def _holds_what_was_delayed(op: ops.Stateless, x: Inputs) -> IntArray:
    return np.zeros_like(x[0]) if isinstance(op, ops.Delay) else evaluate(op, x)


def _heads_not_transposed(op: ops.Stateless, x: Inputs) -> IntArray:
    if isinstance(op, ops.Permute):
        return x[0].reshape([len(x[0]), *(x[0].shape[a + 1] for a in op.axes)])
    return evaluate(op, x)


def _shows_what_is_left(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    fired = integrate(op, x, state)
    return Fired(fired.spikes, fired.state.v, fired.state)


def _no_reset(op: ops.Neuron, x: IntArray, state: State) -> Fired:
    return integrate(replace(op, reset=ops.Reset.NONE), x, state)


# Each known bug, and the case written to expose it.
NEURON_MUTANTS = (
    (_strict_threshold, "fires-at-threshold"),
    (_always_hard, "soft-reset-keeps-the-rest"),
    (_resets_by_threshold, "soft-reset-by-its-own-amount"),
    (_always_soft, "hard-reset-drops-the-rest"),
    (_floors, "decay-truncates-toward-zero"),
    (_no_fraction, "fraction-bits-keep-the-half"),
    (_shifts_toward_zero, "input-shifts-to-the-right"),
    (_no_negative_v, "v-below-zero-is-kept"),
    (_no_current_memory, "current-decays-on-its-own"),
    (_no_neuron_bias, "neuron-bias-every-step"),
    (_never_negative, "ternary-fires-both-ways"),
    (_takes_after_a_negative_spike, "a-negative-spike-adds-what-a-spike-takes"),
    (_shows_what_is_left, "membrane-is-read-before-its-reset"),
    (_no_reset, "membrane-is-read-after-its-reset"),
    (_no_floor, "floor-forgets-what-is-below-zero"),
    (_floor_of_zero, "floor-below-zero-is-where-a-membrane-stays"),
    (_takes_once, "several-levels-are-several-events"),
    (_constants_of_the_first_step, "each-step-has-its-constants"),
    (_forgets_inputs, "taps-weigh-earlier-inputs"),
    (_oldest_tap_first, "taps-weigh-earlier-inputs"),
    (_weighs_toward_zero, "weighted-inputs-shift-down"),
    (_one_decay, "each-channel-has-its-decay"),
    (_one_amount, "each-channel-has-its-decay"),
    (_no_general_current, "a-general-current-lasts"),
)
OTHER_MUTANTS = (
    (_no_bias, "bias-without-spikes"),
    (_boolean_cast, "counts-weigh-their-number"),
    (_weights_of_a_byte, "weights-with-an-exponent"),
    (_turned_kernel, "conv-correlates"),
    (_zero_padded_pool, "pool-takes-the-largest"),
    (_transposed_product, "matmul-gates-rows"),
    (_unsigned_gate, "gate-keeps-the-sign"),
    (_boolean_matmul, "matmul-adds-a-row-per-event"),
    (_boolean_gate, "gate-adds-per-event"),
    (_beyond_a_power, "shift-sum-stops-at-a-power-of-two"),
    (_rounds_down, "shift-sum-truncates-the-sum-toward-zero"),
    (_truncates_each_term, "shift-sum-truncates-the-sum-toward-zero"),
    (_adds_all_powers, "shift-sum-leaves-out-what-is-far"),
    (_shifts_any_distance, "shift-sum-leaves-out-what-is-far"),
    (_strict_steps, "staircase-counts-the-steps-reached"),
    (_rectifies_both, "relu-drops-the-negative"),
    (_repeats_elements, "expand-repeats"),
    (_off_by_one, "slice-takes-the-middle"),
    (_second_first, "concat-keeps-the-order"),
    (_holds_what_was_delayed, "delay-changes-no-value"),
    (_heads_not_transposed, "attention-block"),
)
MUTANTS = (
    *((Reference(m.__name__, integrate=m), case) for m, case in NEURON_MUTANTS),
    *((Reference(m.__name__, evaluate=m), case) for m, case in OTHER_MUTANTS),
)


@pytest.mark.parametrize(("mutant", "exposed_by"), MUTANTS, ids=[case for _, case in MUTANTS])
def test_the_suite_catches(mutant: Reference, exposed_by: str) -> None:
    (case,) = (case for case in CASES if case.name == exposed_by)
    with pytest.raises((MismatchError, RangeError)):
        check(mutant, case)


class _LastStepOnly:
    """A read-out that forgets: written as a wrapper, since a readout has no rule of its own."""

    name = "forgetful"

    def compile(self, graph: object) -> Executable:
        del graph
        return self

    def run(self, inputs: object) -> Recording:
        (case,) = (c for c in CASES if c.name == "readout-accumulates")
        assert inputs is case.inputs
        return Recording({"y": case.inputs["x"], "x": case.inputs["x"]})


def test_the_suite_catches_a_forgetful_readout() -> None:
    (case,) = (c for c in CASES if c.name == "readout-accumulates")
    with pytest.raises(MismatchError):
        check(_LastStepOnly(), case)


def test_every_case_earns_its_place() -> None:
    exposing = {exposed_by for _, exposed_by in MUTANTS} | {"readout-accumulates"}
    missing = {case.name for case in CASES} - exposing
    assert not missing, f"no mutant in MUTANTS is exposed by {missing}"


# ---- what passing means -----------------------------------------------------------------------


class _Remembers:
    """Starts its second run with what the first one left."""

    name = "remembers"

    def compile(self, graph: Graph) -> Executable:
        inner, runs = Reference().compile(graph), 0

        class Running:
            def run(self, inputs: Mapping[str, IntArray]) -> Recording:
                nonlocal runs
                runs += 1
                recording = inner.run(inputs)
                if runs == 1:
                    return recording
                return replace(recording, values={n: v + 1 for n, v in recording.values.items()})

        return Running()


def test_a_simulator_that_remembers_its_last_run_fails() -> None:
    with pytest.raises(MismatchError, match="remembers, second run: value of"):
        check(_Remembers(), CASES[0])


class _Silent:
    """Records nothing at all."""

    name = "silent"

    def compile(self, graph: Graph) -> Executable:
        class Running:
            def run(self, inputs: Mapping[str, IntArray]) -> Recording:
                return Recording({})

        return Running()


class _Gives:
    """What the reference records, changed by somebody who has not read what a recording is."""

    name = "gives"

    def __init__(self, change: Callable[[Recording], Any]) -> None:
        self.change = change

    def compile(self, graph: Graph) -> Executable:
        inner, change = Reference().compile(graph), self.change

        class Running:
            def run(self, inputs: Mapping[str, IntArray]) -> Recording:
                changed: Recording = change(inner.run(inputs))
                return changed

        return Running()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r.values, "`run` gives a dict, not an `ir.recording.Recording`"),
        (lambda r: Recording({n: v * 1.0 for n, v in r.values.items()}), "is float64, not an"),
        (lambda r: Recording({n: v.tolist() for n, v in r.values.items()}), "is a list, not an"),
        (lambda r: Recording({**r.values, "zz": r.values["x"]}), "a value of 'zz', which has none"),
        (lambda r: replace(r, membranes=r.values), "a membrane of 'x', which has none"),
        (lambda r: replace(r, currents=r.values), "a current of 'x', which has none"),
        (lambda r: replace(r, current_digests=r.values), "a current digest of 'x', which has"),
    ],
)
def test_what_is_no_recording_is_named(change: Callable[[Recording], Any], sentence: str) -> None:
    with pytest.raises(MismatchError, match=re.escape(sentence)):
        check(_Gives(change), CASES[0])


def test_a_run_that_records_nothing_fails() -> None:
    graph = Graph((Node("x", ops.Input(type=TensorType.spikes(1))),), (), T=1)
    case = Case(
        "nothing", "no node fires and none is an output", graph, {"x": np.ones((1, 1, 1), int)}
    )
    with pytest.raises(MismatchError, match="recorded nothing to compare"):
        check(_Silent(), case)
    with pytest.raises(MismatchError, match="nothing recorded of"):
        check(_Silent(), CASES[0])
