"""The side of Lava, in Python 3.10: the only place that imports it.

Reading order: `worker` (the process), `run_config` (makes what chooses models), `lowering` (graph
to Lava processes), `processes` (ours; the neurons are Lava's), `kernels`, `stock` (the other
lowering).
"""
