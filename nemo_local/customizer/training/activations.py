"""Estimates the memory that a training pass takes from a model's dimensions. No torch here.

N tokens of a pass, A of them in the loss, T of its longest row, L layers, h hidden size, i
intermediate size, a heads, V vocabulary

    activations  = N L (4 w i + (29 + 3.5 w) h)     w = 2 bytes a value under bf16, 4 in fp32
    dropout      = N L (1 + w) (6 h + i)            what the inputs of adapters keep of it
    checkpointed = N L 7 h + what one layer keeps
    logits       = A V (2 w + 12), and 24 more with a teacher

The factors were read off what PyTorch keeps for the backward pass through a Llama (LoRA and all
weights) with fused attention; plain attention also keeps its scores, N L a T. Logits are held as
the model computes them and in fp32, once more for the loss, and with their gradients; a teacher
adds its own, and what compares both. Left out: adapters and their optimiser, buffers of kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_local.customizer.parallelism import SHARDED

OF_PLAIN_ATTENTION = 10
"""Bytes per attention score: fp32 before the softmax and after it, bf16 for the product."""


@dataclass(frozen=True)
class Size:
    """The dimensions of a model that decide how much memory a pass keeps."""

    layers: int
    hidden: int
    intermediate: int
    """Width of the feed-forward block; with experts, of all together that see a token."""
    heads: int

    def activations(
        self, rows: int, longest: int, width: int, fused: bool, dropout: bool = False
    ) -> int:
        """Bytes kept for the backward pass by `rows` rows of `longest` tokens.

        `width` is bytes a value; `dropout` tells whether adapters have it.
        """
        return self.layers * self._of_a_layer(rows, longest, width, fused, dropout)

    def checkpointed(
        self, rows: int, longest: int, width: int, fused: bool, dropout: bool = False
    ) -> int:
        """Bytes kept with activation checkpointing: each layer's input, and one layer in full."""
        inputs = self.layers * rows * longest * 7 * self.hidden
        return inputs + self._of_a_layer(rows, longest, width, fused, dropout)

    def _of_a_layer(self, rows: int, longest: int, width: int, fused: bool, dropout: bool) -> int:
        of_a_token = 4 * width * self.intermediate + (29 + 3.5 * width) * self.hidden
        if dropout:
            of_a_token += (1 + width) * (6 * self.hidden + self.intermediate)
        if not fused:
            of_a_token += OF_PLAIN_ATTENTION * self.heads * longest
        return int(rows * longest * of_a_token)


def logits(learnt: int, vocabulary: int, width: int, taught: bool = False) -> int:
    """Bytes of the logits of `learnt` tokens, with what their loss needs."""
    return learnt * vocabulary * (2 * width + 12 + (24 if taught else 0))


def resident(
    parameters: int,
    weights_width: int,
    computes_width: int,
    trains_all: bool,
    processes: int,
    parallelism: str,
) -> int:
    """Bytes of one process that stay through a run: weights, gradients and the optimiser's state.

    When all weights are trained, gradients and Adam's two moments take 12 bytes a weight. Where
    bf16 is computed from fp32 weights, a pass holds a bf16 copy of them.
    """
    weights = parameters * weights_width
    if computes_width < weights_width:
        weights += parameters * computes_width
    state = 12 * parameters if trains_all else 0
    if parallelism in SHARDED:
        return (weights + state) // processes
    return weights + (state // processes if parallelism == "zero2" else state)
