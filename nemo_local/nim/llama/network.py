"""The Llama architecture, computed for many sequences of their own lengths at once.

Same weights and same numbers as transformers' LlamaForCausalLM (a test holds it to them), with less
around them: joined products, no padding, keys and values written in place. On a CPU and at the size
of a pocket model most of a decoding step is otherwise spent between the products.
Source: https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/modeling_llama.py
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel

from nemo_local.nim.kv_cache import KvCache
from nemo_local.nim.llama.compiled_step import CompiledStep, Floats, Integers, Span, parts_of
from nemo_local.nim.llama.fused_lora import FusedAdapters, Selection
from nemo_local.nim.llama.ops import Attend, CompiledOps, ops_of
from nemo_local.nim.llama.sites import HEAD, PARTS, Site, member_names
from nemo_local.nim.llama.weights import Weight
from nemo_local.nim.lora_linear import LoraLinear
from nemo_local.nim.token_rows import Chosen, TokenEmbedding, embed, project

SMALL_BYTES = 100_000_000
"""Weights up to which a product is too short to be shared among threads."""
COMPILED_ROWS = 32
"""Rows up to which the compiled step on one thread is faster than products on one; fewer in
proportion when there are threads that have no part in it but would share products."""


def computes(model: PreTrainedModel) -> bool:
    """Whether this module computes the model; else transformers does."""
    config: Any = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model) is LlamaForCausalLM
        and model.device.type == "cpu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in ("default", "linear", "llama3")
    )


class Llama:
    """The network, for tokens [N] of any number of sequences in a row. E hidden, V vocabulary.

    Several threads may compute with it at once.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self.layers: int = config.num_hidden_layers
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_size: int = model.model.layers[0].self_attn.head_dim
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        self.sizes: dict[Site, list[int]] = {}
        embedding = model.model.embed_tokens
        self._embedding: nn.Embedding = (
            embedding.base if isinstance(embedding, TokenEmbedding) else embedding
        )
        sites = [(layer, part) for layer in range(self.layers) for part in PARTS]
        self.weights = {site: Weight(self._joined(model, site)) for site in [*sites, HEAD]}
        self._rows = self._embedding.weight.detach()
        """Embeddings [V, E]."""
        self._norms: list[tuple[Tensor, Tensor]] = [
            (block.input_layernorm.weight, block.post_attention_layernorm.weight)
            for block in model.model.layers
        ]
        self._last_norm: Tensor = model.model.norm.weight
        self._epsilon: float = config.rms_norm_eps
        self._rotary = model.model.rotary_emb
        self._angles = (torch.empty(0, self.head_size),) * 2  # one value: threads read both
        self.ops = ops_of(self.dtype, self.small)
        self._compiled_step: CompiledStep | None = None
        self._compiled_rows = COMPILED_ROWS

    @property
    def small(self) -> bool:
        """Whether one thread computes it as fast as several."""
        return sum(weight.plain.nbytes for weight in self.weights.values()) <= SMALL_BYTES

    def keep_copies(self, prompts_in_bfloat16: bool, compiled_rows: int = COMPILED_ROWS) -> None:
        """Keep more copies of weights, where those are faster to multiply with or to read.

        `prompts_in_bfloat16` is for weights that were stored in it.
        """
        self._compiled_rows = compiled_rows
        weights = {site: weight.plain for site, weight in self.weights.items()}
        if CompiledStep.can_do(weights):
            norms = [norm for pair in self._norms for norm in pair]
            self._compiled_step = CompiledStep(
                weights, [*norms, self._last_norm], self._epsilon, self.heads
            )
        rounded = prompts_in_bfloat16 and self.halves and not self.reads_compiled
        if rounded or (self.small and not self.reads_compiled):
            self.weights = {
                site: weight.with_rounded() if rounded else weight.with_packed()
                for site, weight in self.weights.items()
            }
        if self.small:
            self._rows = self._rows.contiguous()

    @property
    def reads_in_bfloat16(self) -> bool:
        """Whether prompts are multiplied in bfloat16."""
        return self.weights[0, "qkv"].rounded is not None

    @property
    def reads_compiled(self) -> bool:
        """Whether prompts, and steps of any number of rows, are one kernel on one thread."""
        step = self._compiled_step
        return isinstance(self.ops, CompiledOps) and step is not None and step.on_tiles

    @property
    def halves(self) -> bool:
        """Whether steps read weights and adapters in 16 bits."""
        return self._compiled_step is not None

    @property
    def cache_dtype(self) -> torch.dtype:
        """The type of keys and values: the one in which the weights were stored."""
        return torch.bfloat16 if self.halves else self.dtype

    def __call__(
        self, ids: Tensor, positions: Tensor, attend: Attend, lora: Selection,
        last: tuple[Tensor, Selection] | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits [N, V] in float32; with `last` (rows, their adapters) of those rows only.

        V grows by the new tokens of the adapters in the pass.
        """
        h = self._embed(ids, lora.tokens)
        cos, sin = self._rope(positions)
        for layer in range(self.layers):
            q, k, v = self._qkv(layer, self._norm(h, self._norms[layer][0]), lora, cos, sin)
            if last is not None and layer == self.layers - 1:
                # Above this point only the sequences' ends are needed.
                rows, lora = last
                q, h = q[rows], h[rows]
            h = self._product(attend(layer, q, k, v), (layer, "o"), lora, onto=h)
            x = self._norm(h, self._norms[layer][1])
            x = self.ops.gated(self._product(x, (layer, "gate_up"), lora))
            h = self._product(x, (layer, "down"), lora, onto=h)
        h = self._norm(h, self._last_norm)
        return project(self._product(h, HEAD, lora).float(), h, lora.tokens)

    def step(
        self, ids: list[int], cache: KvCache, columns: list[int], adapters: FusedAdapters,
        names: list[str | None],
    ) -> Tensor:  # fmt: skip
        """Logits [N, V] in float32 after one more token in each of the cache's N sequences.

        columns [N] are each token's place in the cache and its position; `names` are the rows'
        adapters.
        """
        threads = 1 if self.reads_compiled else torch.get_num_threads()
        parts = parts_of(len(ids), threads)
        few = self.reads_compiled or len(ids) * threads <= self._compiled_rows * parts
        if self._compiled_step is None or not few:
            positions = torch.tensor(columns)
            attend = self.ops.attend_to(cache, positions)
            return self(torch.tensor(ids), positions, attend, adapters.by_row(names))
        # One kernel: each operation of PyTorch gives Python's lock away and waits for it.
        arranged = adapters.arranged(names, parts)
        last, logits = self._compiled_step(
            *self._found(ids, arranged.tokens), self._turns(max(columns) + 1), cache,
            np.array(columns), arranged,
        )  # fmt: skip
        return project(torch.from_numpy(logits), torch.from_numpy(last), arranged.tokens)

    def read(
        self, ids: list[int], cache: KvCache, spans: list[Span], adapters: FusedAdapters,
        names: list[str | None],
    ) -> Tensor:  # fmt: skip
        """Logits [P, V] after prompts that stand one after the other, by a kernel.

        `names` are the prompts' adapters; those of one stand together.
        """
        assert self._compiled_step is not None
        every = adapters.table([(n, s.start, s.end) for n, s in zip(names, spans, strict=True)])
        ends = adapters.table([(name, i, i + 1) for i, name in enumerate(names)])
        longest = max(span.known + span.end - span.start for span in spans)
        last, logits = self._compiled_step.read(
            *self._found(ids, every.tokens), self._turns(longest), cache, spans, every, ends
        )
        return project(torch.from_numpy(logits), torch.from_numpy(last), ends.tokens)

    def _found(self, ids: list[int], tokens: Chosen) -> tuple[Floats, Integers]:
        """Embeddings [V, E], and which of them are those of the ids, for a kernel."""
        if tokens:
            return self._embed(torch.tensor(ids), tokens).numpy(), np.arange(len(ids))
        if max(ids) >= len(self._rows):
            raise IndexError(f"token {max(ids)} is none of the model's {len(self._rows)}")
        return self._rows.numpy(), np.array(ids)

    def _qkv(
        self, layer: int, x: Tensor, lora: Selection, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned to their positions, and values: [N, heads, d] each."""
        both = self.heads + self.kv_heads
        qkv = self._product(x, (layer, "qkv"), lora).to(self.dtype)
        qkv = qkv.view(-1, both + self.kv_heads, self.head_size)
        self.ops.rotate(qkv[:, :both], cos, sin)
        return qkv[:, : self.heads], qkv[:, self.heads : both], qkv[:, both:]

    def _product(
        self, x: Tensor, site: Site, lora: Selection, onto: Tensor | None = None
    ) -> Tensor:
        return lora.linear(x, site, self.weights[site], onto)

    def _norm(self, h: Tensor, weight: Tensor) -> Tensor:
        return self.ops.norm(h, weight, self._epsilon)

    def _rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [N, d]; the first half of the sines is negative (see `_qkv`)."""
        cos, sin = self._angles_to(int(positions.max()) + 1)
        return cos[positions], sin[positions]

    def _turns(self, needed: int) -> tuple[Floats, Floats]:
        """Cosines and sines of all positions, `needed` at least, for a kernel (see `_rope`)."""
        cos, sin = self._angles_to(needed)
        return cos.numpy(), sin.numpy()

    def _angles_to(self, needed: int) -> tuple[Tensor, Tensor]:
        angles = self._angles
        if needed > angles[0].shape[0]:
            count = max(256, 2 * needed)
            like = self._rows
            cos, sin = self._rotary(like, torch.arange(count, device=self.device)[None])
            sin = torch.cat([-sin[..., : self.head_size // 2], sin[..., self.head_size // 2 :]], -1)
            self._angles = angles = (cos[0], sin[0])
        return angles

    def _embed(self, ids: Tensor, tokens: Chosen) -> Tensor:
        """Embeddings [N, E]."""
        return embed(ids, partial(F.embedding, weight=self._rows), len(self._rows), tokens)

    def _joined(self, model: nn.Module, site: Site) -> Tensor:
        """The weights [d_in, d_out] of a site's members side by side; they now share the memory.

        In float32 they lie row by row, which makes products with a few rows faster by a quarter.
        """
        members: list[nn.Linear] = []
        for name in member_names(site):
            module: Any = model.get_submodule(name)
            members.append(module.base if isinstance(module, LoraLinear) else module)
        self.sizes[site] = [member.out_features for member in members]
        tied = members[0].weight is self._embedding.weight
        if len(members) == 1 and self.dtype != torch.float32:
            return members[0].weight.T
        if self.dtype == torch.float32:
            joined = torch.cat([member.weight.T for member in members], dim=1)
        else:
            joined = torch.cat([member.weight for member in members]).T
        for member, part in zip(members, joined.split(self.sizes[site], dim=1), strict=True):
            member.weight = nn.Parameter(part.T, requires_grad=False)
        if tied:
            self._embedding.weight = members[0].weight
        return joined
