"""Any graph as binary neurons and static synapses: what NIR and stock Lava can say.

Reading order: `building` (the graph in the making), `thresholds` (neurons without memory, bit
planes, rectifiers), `terms` (a value as weighted spikes), `products` (AND neurons), `maxima`,
`carries` (sums longer than registers), `shifts` (Shiftmax), `copies` (ternary neurons and soft
reset), `association` (which product of a chain comes first), `lowering` (the pass), `sizes`
(what it costs, before anything of that size exists).

Everything happens within one time step: model time has no latency, so that neurons in a row
decide one after the other on the same step. On a target where a synapse costs a step,
`balance_delays` pays for the depth.
"""

from lapilli.ir.passes.binary.lowering import size as size
from lapilli.ir.passes.binary.lowering import to_binary_neurons as to_binary_neurons
from lapilli.ir.passes.binary.lowering import unsupported as unsupported
from lapilli.ir.passes.binary.sizes import BinarySize as BinarySize
from lapilli.ir.passes.binary.sizes import origin as origin
from lapilli.ir.passes.binary.terms import summands as summands
