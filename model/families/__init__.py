"""Readable definitions of the published Spiking Transformers.

Reading order: `lif` (neurons; `fused` is how they train), `layers` (what families share),
`spikformer` (the simplest), `spikingformer`, `spike_driven`, `qkformer`, `semm` with `experts`,
`a2os2a`, `bsa`, `meta_spikeformer`, `e_spikeformer`; `family` (what is known of one, at the end of
its file), `table` (all of them), `presets` (published sizes).
"""
