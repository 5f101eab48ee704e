"""A trained module to integers.

Reading order: `plan` (what shares a scale), `weights` (fold and round), `neurons` (thresholds
and the tie rule), `shiftmax` (powers of two for weights), `lower` (the graph), `reference`
(PyTorch with the same integers), `pipeline` (all of it).
"""

from lapilli.quantize.pipeline import Quantized as Quantized
from lapilli.quantize.pipeline import quantize as quantize
