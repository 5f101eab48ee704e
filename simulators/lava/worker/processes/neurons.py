"""Neurons that `lava.proc` does not have, with the ports and variables of those it has.

`TernaryReset` is Lava's own bit-accurate `TernaryLIF`, which lacks the reset between samples,
with the reset of its `LIFReset`. `Integrator` is the graph's neuron as `ir.semantics` defines
it: soft reset, no reset, thresholds that are not 64 * vth + 1, one for each neuron.
`General` is its general neuron. `Stairs` is a row of neurons without memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed, PyTernLifModelFixed
from lava.proc.lif.process import TernaryLIF

from lapilli.ir import ops
from lapilli.ir.semantics import State, evaluate, integrate
from lapilli.simulators.lava.worker.kernels import membranes


class TernaryReset(TernaryLIF):
    """Lava's `TernaryLIF`, at rest again where a step modulo `interval` is `offset`."""

    def __init__(self, *, reset: tuple[int, int], **registers: Any) -> None:
        super().__init__(**registers)
        self.proc_params["reset"] = reset


class Integrator(AbstractProcess):
    """The graph's neuron; u and v hold the state after a step, in state units."""

    def __init__(self, *, shape: tuple[int, ...], op: ops.Neuron, reset: tuple[int, int]) -> None:
        super().__init__(shape=shape, op=op, reset=reset)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)


class General(AbstractProcess):
    """The graph's general neuron; v holds the membrane that was compared, in state units."""

    def __init__(
        self, *, shape: tuple[int, ...], op: ops.GeneralNeuron, reset: tuple[int, int]
    ) -> None:
        super().__init__(shape=shape, op=op, reset=reset)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)


class Stairs(AbstractProcess):
    """Counts the thresholds that its input reaches."""

    def __init__(self, *, shape: tuple[int, ...], op: ops.Staircase) -> None:
        super().__init__(shape=shape, op=op)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=TernaryReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _TernaryResetModel(AbstractPyLifModelFixed):
    # Lava forbids to derive from a model that implements a process; its methods are taken.
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=2)
    vth_hi: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    vth_lo: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    scale_threshold = PyTernLifModelFixed.scale_threshold
    spiking_activation = PyTernLifModelFixed.spiking_activation
    reset_voltage = PyTernLifModelFixed.reset_voltage

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.interval, self.offset = proc_params["reset"]

    def run_spk(self) -> None:
        if self.time_step % self.interval == self.offset:
            self.u *= 0
            self.v *= 0
        super().run_spk()


@implements(proc=Integrator, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _IntegratorModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    u: Any = LavaPyType(np.ndarray, np.int64)
    v: Any = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.integrate = membranes(proc_params["op"])
        self.interval, self.offset = proc_params["reset"]

    def run_spk(self) -> None:
        x = self.a_in.recv()
        if self.time_step % self.interval == self.offset:
            self.u[:], self.v[:] = 0, 0
        self.s_out.send(self.integrate(x, self.u, self.v))


@implements(proc=General, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _GeneralModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    u: Any = LavaPyType(np.ndarray, np.int64)
    v: Any = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op: ops.GeneralNeuron = proc_params["op"]
        self.interval, self.offset = proc_params["reset"]
        self.state = State.zeros(proc_params["shape"])

    def run_spk(self) -> None:
        x = self.a_in.recv().astype(np.int64)
        if self.time_step % self.interval == self.offset:
            self.state = State.zeros(x.shape)
        fired = integrate(self.op, x, self.state)
        self.state = fired.state
        self.u[:], self.v[:] = fired.state.u, fired.membrane
        self.s_out.send(fired.spikes)


@implements(proc=Stairs, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _StairsModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Mapping[str, Any]) -> None:
        super().__init__(proc_params)
        self.op: ops.Staircase = proc_params["op"]

    def run_spk(self) -> None:
        self.s_out.send(evaluate(self.op, (self.a_in.recv().astype(np.int64),)))
