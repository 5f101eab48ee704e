"""NIR, the field's exchange format: files out, files in, and what importers make of a file.

Reading order: `write`, `read`, `check`.
"""
