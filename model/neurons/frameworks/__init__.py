"""An adapter for each neuron class of a framework.

Reading order: `own`, `spikingjelly`, `snntorch`, `norse`, `braincog`; `strictness` (> or >=),
`parameters` (what several keep alike) and `silent_twin` (a neuron's membrane without its spikes)
serve several.
"""
