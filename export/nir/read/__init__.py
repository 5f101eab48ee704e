"""A NIR file as a graph, where its meaning is certain.

Reading order: `nodes` (a node and its fields), `reader` (the file), `metadata` (what is said of
it), `dynamics` (what a neuron's constants mean to each framework), `grid` (real numbers as
integers), `builder` (the graph so far), `delays` (spikes and currents that arrive later), `layers`
(a node as nodes of the graph), `answer` (the output), `importer`.
"""
