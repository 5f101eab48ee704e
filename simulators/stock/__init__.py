"""What every network of stock neurons needs, whatever runs it.

Reading order: `currents` (what every neuron is driven by, as a matrix for each source of spikes),
`digits` (weights as registers hold them), `behind` (what the host adds up after the last neuron).
"""
