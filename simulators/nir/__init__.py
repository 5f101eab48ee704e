"""Other people's frameworks, given our NIR files. All of them are PyTorch.

Reading order: `playback` (a run, put back together), `nirtorch`, `snntorch`, `spikingjelly`,
`norse`.
"""
