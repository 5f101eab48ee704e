"""Lava processes and their models, and nothing else.

Lava imports every Python file in the folder of a process's module, once for each process:
nothing here may act on import.
"""
