"""Computes the end of a network only at the tokens that predict an answer token.

Above the last layer's attention every token is computed by itself, so only these tokens go
through the last layer's MLP, the norm and the output head. In tool calling three quarters of the
tokens are prompt. Where the last layer has another form, or may not become another class, only
the output head is restricted so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer


def end_at_answers(model: Any) -> bool:
    """Let a causal model take `answers` [N], the places in [B, T] to compute logits for.

    With them its logits are [1, N, V], without them [B, T, V] as usual. Returns whether the model's
    last layer allows it; other models stay as they are.
    """
    layers: Any = getattr(model.base_model, "layers", [None])
    kind = _ENDING.get(type(layers[-1]))
    if kind is not None:
        layers[-1].__class__ = kind
        model.ends_at_answers = True
    return ends_at_answers(model)


def ends_at_answers(model: nn.Module) -> bool:
    """Whether the model, which may be a PEFT model, takes `answers`."""
    return getattr(model, "ends_at_answers", False)


@contextmanager
def rows_end_to_end(model: Any) -> Iterator[None]:
    """A context in which a causal model's last hidden states are [1, B T, h], not [B, T, h].

    Its `logits_to_keep` can then be any places of the rows.
    """
    decoder: Any = model.get_decoder()
    if not hasattr(decoder, "end_to_end"):  # one hook for all passes: each is compiled but once
        decoder.register_forward_hook(_lay_end_to_end)
    decoder.end_to_end = True
    try:
        yield
    finally:
        decoder.end_to_end = False


def _lay_end_to_end(decoder: Any, _: Any, output: Any) -> None:
    if decoder.end_to_end:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[None]


class Ending(nn.Module):
    """The forward pass of the three layer classes, from the MLP on for the `answers` only."""

    self_attn: Any
    mlp: Any
    input_layernorm: Any
    post_attention_layernorm: Any

    def forward(self, hidden_states: Tensor, answers: Tensor | None = None, **given: Any) -> Tensor:
        x, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **given)
        h = hidden_states + x
        if answers is not None:
            h = h.flatten(0, 1).index_select(0, answers)[None]
        y: Tensor = h + self.mlp(self.post_attention_layernorm(h))
        return y


# Classes of their own, since transformers wraps the `forward` of a class to compute it twice.
_ENDING: dict[type, type] = {
    kind: type(kind.__name__, (Ending, kind), {})
    for kind in (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
}
