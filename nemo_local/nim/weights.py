"""The weight of a linear layer, and products with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

_PACKED_FROM = 3
"""Rows from which a product with a packed weight is faster; one row is slower by half."""
_PACKED_FOR = 16
"""Rows that a weight is packed for; more of them are as fast as if packed for as many."""


@dataclass(frozen=True)
class Weight:
    """[d_in, d_out], perhaps with a second copy for many rows."""

    plain: Tensor
    packed: Tensor | None = None
    """Laid out for oneDNN, which can only multiply with it."""

    def with_packed(self) -> "Weight":
        """With that copy, where it is faster: a processor with AVX-512 and numbers in float32."""
        if (
            self.plain.dtype != torch.float32
            or not torch.backends.mkldnn.is_available()
            or torch.backends.cpu.get_cpu_capability() != "AVX512"
        ):
            return self
        turned = self.plain.T.contiguous()
        return Weight(self.plain, torch.ops.mkldnn._reorder_linear_weight(turned, _PACKED_FOR))

    @property
    def bytes(self) -> int:
        """Of all copies."""
        return self.plain.nbytes * (1 if self.packed is None else 2)

    def plus(self, change: Tensor) -> "Weight":
        """The sum with a change [d_in, d_out], with as many copies."""
        changed = Weight(self.plain + change)
        return changed if self.packed is None else changed.with_packed()

    def product(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x [N, d_in] times the weight; with `onto` [N, d_out] the sum of both."""
        if self.packed is None or x.shape[0] < _PACKED_FROM:
            plain = self.plain
            return torch.mm(x, plain) if onto is None else torch.addmm(onto, x, plain)
        linear = torch.ops.mkldnn._linear_pointwise
        y: Tensor = (
            linear(x, self.packed, None, "none", [], "")
            if onto is None
            else linear.binary(x, onto, self.packed, None, "add")
        )
        return y
