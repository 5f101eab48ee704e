"""Run a graph on something. Nothing registers itself: see `deploy.comparison.targets` for the list.

Reading order: `protocol` (what a simulator is), `reference` (the definition, in a loop),
`event_driven` (independent, counts operations), `lava` (Intel's Loihi simulator, in a process of
its own), `nengo_loihi` (a second one, by others), `onnx` (onnxruntime), `nir` (other people's
frameworks), `conformance` (the suite that all of them pass).
"""
