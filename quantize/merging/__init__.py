"""Several linear maps in a row as one.

Reading order: `linear_map` (what a map is), `values` (its numbers), `merge` (the walk).
"""
