"""A graph as a NIR file.

Reading order: `writer` (the entry), `dialect` (the flavours), `canonical` (integers as they are);
then the flavours for other people's runtimes: `portable` and `fused`, on `lowering` (the walk over
the graph), `builder`, `placement` and `layouts` (where values lie), `routing` and `joins` (how they
meet), `synapses`, `neurons`, `multiword`, `cones`.
"""
