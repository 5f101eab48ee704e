"""Programs for developers: every family through every simulator, and the pages that say so.

Reading order: `coverage`, `runtimes`, `sizes` (each writes a page of docs/), `random_graphs`,
`soak`.
"""
