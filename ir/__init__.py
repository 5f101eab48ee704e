"""The integer graph: what is deployed. Needs NumPy alone.

Reading order: `types` (what flows on an edge), `ops` (the node kinds), `semantics` (what
each kind computes: the definition), `graph` (how nodes connect), `bounds` and `certificate`
(what is proved before a run), `network` (a graph with its input and output scales), `passes` (how
one graph becomes another).
"""

from lapilli.ir.graph import Graph as Graph
from lapilli.ir.graph import Node as Node
from lapilli.ir.types import IntRange as IntRange
from lapilli.ir.types import Kind as Kind
from lapilli.ir.types import TensorType as TensorType
