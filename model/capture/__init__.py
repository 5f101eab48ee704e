"""A module as a program: operators on named axes, neurons as what they are.

Reading order: `program` (the language), `capture` (the entry), `signature` (how the module is
called), `opaque` and `opaque_step` (neurons stay whole under torch.export), `exported` (torch's
graph), `translation` with `rules` (an operator each), `axes` (shapes by name), `rolling` (loops
over time) and `steps` (their axis), `output` (which result is the answer), `repeatability`
(hidden states, found in `forked` processes and named by `attributes`), `probe` (a neuron's code
against its rule), `device`.
"""
