"""One Lava process for each kind of primitive; for the neurons see `neurons`.

A synapse costs one step, as on Loihi and as in Lava's `Dense`: it sends what it computed in
the step before, then receives. `Join`, `Instant`, `Probe`, `Voltage` and `Readout` cost none, a
`Line` as many as it is told. Every array has the lanes in front: samples that run side by side.

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
from lapilli.simulators.lava.shared.tape import Inlet, Outlet, wired
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
    """A stateless op of one operand; one step."""


class Instant(_Primitive):
    """A stateless op of one operand that costs no step: a neuron without memory."""


class Product(_Primitive):
    """A stateless op of two operands; one step."""


class Join(_Primitive):
    """Adds, or joins, two values of the same step."""


class Line(_Primitive):
    """Holds a value for some steps."""


class Probe(_Primitive):
    """Stands in front of a neuron that no primitive of ours feeds; or ends a line."""


class Readout(_Primitive):
    """Adds up one sample after the other."""


class Voltage(_Primitive):
    """Integrates as a neuron does and shows its membrane; costs no step."""


class Bridge(_Primitive):
    """Takes two values and drops them: Lava runs only what is connected."""


class _Model(PyLoihiProcessModel):
    """What all models share: taking from a port, and giving on both."""

    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    current: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.rest: IntArray = np.zeros(proc_params["shape"], np.int64)
        self.inlets: tuple[Inlet, ...] = proc_params["inlets"]
        self.outlet: Outlet | None = proc_params["outlet"]

    def take(self) -> tuple[IntArray, ...]:
        """Receive every operand of this step."""
        ports = (self.a, self.b) if len(self.inlets) == 2 else (self.a,)
        return tuple(
            inlet.take(port.recv(), self.time_step)
            for port, inlet in zip(ports, self.inlets, strict=True)
        )

    def give(self, value: IntArray) -> None:
        """Send this step's value; record it while its readers are at work."""
        self.out.send(value)
        if self.outlet:
            current = wired(value, self.outlet.wires)
            self.current.send(self.outlet.message(current))
            self.outlet.record(current, self.time_step)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _SourceModel(_Model):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.tape = proc_params["tape"]

    def run_spk(self) -> None:
        self.give(self.tape.read(self.time_step))


class _OneIn(_Model):
    a: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)


class _TwoIn(_OneIn):
    b: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)


class _Evaluates(_Model):
    """Sends what it held; holds what becomes of the operands."""

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.kernel = kernel(proc_params["op"], proc_params["largest"])
        self.held = self.rest

    def run_spk(self) -> None:
        self.give(self.held)
        self.held = self.kernel(*self.take())


@implements(proc=Synapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _SynapseModel(_Evaluates, _OneIn):
    pass


@implements(proc=Instant, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _InstantModel(_OneIn):
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


@implements(proc=Join, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _JoinModel(_TwoIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op = proc_params["op"]

    def run_spk(self) -> None:
        self.give(evaluate(self.op, self.take()))


@implements(proc=Line, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _LineModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.held = deque([self.rest] * proc_params["steps"])

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


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _ReadoutModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.interval, self.offset = proc_params["reset"]
        self.total = self.rest

    def run_spk(self) -> None:
        (x,) = self.take()
        if self.time_step % self.interval == self.offset:
            self.total = self.rest
        self.total = self.total + x
        self.give(self.total)


@implements(proc=Voltage, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _VoltageModel(_OneIn):
    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op = proc_params["op"]
        self.interval, self.offset = proc_params["reset"]
        self.state = State(self.rest, self.rest)

    def run_spk(self) -> None:
        (x,) = self.take()
        if self.time_step % self.interval == self.offset:
            self.state = State(self.rest, self.rest)
        fired = integrate(self.op.neuron, x, self.state)
        self.state = fired.state
        self.give(membrane(self.op, fired))


@implements(proc=Bridge, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _BridgeModel(_TwoIn):
    def run_spk(self) -> None:
        self.take()
