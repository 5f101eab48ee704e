"""Networks of nothing but processes of `lava.proc` that Intel also implements on chip.

`LIFReset`, `Sparse`, `DelaySparse`. Ours are only recorders, which no neuron listens to, and
what the host does behind the last neuron. Reading order: `network` (what is built, and its
size), `registers` (a neuron's constants), `axons` (8-bit synapses), `mapping` (graph to network,
or every reason why not), `files` (what the worker is given). What drives each neuron is composed
in `simulators.stock`.
"""
