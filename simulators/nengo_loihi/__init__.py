"""nengo-loihi's emulator of Loihi, by people who are neither Intel nor we.

Reading order: `compartments` (a neuron's constants in its registers), `mapping` (graph to
compartments and synapses, or every reason why not), `blocks` (what lies on a core together),
`files` (what the worker is given), `simulator` (host), `environment` (old packages), `worker` (the
one file that imports nengo-loihi).
"""
