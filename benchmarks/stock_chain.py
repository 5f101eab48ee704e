"""Lava's own `Conv` and `LIF`, in a row: the peer of `conv_chain`. Runs in Lava's environment.

Arguments: a folder with weights.npz (layers of (out, in)) and x.npy (T, C, H, W). Writes the
last layer's spikes, and prints seconds for each step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF


def main() -> None:
    """Build, run, measure."""
    folder = Path(sys.argv[1])
    vth = int(sys.argv[2])
    x = np.load(folder / "x.npy")  # Lava's maps have their channels last
    steps, channels, height, width = x.shape
    source = Source(data=x.transpose(2, 3, 1, 0).astype(np.int32))
    shape = (height, width, channels)
    port, latency = source.s_out, 0
    for weight in np.load(folder / "weights.npz").values():
        conv = Conv(weight=weight[:, None, None, :], input_shape=shape)
        port.connect(conv.s_in)
        lif = LIF(shape=shape, vth=vth, du=4095, dv=2048)
        conv.a_out.connect(lif.a_in)
        port, latency = lif.s_out, latency + 1
    sink = Sink(shape=shape, buffer=steps + latency)
    port.connect(sink.a_in)
    sink.create_runtime(Loihi2SimCfg(select_tag="fixed_pt"))
    sink.run(RunSteps(latency))  # the pipeline fills
    start = time.perf_counter()
    sink.run(RunSteps(steps))
    seconds = (time.perf_counter() - start) / steps
    spikes = sink.data.get()[..., latency:].transpose(3, 2, 0, 1)
    sink.stop()
    np.save(folder / "spikes.npy", spikes.astype(np.int8))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
