"""A graph as an ONNX model in integers alone.

Reading order: `writer` (the file), `models` (a Scan over T, or one step), `body` (what a step
computes), `ops`, `products`, `neuron`, `function`, `shift_sum` (a node each); `reader` (says what
a file is).
"""
