"""The canonical flavour without `Flatten`, for graphs in which a vector meets a map.

No node of NIR makes a map of a vector, as a gate for each channel would need behind a linear map.
Where the other way is refused, linear maps of a map of one pixel keep it: convolutions of 1 x 1.
"""

from __future__ import annotations

from lapilli.export.nir.write.canonical import EXACT as EXACT
from lapilli.export.nir.write.canonical import FLOAT as FLOAT
from lapilli.export.nir.write.canonical import dressed as dressed
from lapilli.export.nir.write.canonical import neuron_faults as neuron_faults
from lapilli.export.nir.write.canonical import neurons as neurons

FLATTENS: bool = False
