"""Run the same images twice and compare every neuron at every time step.

Reading order: `targets` (the simulators by name), `compare` (two executables, and what came
out), `divergence` (where two runs first part), `golden` and `check_golden` (the same, for runtimes
that are not ours).
"""
