"""Training that knows its integers: the forward of the graph, the gradients of floats.

Reading order: `straight_through` (a gradient for what has none), `neurons` (integer neurons, and
neurons without a surrogate), `chains` (layers that are merged), `rounding` (of one unit), `steps`
(of weights, where they learn), `fake_quantized` (the author's module, computing in integers),
`tuning` (epochs, and the result).
"""

from lapilli.quantize.finetuning.tuning import FineTuned as FineTuned
from lapilli.quantize.finetuning.tuning import TunedEpoch as TunedEpoch
from lapilli.quantize.finetuning.tuning import finetune as finetune
