"""Take a whole test set through a network, shard by shard, resumable.

Reading order: `plan` (what is asked, and which samples are a shard), `store` (the folder of
results), `shard` (what is found of one shard), `summary` (what all of them say), `run` (the loop).
"""
