"""The side of lapilli: prepare a run, start a worker, read what it left.

Reading order: `adapter` (the simulator), `plan` (files of a run), `environment` (where Python 3.10
is), `supervisor` (start, watch, end), `stock` (runs of stock networks).
"""
