"""The integer graph: what is deployed. Needs NumPy alone.

Reading order: `types` (what flows on an edge), `ops` (the node kinds), `semantics` (what each
kind computes: the definition), `graph` (how nodes connect), `builder` (one in the making),
`bounds`, `certificate` and `loihi` (what is proved before a run), `network` (a graph with its
input and output scales), `recording` (what a run showed), `passes` (how one graph becomes
another).
"""
