"""What a framework's importer makes of a NIR file, node by node.

Reading order: `check` (the entry), `frameworks` (the rules of each), `predicates` (what they ask).
"""
