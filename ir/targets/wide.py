"""Wide integers, for proof: what 64-bit integers multiply by 4096, and float64 adds exactly."""

from __future__ import annotations

from lapilli.ir.targets.target import Grade, Limit, Register, Sign, Target

# A decay multiplies by up to 2**12 in 64 bits.
STATE = Limit(bits=52, source="lapilli, simulators: int64 in a decay", grade=Grade.OWN_CODE)
_FLOAT64 = Limit(
    bits=53, source="IEEE 754-2019, table 3.5: binary64, p", grade=Grade.STANDARD, sign=Sign.APART
)
WIDE = Target(
    name="wide",
    about="integers of 52 bits, for simulators: with enough bits nothing is rounded",
    limits={
        Register.VALUE: STATE,
        Register.SUM: _FLOAT64,
        Register.INPUT: STATE,
        Register.STATE: STATE,
        Register.THRESHOLD: _FLOAT64,
        Register.BIAS: STATE,
    },
    weight_bits=24,
    input_bits=24,
    gives_up=False,
)
