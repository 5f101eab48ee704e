"""Lava's simulator: what is the default, because everything here runs there."""

from __future__ import annotations

from lapilli.ir.targets.target import Grade, Limit, Register, Target

STATE = Limit(
    bits=24,
    source="lava-nc 0.10.0, proc/lif/models.py: uv_bitwidth; u wraps and v saturates beyond",
    grade=Grade.OWN_CODE,
)
MESSAGE = Limit(
    bits=32,
    source="lava-nc 0.10.0, proc/dense/models.py: a_out is int32",
    grade=Grade.OWN_CODE,
)
LAVA = Target(
    name="lava",
    about="Lava's simulator, with processes of ours where it has none; the default",
    limits={Register.VALUE: MESSAGE, Register.STATE: STATE},
)
