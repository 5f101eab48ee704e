"""Run a `.net` file in lava-dl's own netx: `python run_netx.py FILE.net JOB.npz OUT.npz`.

Works in Python 3.10 with lava-dl, and knows nothing of lapilli. The job holds `x`, (steps, ...)
in the axes of the file, and the options of `netx.hdf5.Network`; the answer the spikes of each
layer and the last membrane, (steps + layers, ...). An input layer with neurons takes `x[0]` as its
bias.
"""

# pyright: reportMissingImports=false
# Lava is where this file runs, not where pyright looks.
import sys

import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io
from lava.proc.monitor.process import Monitor

if __name__ == "__main__":
    file, job_file, out_file = sys.argv[1:]
    job = dict(np.load(job_file))
    x = job.pop("x")
    net = netx.hdf5.Network(file, **{name: int(value) for name, value in job.items()})
    steps = len(x) + len(net)
    if isinstance(net.in_layer, netx.blocks.process.Input):
        net.in_layer.neuron.bias_mant.init = x[0].T.astype(int)
    else:
        data = np.zeros((*x.shape[:0:-1], steps), int)  # netx's axes: (W, H, C, step)
        data[..., : len(x)] = x.T
        source = io.source.RingBuffer(data=data)
        source.s_out.connect(net.inp)
    sinks = []
    for layer in net.layers:
        sinks.append(io.sink.RingBuffer(shape=layer.out.shape, buffer=steps))
        layer.out.connect(sinks[-1].a_in)
    monitor = Monitor()
    monitor.probe(net.layers[-1].neuron.v, steps)
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    answer = {str(i): sink.data.get().T for i, sink in enumerate(sinks)}
    (values,) = next(iter(monitor.get_data().values())).values()
    net.stop()
    np.savez(out_file, membrane=values, **answer)
