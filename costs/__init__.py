"""What a network costs: counts from a run, in whole numbers, and prices of others, with sources.

`shapes` and `counting` count, `traffic` says how wide what is read and written is, `prices` reads
tables, `models` multiplies; `report` holds all of it, `pages` writes it. docs/cost.md.
"""
