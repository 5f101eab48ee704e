"""Several linear maps in a row as one.

Reading order: `linear_map` (what a map is), `values` (a value that is one), `constants`
(what scales, shifts and pads it), `offsets` (constants that no map can hold), `merge` (the walk),
`emission` (the program anew).
"""
