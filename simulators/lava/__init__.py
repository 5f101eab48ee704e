"""Intel's Loihi simulator, in an environment and a process of its own.

lava-nc 0.10.0 is final and needs Python 3.10; so this package has two sides that share only
files and a pipe. Nothing here imports lava before it is in the worker.

Reading order, host: `adapter` (the simulator), `legality` (what it declines), `plan` (files of
a run), `job` (what the two sides tell each other), `environment` (where Python 3.10 is),
`source` (the code that runs there), `supervisor` (start, watch, end), `segments` (shared
memory). Worker: `worker`, `run_config` (who chooses models), `lowering` (graph to Lava processes),
`processes` (ours; the neurons are Lava's), `tape` (how they record). `stock`: the other lowering.
"""
