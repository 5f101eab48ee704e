"""Neurons, integrators and delays of a file, as nodes of the graph."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.builder import BoundedBuilder, ImportedValue
from lapilli.export.nir.read.delays import fits, held, later, steps_of
from lapilli.export.nir.read.dynamics import dynamics, integration
from lapilli.export.nir.read.metadata import Meaning
from lapilli.export.nir.read.nodes import NirNode
from lapilli.export.nir.read.states import check_float, integrator, neuron
from lapilli.ir import ops


def fire(
    builder: BoundedBuilder, meaning: Meaning, name: str, node: NirNode, x: ImportedValue
) -> ImportedValue:
    """Add the spikes of an IF, LIF or CubaLIF.

    Raises:
        MalformedError: no neuron of the graph does exactly the same.
    """
    rule = dynamics(node, meaning.reading, meaning.dt, meaning.reset)
    given = builder.types[x.name]
    op = neuron(rule, x.unit, given.shape, builder.T)
    if meaning.reading.rounds:
        check_float(name, op, given, rule.rest / (x.unit * rule.gain), builder.T)
    made: ops.Integrating = op if x.late is None else later(op, x.late, builder.T)
    return ImportedValue(builder.put(name, made, x.name), Fraction(1))


def integrate(
    builder: BoundedBuilder, meaning: Meaning, name: str, node: NirNode, x: ImportedValue
) -> ImportedValue:
    """Add the membrane of an I, LI or CubaLI.

    Raises:
        MalformedError: no membrane of the graph is exactly the same.
    """
    rule = integration(node, meaning.reading, meaning.dt)
    given = builder.types[x.name]
    op, unit = integrator(name, rule, x.unit, given, builder.T)
    if meaning.reading.rounds:
        check_float(name, op.neuron, given, Fraction(0), builder.T)
    return ImportedValue(builder.put(name, op, x.name), unit, shown=True)


def delay(
    builder: BoundedBuilder, meaning: Meaning, name: str, node: NirNode, x: ImportedValue
) -> ImportedValue:
    """Add neurons that hold spikes, or let whoever reads a current take it late.

    Raises:
        MalformedError: no whole steps, or a value that nothing holds.
    """
    given = builder.types[x.name]
    late = fits(steps_of(node, meaning.dt, builder.T), given.shape)
    if not late.any():
        return x
    if x.layers:
        return replace(x, late=late if x.late is None else late + x.late)
    if (op := held(late, given, builder.T)) is None:
        raise MalformedError(
            f"delays values in [{given.range.lo}, {given.range.hi}]; spikes, sums of up to "
            f"{ops.MOST_EVENTS} of them and currents can be"
        )
    return ImportedValue(builder.put(name, op, x.name), x.unit)
