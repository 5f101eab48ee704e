"""One Lava process for each kind of primitive; for the neurons see `neurons`.

A synapse costs one step, as on Loihi and as in Lava's `Dense`: it sends what it computed in
the step before, then receives. A `DelayLine` costs as many as it is told, all others cost none.
Every array has the lanes in front: samples that run side by side.

Each process has two out-ports: `out` carries its value; `current` the same value as a stock
LIF wants it (wired, shifted), recorded on its way. Messages are 32-bit integers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lapilli.ir.semantics import State, evaluate, integrate, membrane
from lapilli.ir.tensor import IntArray
from lapilli.simulators.lava.shared.traces import InputTap, OutputTap, wired
from lapilli.simulators.lava.worker.kernels import kernel


class _Primitive(AbstractProcess):
    """Ports for values of the given shapes, lanes in front; everything else is for the model."""

    def __init__(
        self, shapes: tuple[tuple[int, ...], ...], current: tuple[int, ...], **options: object
    ) -> None:
        super().__init__(shape=shapes[-1], **options)
        for name, shape in zip("ab", shapes[:-1], strict=False):  # none, one or two operands
            setattr(self, name, InPort(shape=shape))
        self.out = OutPort(shape=shapes[-1])
        self.current = OutPort(shape=current)


class Source(_Primitive):
    """Plays an input from a file."""


class Synapse(_Primitive):
    """Computes a synaptic op of one operand; one step."""


class Pointwise(_Primitive):
    """Computes an op of one operand that costs no step: a neuron without memory."""


class Product(_Primitive):
    """Computes a synaptic op of two operands; one step."""


class Merge(_Primitive):
    """Adds or concatenates two values of the same step; costs no step."""


class DelayLine(_Primitive):
    """Holds a value for some steps."""


class Probe(_Primitive):
    """Passes a value on to a neuron that no primitive of ours feeds, or to nobody; records it."""


class Accumulator(_Primitive):
    """Adds up the steps of one sample after the other; costs no step."""


class MembraneProbe(_Primitive):
    """Integrates as a neuron does and shows its membrane; costs no step."""


class Connector(_Primitive):
    """Takes two values and drops them: Lava runs only what is connected."""


class _Model(PyLoihiProcessModel):
    """What all models share: taking from a port, and giving on both."""

    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    current: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.zeros: IntArray = np.zeros(proc_params["shape"], np.int64)
        self.input_taps: tuple[InputTap, ...] = proc_params["input_taps"]
        self.output_tap: OutputTap | None = proc_params["output_tap"]

    def take(self) -> tuple[IntArray, ...]:
        """Receive every operand of this step."""
        ports = (self.a, self.b) if len(self.input_taps) == 2 else (self.a,)
        return tuple(
            input_tap.take(port.recv(), self.time_step)
            for port, input_tap in zip(ports, self.input_taps, strict=True)
        )

    def give(self, value: IntArray) -> None:
        """Send this step's value; record it while its readers are at work."""
        self.out.send(value)
        if self.output_tap:
            current = wired(value, self.output_tap.wires)
            self.current.send(self.output_tap.message(current))
            self.output_tap.record(current, self.time_step)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _SourceModel(_Model):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.trace = proc_params["trace"]

    def run_spk(self) -> None:
        self.give(self.trace.read(self.time_step))


class _OneIn(_Model):
    a: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)


class _TwoIn(_OneIn):
    b: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)


class _Evaluates(_Model):
    """Sends what it held; holds what becomes of the operands."""

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.kernel = kernel(proc_params["op"], proc_params["largest"])
        self.held = self.zeros

    def run_spk(self) -> None:
        self.give(self.held)
        self.held = self.kernel(*self.take())


@implements(proc=Synapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _SynapseModel(_Evaluates, _OneIn):
    pass


@implements(proc=Pointwise, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _PointwiseModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op = proc_params["op"]

    def run_spk(self) -> None:
        self.give(evaluate(self.op, self.take()))


@implements(proc=Product, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _ProductModel(_Evaluates, _TwoIn):
    pass


@implements(proc=Merge, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _MergeModel(_TwoIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op = proc_params["op"]

    def run_spk(self) -> None:
        self.give(evaluate(self.op, self.take()))


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _DelayLineModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.held = deque([self.zeros] * proc_params["steps"])

    def run_spk(self) -> None:
        if self.held:
            self.give(self.held.popleft())
            self.held.extend(self.take())
        else:
            self.give(*self.take())


@implements(proc=Probe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _ProbeModel(_OneIn):
    def run_spk(self) -> None:
        self.give(*self.take())


@implements(proc=Accumulator, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _AccumulatorModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.interval, self.offset = proc_params["reset"]
        self.total = self.zeros

    def run_spk(self) -> None:
        (x,) = self.take()
        if self.time_step % self.interval == self.offset:
            self.total = self.zeros
        self.total = self.total + x
        self.give(self.total)


@implements(proc=MembraneProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _MembraneProbeModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op = proc_params["op"]
        self.interval, self.offset = proc_params["reset"]
        self.state = State(self.zeros, self.zeros)

    def run_spk(self) -> None:
        (x,) = self.take()
        if self.time_step % self.interval == self.offset:
            self.state = State(self.zeros, self.zeros)
        fired = integrate(self.op.neuron, x, self.state)
        self.state = fired.state
        self.give(membrane(self.op, fired))


@implements(proc=Connector, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _ConnectorModel(_TwoIn):
    def run_spk(self) -> None:
        self.take()
