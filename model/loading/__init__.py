"""Checkpoints, and what images need before they are shown.

Reading order: `checkpoint` (the parameters of a model, and the model of a known family);
`containers` (which of the tensors in a file they are), `pickles`, `shards` and `sniff` (what is in
the file, in several, or no checkpoint at all); `foreign` (models of SpikingJelly's own), `strict`
(into a module of the user's, every key used), `preprocess`.
"""
