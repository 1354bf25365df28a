"""The gate of a feed-forward layer; training and inference compile it for their own arrays."""

from typing import Any

import numpy as np

from nemo_local.core.intrinsics import as_in, exp, number

_ONE = np.float32(1.0)


def gate(both: Any, y: Any) -> None:
    """y [N, I] = silu(gate) up, from [gate, up] [N, 2 I]; both float32, or both bfloat16"""
    size = y.shape[1]
    for i in range(y.shape[0]):
        gates, ups, out = both[i, :size], both[i, size:], y[i]
        for e in range(size):
            x = number(gates[e])
            out[e] = as_in(out, x / (_ONE + exp(-x)) * number(ups[e]))
