"""The weight of a linear layer, and products with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

_PACKED_FROM = 3
"""Rows from which a product with a packed weight is faster; one row is slower by half."""
_PACKED_FOR = 16
"""Rows that a weight is packed for; more of them are as fast as if packed for as many."""
_ROWS_OF = 32
"""Rows are filled up to a multiple of this: in bfloat16 oneDNN builds a kernel for each number of
rows, which takes longer than to multiply (0.5 ms, or 1.3 with tiles). It keeps the last 1,024."""


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 at least twice as fast as float32."""
    return _has_avx512() and torch.cpu._is_avx512_bf16_supported()


def _has_avx512() -> bool:
    """Whether the processor has AVX-512 and PyTorch was built with oneDNN."""
    has = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has and torch.backends.mkldnn.is_available()


@dataclass(frozen=True)
class Weight:
    """[d_in, d_out], perhaps with a second copy for many rows."""

    plain: Tensor
    packed: Tensor | None = None
    """A copy laid out for oneDNN, which is of use for products only."""
    rounded: Tensor | None = None
    """A copy in bfloat16 with the same layout."""

    def with_packed(self) -> "Weight":
        """The weight, with a packed copy where that is faster: in float32, with AVX-512."""
        if self.plain.dtype != torch.float32 or not _has_avx512():
            return self
        return Weight(self.plain, packed=_packed(self.plain))

    def with_rounded(self) -> "Weight":
        """The weight, with a copy in bfloat16 for a processor that multiplies it."""
        return Weight(self.plain, rounded=_packed(self.plain.bfloat16()))

    @property
    def bytes(self) -> int:
        """Bytes of all copies."""
        copies = (self.plain, self.packed, self.rounded)
        return sum(copy.nbytes for copy in copies if copy is not None)

    def plus(self, change: Tensor) -> "Weight":
        """The sum with a change [d_in, d_out], with as many copies."""
        changed = Weight(self.plain + change)
        if self.rounded is not None:
            return changed.with_rounded()
        return changed if self.packed is None else changed.with_packed()

    def product(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x [N, d_in] times the weight; with `onto` [N, d_out] the sum of both."""
        linear = torch.ops.mkldnn._linear_pointwise
        y: Tensor
        if self.packed is None or x.shape[0] < _PACKED_FROM:
            plain = self.plain
            return torch.mm(x, plain) if onto is None else torch.addmm(onto, x, plain)
        if onto is None:
            y = linear(x, self.packed, None, "none", [], "")
        else:
            y = linear.binary(x, onto, self.packed, None, "add")
        return y

    def rounded_product(self, x: Tensor) -> Tensor:
        """x [N, d_in] times the copy in bfloat16, computed in it."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            _filled(x), self.rounded, None, "none", [], ""
        )
        return y[: x.shape[0]]


def _filled(x: Tensor) -> Tensor:
    """x [N, d] in bfloat16, with any rows behind it up to a multiple of _ROWS_OF."""
    count = -(-x.shape[0] // _ROWS_OF) * _ROWS_OF
    filled = x.new_empty(count, x.shape[1], dtype=torch.bfloat16)
    filled[: x.shape[0]] = x
    return filled


def _packed(plain: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(plain.T.contiguous(), _PACKED_FOR)
    return packed
