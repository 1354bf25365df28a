"""Rows of the embedding and of the output head that belong to one adapter.

An adapter may bring rows for tokens of the base model, and for new tokens behind its vocabulary. In
a batch only the adapter's own sequences see them: for all others the base's rows stand, and tokens
that they do not have get a logit of minus infinity.

N rows of a pass, T tokens each, V vocabulary of the base, E hidden, K tokens of an adapter.
Source: https://huggingface.co/docs/peft/package_reference/trainable_tokens
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rows = Tensor | slice
"""Rows of a pass, by number or from first to end."""
EVERY = slice(None)


@dataclass(frozen=True)
class TokenRows:
    """What an adapter has instead of the base's rows."""

    ids: Tensor
    """[K] token ids, ascending."""
    inputs: Tensor
    """[K, E] embeddings."""
    outputs: Tensor | None
    """[K, E] rows of the output head; None where the head keeps its own."""

    @property
    def end(self) -> int:
        """The number after the last token."""
        return int(self.ids[-1]) + 1

    def to(self, weight: Tensor) -> "TokenRows":
        """These rows where this weight is, and in its type."""
        outputs = None if self.outputs is None else self.outputs.to(weight)
        return TokenRows(self.ids.to(weight.device), self.inputs.to(weight), outputs)


Chosen = list[tuple[TokenRows, Rows]]
"""Which rows of a pass have which tokens of their own."""


def embed(
    ids: Tensor, base: Callable[[Tensor], Tensor], size: int, chosen: Chosen, scale: float = 1.0
) -> Tensor:
    """Embeddings of ids [N] or [N, T]; `base` has `size` rows and multiplies them by `scale`."""
    if not chosen:
        return base(ids)
    h = base(ids.clamp(max=size - 1))
    for tokens, rows in chosen:
        own = ids[rows]
        place = torch.searchsorted(tokens.ids, own.contiguous()).clamp(max=len(tokens.ids) - 1)
        found = tokens.ids[place] == own
        replaced = h[rows]
        replaced[found] = tokens.inputs[place[found]] * scale
        h[rows] = replaced
    return h


def project(logits: Tensor, x: Tensor, chosen: Chosen) -> Tensor:
    """The base's logits [N, V] or [N, T, V] of x [N, E] or [N, T, E], with those of the tokens."""
    end = max((tokens.end for tokens, _ in chosen), default=0)
    if end > logits.shape[-1]:
        logits = F.pad(logits, (0, end - logits.shape[-1]), value=float("-inf"))
    for tokens, rows in chosen:
        if tokens.outputs is not None:
            own = logits[rows]
            own[..., tokens.ids] = x[rows] @ tokens.outputs.T
            logits[rows] = own
    return logits


class TokenEmbedding(nn.Module):
    """An embedding with rows of adapters instead of its own."""

    def __init__(self, base: nn.Embedding, chosen: Callable[[], Chosen]) -> None:
        """`chosen` says which rows of the next pass have which tokens."""
        super().__init__()
        self.base = base
        self._chosen = chosen
        scale = torch.as_tensor(getattr(base, "embed_scale", 1.0))  # Gemma's
        self._scale = float(scale.to(base.weight.dtype))

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [N, T, E] of ids [N, T]."""
        return embed(ids, self.base, self.base.num_embeddings, self._chosen(), self._scale)
