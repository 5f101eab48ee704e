"""Take a whole test set through a network, shard by shard, resumable.

Reading order: `plan` (which images are a shard), `images` (how they are read), `sides` (what runs
and what is compared), `layers`, `batch` and `shard` (what is found of one shard), `machine` (who
ran it), `store` (the folder of results), `summary` (what all shards say), `run` (the loop),
`cluster` (the same on Dask).
"""
