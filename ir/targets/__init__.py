"""What a graph may be meant for, and how wide numbers may be there: a file for each target.

Reading order: `target` (what a limit is), the targets, `table` (all of them by name).
"""
