"""The fast simulator: exact integers in compiled kernels, for whole data sets (docs/fast.md).

`simulator` walks the graph, `choice` decides from proven ranges which arithmetic holds a layer,
`weighted` and `neurons` prepare layers for `kernels`, which alone import numba.
"""

from lapilli.simulators.fast.simulator import Fast

__all__ = ["Fast"]
