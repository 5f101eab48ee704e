"""The quantization report: what integers did to each layer, measured, as a page or as data."""
