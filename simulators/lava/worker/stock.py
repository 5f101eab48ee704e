"""Worker: the processes of a stock network, from the files that the host wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from lapilli.simulators.lava.shared.traces import InputTap, Trace
from lapilli.simulators.lava.stock.files import INPUT, REGISTERS, SPIKES, WEIGHTS, Page
from lapilli.simulators.lava.worker.processes import primitives

STOCK = (LIFReset, Sparse, DelaySparse, RingBuffer)  # all that computes, or is played


def build(page: Page, folder: Path) -> tuple[Any, ...]:
    """Every process, connected. Ours are recorders and connectors, which send to nobody."""
    firing = {i: _population(i, page, folder) for i in range(len(page.populations))}
    for i in page.played:
        firing[i] = RingBuffer(data=np.load(folder / INPUT.format(i)))
    axons, parts = [], {i: i for i in firing}
    for number, facts in enumerate(page.axons):
        shape = (firing[facts["target"]].a_in.shape[0], firing[facts["source"]].s_out.shape[0])
        axon = _axon(facts, folder / WEIGHTS.format(number), shape)
        firing[facts["source"]].s_out.connect(axon.s_in)
        axon.a_out.connect(firing[facts["target"]].a_in)
        axons.append(axon)
        parts[_part(parts, facts["source"])] = _part(parts, facts["target"])
    recorders = [_recorder(firing[i], i, folder) for i in page.watched]
    made = (*firing.values(), *axons, *recorders, *_connectors(firing, parts))
    if strange := {type(p) for p in made} - {*STOCK, primitives.Probe, primitives.Connector}:
        raise TypeError(f"not of lava.proc: {strange}")
    return made


def _population(i: int, page: Page, folder: Path) -> LIFReset:
    registers = page.populations[i]
    with np.load(folder / REGISTERS.format(i)) as bias:
        mantissa, exponent = bias["mantissa"], bias["exponent"]
    return LIFReset(
        shape=mantissa.shape,
        vth=registers["vth"],
        du=registers["du"],
        dv=registers["dv"],
        bias_mant=mantissa,
        bias_exp=exponent,
        reset_interval=registers["interval"],
        reset_offset=registers["offset"],
    )


def _axon(facts: dict[str, int], file: Path, shape: tuple[int, int]) -> Sparse:
    with np.load(file) as of:
        pattern = (of["indices"], of["indptr"])
        weights = csr_matrix((of["weights"], *pattern), shape=shape)
        delays = csr_matrix((of["delays"], *pattern), shape=shape)
    registers = {
        "weights": weights,
        "weight_exp": facts["exponent"],
        "num_weight_bits": 8,
        "sign_mode": SignMode.MIXED,
        "num_message_bits": facts["message_bits"],
    }
    if not facts["longest_delay"]:
        return Sparse(**registers)
    return DelaySparse(delays=delays, max_delay=facts["longest_delay"], **registers)


def _recorder(neurons: LIFReset, i: int, folder: Path) -> Any:
    """Writes all Lava steps, as those of one sample."""
    trace = Trace(folder / SPIKES.format(i), latency=0, lanes=1)
    shape = neurons.s_out.shape
    probe = primitives.Probe(
        (shape, shape), shape, input_taps=(InputTap(trace=trace),), output_tap=None
    )
    neurons.s_out.connect(probe.a)
    return probe


def _connectors(firing: dict[int, Any], parts: dict[int, int]) -> list[Any]:
    """Lava runs only what is connected: tie separate parts to the first."""
    connectors = []
    first, *rest = sorted({_part(parts, i) for i in firing})
    for other in rest:
        shapes = (firing[first].s_out.shape, firing[other].s_out.shape)
        connector = primitives.Connector(
            (*shapes, shapes[1]), shapes[1], input_taps=(InputTap(), InputTap()), output_tap=None
        )
        firing[first].s_out.connect(connector.a)
        firing[other].s_out.connect(connector.b)
        connectors.append(connector)
    return connectors


def _part(parts: dict[int, int], i: int) -> int:
    while parts[i] != i:
        i = parts[i]
    return i
