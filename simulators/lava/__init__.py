"""Intel's Loihi simulator, in an environment and a process of its own.

lava-nc 0.10.0 is final and needs Python 3.10; so this package has two sides that share only
files and a pipe.

Reading order: `shared` (what both sides know), `host` (where lapilli runs), `worker` (Python 3.10,
the only place that imports lava), `stock` (networks of nothing but Intel's own processes).
"""
