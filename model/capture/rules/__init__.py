"""How each ATen operator becomes a program's operator.

Reading order: `elementwise` (the table), `linear`, `einsum`, `pooling`, `wiring`, `slicing`.
"""
