"""What a neuron does: a rule in exact fractions, for every class that is known.

Reading order: `rule`, `simulate` (the rule in PyTorch), `adapters` (class to rule), `frameworks`;
`shiftmax` (no neuron, but kept whole like one).
"""
