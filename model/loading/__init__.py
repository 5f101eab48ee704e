"""Checkpoints, and what images need before they are shown.

Reading order: `checkpoint` (a file of a known family), `foreign` (what people save around it),
`strict` (into a module, every key used), `preprocess`.
"""
