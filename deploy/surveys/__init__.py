"""Programs for developers: every family through every simulator, and the pages that say so.

Reading order: `coverage`, `runtimes`, `sizes`, `commands` (each writes a page of docs/),
`notebook`, `site`, `random_graphs`, `soak`.
"""
