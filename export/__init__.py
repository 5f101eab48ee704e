"""Write a graph to a file, and read files of others.

Reading order: `native` (the `.lapilli` file), `onnx`, `nir`, `net` (lava-dl's), `hdf5` (the
container of the last two, read without trust).
"""
