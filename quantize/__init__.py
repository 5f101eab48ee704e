"""A trained module to integers.

Reading order: `options`, `calibration` (what no scale follows from), `image_scale`, `preparation`
(a model as a program), `plan` (what shares a scale), `channels` and `channel_scales` (where each
output channel has one), `weights` (fold and round), `neurons` (thresholds and the tie rule),
`shiftmax` (powers of two for weights), `lower` (the graph, by `scaled_builder`), `fit` (until it
fits a target's registers), `merging` (linear maps in a row), `pytorch` (the same integers in
PyTorch), `health` and `image_statistics` (is it any good?), `trials` and `frontier` (which choice
is better?), `recipe` (how it was made), `pipeline` (all of it), `replay` (PyTorch's side again, of
a file), `finetuning` (training that knows its integers).
"""

from lapilli.quantize.pipeline import Quantized as Quantized
from lapilli.quantize.pipeline import quantize as quantize
