"""The version of lapilli; here, so that whatever writes it into a file needs no more than `ir`."""

__version__ = "0.1.0"
