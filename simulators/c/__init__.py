"""Portable C, compiled and run on this machine."""

from lapilli.simulators.c.simulator import COMPILERS, PortableC, compiler

__all__ = ["COMPILERS", "PortableC", "compiler"]
