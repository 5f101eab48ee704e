"""What host and worker both know. Nothing here imports lava.

Reading order: `job` (what the two sides tell each other), `legality` (what stock Lava declines),
`run_config` (the name of a run configuration), `traces` (how values are recorded), `segments`
(shared memory), `source` (the code that runs in the worker).
"""
