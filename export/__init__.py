"""Write a graph to a file. `file` is our own format; `nir` is the field's."""
