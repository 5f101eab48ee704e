"""One step of many neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lapilli.simulators.fast.kernels.emit import (
    I8,
    I32,
    I64,
    filled,
    load,
    pointers,
    spread,
    store,
    times,
    vector,
)
from lapilli.simulators.fast.sizes import BLOCK


@intrinsic
def _fire(
    _: Any, count: Any, current: Any, at: Any, state: Any, threshold: Any, bias: Any,
    rule: Any, spikes: Any, spikes_at: Any, seen: Any, seen_at: Any,
) -> Any:  # fmt: skip
    """One step of `count` neurons, a multiple of BLOCK.

    rule: int32 [decay shift, fraction bits, what a spike keeps of the membrane (-1 or 0), what
    it takes]. `current` is read from element `at` on; spikes and `seen`, the membrane before its
    reset, are written from `spikes_at` and `seen_at` on.
    """
    signature = types.void(
        count, current, at, state, threshold, bias, rule, spikes, spikes_at, seen, seen_at
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count, current, at, state, threshold, bias, rule, spikes, spikes_at, seen, seen_at = (
            pointers(context, builder, signature, args)
        )
        words = vector(I32, BLOCK)
        shift, bits, keep, by = (
            spread(builder, load(builder, rule, I64(4 * i), I32), words) for i in range(4)
        )
        one, zero = filled(words, 1), filled(words, 0)
        # Added to what is negative, so that the shift rounds toward zero.
        rounding = builder.sub(builder.shl(one, shift), one)
        source = builder.gep(current, [times(builder, at, 4)])
        spikes = builder.gep(spikes, [spikes_at])
        seen = builder.gep(seen, [times(builder, seen_at, 4)])
        with cgutils.for_range_slice(builder, I64(0), count, I64(BLOCK), I64) as (i, _):
            at4 = times(builder, i, 4)
            v = load(builder, state, at4, words)
            negative = builder.icmp_signed("<", v, zero)
            v = builder.add(v, builder.select(negative, rounding, zero))
            v = builder.ashr(v, shift)
            v = builder.add(v, builder.shl(load(builder, source, at4, words), bits))
            v = builder.add(v, load(builder, bias, at4, words))
            fired = builder.icmp_signed(">=", v, load(builder, threshold, at4, words))
            store(builder, v, seen, at4)
            left = builder.sub(builder.and_(v, keep), by)
            store(builder, builder.select(fired, left, v), state, at4)
            store(builder, builder.zext(fired, vector(I8, BLOCK)), spikes, i)
        return context.get_dummy_value()

    return signature, generate


fire: Callable[..., None] = _fire
