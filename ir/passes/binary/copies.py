"""Neurons that fire both ways or reset otherwise, as binary neurons that reset to zero.

A membrane cannot be read without firing, and a binary neuron that fires forgets everything. So
there is a copy for each time step of the sample and each sign, that is asked once, at its own
step. Until then it follows the original's membrane: it is held below its threshold, and what
the copies before it answered resets it too:

- to zero: enough input to make it fire, which empties it;
- by subtraction: the amount, taken from its input;
- none: nothing.

At its step a clock lifts it by what it was held down. What it does later is masked. A ternary
neuron over T steps takes 4 T + 2 binary ones, another 2 T + 1.
"""

from __future__ import annotations

from dataclasses import replace

from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds, trailing_zeros
from lapilli.ir.errors import Unsupported
from lapilli.ir.passes.binary.building import Building
from lapilli.ir.passes.binary.clock import Clock
from lapilli.ir.passes.binary.terms import Terms, value
from lapilli.ir.passes.binary.thresholds import AND, OR
from lapilli.ir.tensor import IntTensor


def is_plain(op: ops.Neuron) -> bool:
    """Whether it fires one way and resets to zero, or forgets before a reset can matter."""
    return not op.ternary and (op.reset is ops.Reset.TO_ZERO or _forgets(op))


def unsupported(name: str, op: ops.Neuron) -> tuple[Unsupported, ...]:
    """Why a neuron node has no form in binary neurons; empty if it has."""
    if is_plain(op):
        return ()
    if not _forgets(op) and op.du != ops.DECAY_ONE:
        what = "fires both ways" if op.ternary else f"resets by {op.reset.value!r}"
        reason = (
            f"{what} and keeps a synaptic current (du {op.du}); what resets its copies would "
            "stay in theirs"
        )
        return (Unsupported(name, reason),)
    if op.fraction_bits < 0:
        reason = (
            f"shifts its input by {-op.fraction_bits} to the right; its copies are given it "
            "negated, or with the amounts of resets"
        )
        return (Unsupported(name, reason),)
    return ()


def fire(build: Building, clock: Clock, name: str, op: ops.Neuron, x: str) -> Terms:
    """The neuron under its own name; its spikes as terms."""
    if is_plain(op):
        plain = replace(op, reset=ops.Reset.TO_ZERO, reset_by=0)
        build.put(name, plain, x)
        return Terms(((1, name),))
    signs = (("plus", 1), ("minus", -1))[: 1 + op.ternary]
    if _forgets(op):
        once = replace(op, ternary=False, reset=ops.Reset.TO_ZERO, reset_by=0)
        spikes = [
            (sign, build.new(f"{name}.{role}", _signed(once, sign),
                             build.scaled(f"{name}.{role}.input", x, sign)))
            for role, sign in signs
        ]  # fmt: skip
    else:
        answers = _copies(build, clock, name, op, x, signs)
        totals = [build.total(f"{name}.{role}.any", answers[sign]) for role, sign in signs]
        if not op.ternary:
            build.put(name, OR, totals[0])
            return Terms(((1, name),))
        spikes = [
            (sign, build.new(f"{name}.{role}", OR, total))
            for (role, sign), total in zip(signs, totals, strict=True)
        ]
    terms = Terms(tuple(spikes))
    build.named(name, value(build, f"{name}.value", terms))
    return terms


def _copies(
    build: Building,
    clock: Clock,
    name: str,
    op: ops.Neuron,
    x: str,
    signs: tuple[tuple[str, int], ...],
) -> dict[int, list[str]]:
    """For each sign the spikes of each step, each in a node that fires at that step alone."""
    shape = build.types[x].shape
    fine = op.fraction_bits
    if op.reset is ops.Reset.BY_SUBTRACTION and op.reset_by:  # its amount is given as an input
        fine = min(fine, trailing_zeros(op.reset_by))
    x = build.scaled(f"{name}.fine", x, 1 << (op.fraction_bits - fine))
    # The original's membrane, the amount of a reset included, stays below `held`.
    bound = neuron_bounds(name, op, build.graph.types[build.graph[name].inputs[0]], build.graph.T)
    held = ((bound.v.magnitude + op.reset_by) >> fine) + 1
    emptied = 2 * held + (op.threshold.range.hi >> fine) + 1
    copy = ops.Neuron(
        threshold=IntTensor.of(op.threshold.array + (held << fine)),
        dv=op.dv,
        bias=op.bias,
        fraction_bits=fine,
    )
    resets: list[str] = []
    answers: dict[int, list[str]] = {sign: [] for _, sign in signs}
    for t in range(build.graph.T):
        tick = clock.tick(t)
        lift = build.scaled(f"{name}.step{t}.lift", tick, held)
        lift = build.spread(f"{name}.step{t}.lift.all", lift, shape)
        now = build.spread(f"{name}.step{t}.now", tick, shape)
        for role, sign in signs:
            own = f"{name}.step{t}.{role}"
            signed = build.scaled(f"{own}.input", x, sign)
            given = [signed, lift]
            if resets and op.reset is ops.Reset.BY_SUBTRACTION:
                given += [build.scaled(f"{own}.less{i}", r, sign) for i, r in enumerate(resets)]
            else:
                given += resets
            fired = build.new(own, _signed(copy, sign), build.total(f"{own}.given", given))
            both = build.total(f"{own}.both", [fired, now])
            answers[sign].append(build.new(f"{own}.answer", AND, both))
        for role, sign in signs:
            amount = 0 if op.reset is ops.Reset.NONE else emptied
            if op.reset is ops.Reset.BY_SUBTRACTION:
                amount = -sign * (op.reset_by >> fine)
            if amount:
                answer = answers[sign][-1]
                resets.append(build.scaled(f"{name}.step{t}.{role}.reset", answer, amount))
    return answers


def _signed(op: ops.Neuron, sign: int) -> ops.Neuron:
    """The neuron of the negated membrane, whose input is negated as well."""
    return op if sign > 0 else replace(op, bias=IntTensor.of(-op.bias.array))


def _forgets(op: ops.Neuron) -> bool:
    return op.dv == ops.DECAY_ONE
