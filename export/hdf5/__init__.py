"""Read HDF5 files that nobody vouches for.

Reading order: `parser` (starts a process with limits, and takes what it answers), `process` (runs
there).
"""
