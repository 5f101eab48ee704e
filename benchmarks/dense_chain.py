"""Lava's own `Dense` and `LIF`, in a row: the peer of `lava_overhead`. Runs in Lava's environment.

Arguments: a folder with weights.npy (layers, out, in) and x.npy (T, n), and vth. Writes the last
layer's spikes, and prints the seconds of all steps, those in which the pipeline fills among them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF


def main() -> None:
    """Build, run, measure."""
    folder, vth = Path(sys.argv[1]), int(sys.argv[2])
    x, weights = np.load(folder / "x.npy"), np.load(folder / "weights.npy")
    steps = len(x) + len(weights)
    shape = x.shape[1:]
    source = Source(data=x.T.astype(np.int32))
    port = source.s_out
    for w in weights:
        dense = Dense(weights=w)
        port.connect(dense.s_in)
        lif = LIF(shape=shape, vth=vth, du=4095, dv=2048)
        dense.a_out.connect(lif.a_in)
        port = lif.s_out
    sink = Sink(shape=shape, buffer=steps)
    port.connect(sink.a_in)
    sink.create_runtime(Loihi2SimCfg(select_tag="fixed_pt"))
    start = time.perf_counter()
    sink.run(RunSteps(steps))
    seconds = time.perf_counter() - start
    spikes = sink.data.get()[:, len(weights) :].T
    sink.stop()
    np.save(folder / "spikes.npy", spikes.astype(np.int8))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
