"""A runtime that computes in float32: every number an integer that it holds."""

from __future__ import annotations

from lapilli.ir.targets.target import Grade, Limit, Register, Sign, Target

SIGNIFICAND = Limit(
    bits=24, source="IEEE 754-2019, table 3.5: binary32, p", grade=Grade.STANDARD, sign=Sign.APART
)
FLOAT32 = Target(
    name="float32",
    about="every number, and every partial sum, an integer of float32",
    limits=dict.fromkeys(Register, SIGNIFICAND),
    weight_bits=24,
)
