"""Intel's first Loihi, by the code that models it; nothing here was run on a chip."""

from __future__ import annotations

from lapilli.ir.targets.target import (
    Cores,
    Figure,
    Grade,
    Limit,
    Register,
    Resource,
    Sign,
    Target,
)

# Each is used on its own, too: Lava's and lava-dl's neurons have these registers.
WEIGHT = Limit(
    bits=8,
    source="lava-nc 0.10.0, proc/dense/models.py: weights, precision=8",
    grade=Grade.MODEL_CODE,
)
INPUT = Limit(
    bits=21,
    source="nengo-loihi 1.1.0, discretize.py: Q_BITS, of the synapse accumulator; "
    "brian2-loihi 0.5.2 stops at 2^21 - 2^6",
    grade=Grade.MODEL_CODE,
    sign=Sign.APART,
)
STATE = Limit(
    bits=24,
    source="lava-nc 0.10.0, proc/lif/models.py: uv_bitwidth; "
    "nengo-loihi 1.1.0, discretize.py: U_BITS, 23 and a sign",
    grade=Grade.MODEL_CODE,
)
THRESHOLD = Limit(
    bits=17,
    source="lava-nc 0.10.0, proc/lif/models.py: vth, precision=17, in units of 64; "
    "nengo-loihi 1.1.0, discretize.py: VTH_MAN_MAX, VTH_EXP",
    grade=Grade.MODEL_CODE,
    sign=Sign.NONE,
    below=6,
)
BIAS = Limit(
    bits=13,
    source="lava-nc 0.10.0, proc/lif/models.py: bias_mant, precision=13; "
    "nengo-loihi 1.1.0, discretize.py: BIAS_MAN_MAX",
    grade=Grade.MODEL_CODE,
)
_NENGO = "nengo-loihi e564f66, block.py"
_LAVA = "lava-nc 0.10.0, magma/core/resources.py"
CORES = Cores(
    count=Figure.known(128, f"{_NENGO}; Davies et al., IEEE Micro 2018", Grade.MODEL_CODE),
    each={
        Resource.NEURONS: Figure.known(1024, f"{_NENGO}: MAX_COMPARTMENTS", Grade.MODEL_CODE),
        Resource.AXONS_IN: Figure.known(4096, f"{_NENGO}: MAX_IN_AXONS", Grade.MODEL_CODE),
        Resource.AXONS_OUT: Figure.known(4096, f"{_NENGO}: MAX_OUT_AXONS", Grade.MODEL_CODE),
        Resource.SYNAPSES: Figure.known(
            16384 * 64, f"{_NENGO}: MAX_SYNAPSE_BITS, 16384 words of 64 bits", Grade.MODEL_CODE
        ),
    },
    systems={
        "Kapoho Bay": Figure.known(2, f"{_LAVA}: KapohoBay", Grade.MODEL_CODE),
        "Nahuku": Figure.known(32, f"{_LAVA}: Nahuku, at most", Grade.MODEL_CODE),
        "Pohoiki Springs": Figure.known(
            768,
            "idgcdn.com.au/article/print/671997, 2020: 24 Nahuku of 32; "
            "Davies et al., Proc. IEEE 2021",
            Grade.SECOND_HAND,
        ),
    },
)
LOIHI1 = Target(
    name="loihi1",
    about="registers of Intel's first Loihi, for states of its neurons",
    limits={
        Register.WEIGHT: WEIGHT,
        Register.INPUT: INPUT,
        Register.STATE: STATE,
        Register.THRESHOLD: THRESHOLD,
        Register.BIAS: BIAS,
    },
    stock=True,
    cores=CORES,
)
