"""The PyTorch side of a comparison: the author's module with the integers in it.

Reading order: `integer_neuron` (stands in where a float neuron is not exact), `recorder` (what
neurons are given and answer), `runnable`, `interpreter` and `exact_map` (the captured program,
run), `agreement` (a proof that it is the author's forward), `reference`.
"""
