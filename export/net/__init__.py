"""lava-dl's `.net` files, out and in.

Reading order: `registers` (what a layer's integers are), `delays`, `writer`; `reader`, `importer`.
"""
