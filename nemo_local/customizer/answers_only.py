"""The end of a network computed where something is learnt, and nowhere else.

Above the last layer's attention every token is for itself, so only the tokens before a learnt one
are taken further: through the last layer's MLP, the norm and the output head. In tool calling
three quarters of the tokens are prompt.
"""

from typing import Any

from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer


def end_at_answers(model: Any) -> bool:
    """Let a causal model take `answers` [N], the places in [B, T] to compute logits for.

    With them its logits are [1, N, V], without them [B, T, V] as ever. Returns whether the model
    has a last layer that can be ended so; others stay as they are.
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


class _Ending(nn.Module):
    """What the three classes of layers compute, from the MLP on for the `answers` only."""

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
    kind: type(kind.__name__, (_Ending, kind), {})
    for kind in (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
}
