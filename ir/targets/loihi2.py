"""Intel's Loihi 2: what papers that use it say; what nobody says stays unknown, and unchecked."""

from __future__ import annotations

from lapilli.ir.targets.target import (
    Cores,
    Figure,
    Grade,
    Limit,
    Register,
    Resource,
    Target,
    Unknown,
)

_PAPERS = "arXiv:2502.01330, arXiv:2503.18002: weights of 8 bits, activations of 16 and 24"
_LAVA = "lava-nc 0.10.0, magma/core/resources.py"
CORES = Cores(
    count=Figure.known(
        120, "lava-nc 0.10.0, constants.py: 120 and 128 virtual cores; papers say either, and of "
        "Hala Point's chips 122 are used on the mean",
        Grade.SECOND_HAND, high=128,
    ),
    each={
        Resource.NEURONS: Figure.known(8192, "fuse.wikichip.org: at most", Grade.SECOND_HAND),
        Resource.AXONS_IN: Figure.unknown(),
        Resource.AXONS_OUT: Figure.unknown(),
        Resource.SYNAPSES: Figure.unknown(),
    },
    systems={
        "Oheo Gulch": Figure.known(1, f"{_LAVA}: OheoGulch", Grade.MODEL_CODE),
        "Kapoho Point": Figure.known(
            4, f"{_LAVA}: KapohoPoint, four; Intel's article of 2022: eight", Grade.SECOND_HAND,
            high=8,
        ),
        "Hala Point": Figure.known(
            1152, "eenewseurope.com, 2024: with 140,544 cores; Intel's article of 2024",
            Grade.SECOND_HAND,
        ),
    },
)  # fmt: skip
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
    cores=CORES,
)  # fmt: skip
