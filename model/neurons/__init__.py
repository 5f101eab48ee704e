"""What a neuron does: a rule in exact fractions, for every class that is known.

Reading order: `rule`, `simulate` (the rule in PyTorch), `adapters` (class to rule), `frameworks`,
`described` (rules in text), `without_cuda` (CuPy taken for PyTorch), `copies`;
`shiftmax` (no neuron, but kept whole like one).
"""
