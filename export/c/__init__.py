"""Portable C: a network as a folder of C99 that needs no library and no memory but its own."""
