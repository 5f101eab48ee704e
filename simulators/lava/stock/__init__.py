"""Networks of nothing but processes of `lava.proc` that Intel also implements on chip.

`LIFReset`, `Sparse`, `DelaySparse`. Ours are only recorders, which no neuron listens to, and
what the host does behind the last neuron. Reading order: `currents` (what every neuron is
driven by, as a matrix for each source of spikes), `network` (what is built, and its size),
`registers` (a neuron's constants, a matrix's 8-bit axons), `mapping` (graph to network, or every
reason why not), `files` (what the worker is given), `running` (host), `building` (worker).
"""
