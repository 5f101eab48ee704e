"""Sizes on which kernels and what prepares their operands agree."""

LANES = 32  # 16-bit sums in one vector of 512 bits
BLOCK = 16  # 32-bit sums in one
MOST_UNWIDENED = 256  # rows whose sum 16 bits hold: 256 * 255 < 2**16, 256 * -128 = -2**15


def padded(count: int, size: int = LANES) -> int:
    """As many outputs as fill whole vectors of this size."""
    return -(-count // size) * size
