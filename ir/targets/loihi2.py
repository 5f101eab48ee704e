"""Intel's Loihi 2: what papers that use it say; what nobody says stays unknown, and unchecked."""

from __future__ import annotations

from lapilli.ir.targets.target import Grade, Limit, Register, Target, Unknown

_PAPERS = "arXiv:2502.01330, arXiv:2503.18002: weights of 8 bits, activations of 16 and 24"
LOIHI2 = Target(
    name="loihi2",
    about="what is public of Intel's Loihi 2; a certificate says what is not",
    limits={
        Register.WEIGHT: Limit(bits=8, source=_PAPERS, grade=Grade.SECOND_HAND),
        Register.VALUE: Limit(
            bits=32, source="fuse.wikichip.org: graded spikes of up to 32 bits",
            grade=Grade.SECOND_HAND,
        ),
        Register.INPUT: Unknown(),
        Register.STATE: Limit(bits=24, source=_PAPERS, grade=Grade.SECOND_HAND),
        Register.THRESHOLD: Unknown(),
        Register.BIAS: Unknown(),
    },
)  # fmt: skip
