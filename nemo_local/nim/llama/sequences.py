"""Sequences of a Llama: their prompts, their steps, and what of their beginnings is kept."""

import torch
from torch import Tensor

from nemo_local.nim.kv_cache import KvCache, capacity
from nemo_local.nim.llama.compiled_step import Span
from nemo_local.nim.llama.fused_lora import FusedAdapters
from nemo_local.nim.llama.layouts import Layouts
from nemo_local.nim.llama.merged_weights import MergedWeights
from nemo_local.nim.llama.network import Llama
from nemo_local.nim.prefixes import Prefix, Prefixes


class LlamaSequences:
    """Sequences of a Llama (see `sequences.Sequences`)."""

    def __init__(self, llama: Llama, layouts: Layouts, merged: MergedWeights) -> None:
        """Several of these may share the arguments, each in a thread of its own."""
        self._llama = llama
        self._adapters = FusedAdapters(layouts, merged)
        self._cache = KvCache(
            llama.layers, llama.kv_heads, llama.head_size, llama.cache_dtype, llama.device
        )
        self._names: list[str | None] = []
        self._prefixes = Prefixes()
        self._changes = -1

    def join(self, prompts: list[list[int]], adapters: list[str | None]) -> Tensor:
        self._forget_old_prefixes()
        rows = self._cache.add([len(prompt) for prompt in prompts])
        self._names = [*self._names, *adapters]
        spans: list[Span] = []
        # Rows of one adapter stand together.
        order = sorted(range(len(prompts)), key=lambda i: adapters[i] or "")
        for i in order:
            start = spans[-1].end if spans else 0
            known = self._reuse(prompts[i], adapters[i], rows[i])
            spans.append(Span(rows[i], start, start + len(prompts[i]) - known, known))
        ids = [
            token
            for i, span in zip(order, spans, strict=True)
            for token in prompts[i][span.known :]
        ]
        names = [adapters[i] for i in order]
        if self._llama.reads_compiled:
            logits = self._llama.read(ids, self._cache, spans, self._adapters, names)
        else:
            logits = self._pass(ids, spans, names)
        for prompt, adapter, row in zip(prompts, adapters, rows, strict=True):
            self._keep_prefix(prompt, adapter, row)
        return logits if len(order) == 1 else logits[torch.tensor(order).argsort()]

    def _pass(self, ids: list[int], spans: list[Span], names: list[str | None]) -> Tensor:
        """Logits [P, V] after the prompts of these adapters."""
        positions = [span.known + at for span in spans for at in range(span.end - span.start)]
        every = [(n, span.start, span.end) for n, span in zip(names, spans, strict=True)]
        ends = [(n, i, i + 1) for i, n in enumerate(names)]
        last = torch.tensor([span.end - 1 for span in spans])

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self._read(layer, q, k, v, spans)

        return self._llama(
            torch.tensor(ids), torch.tensor(positions), attend,
            self._adapters.by_range(every, in_bfloat16=True), (last, self._adapters.by_range(ends)),
        )  # fmt: skip

    def step(self, ids: list[int]) -> Tensor:
        cache = self._cache
        columns = cache.lengths
        cache.reserve(len(ids), max(columns) + 1)
        cache.lengths = [length + 1 for length in columns]
        return self._llama.step(ids, cache, columns, self._adapters, self._names)

    def keep(self, indices: list[int]) -> list[int]:
        order = self._cache.keep(indices)
        self._names = [self._names[i] for i in order]
        return order

    def room_for(self, rows: int, longest: int) -> tuple[int, int]:
        have = self._cache.reserved
        return capacity(max(rows, have[0]), max(longest, have[1]))

    @property
    def kept_bytes(self) -> int:
        return self._prefixes.size

    def forget(self, cache: bool) -> None:
        self._prefixes.clear()
        if cache and not self._names:
            self._cache.release()

    def _reuse(self, prompt: list[int], adapter: str | None, row: int) -> int:
        """Tokens of the prompt whose keys and values are known and now stand in the row."""
        found = self._prefixes.find(prompt, adapter)
        if found is None:
            return 0
        known, prefix = found
        self._cache.kv[:, :, row, :, :known] = prefix.kv[..., :known, :]
        return known

    def _keep_prefix(self, prompt: list[int], adapter: str | None, row: int) -> None:
        size = self._prefixes.worth_keeping(prompt, adapter)
        if size:
            kv = self._cache.kv[:, :, row, :, :size].clone()
            self._prefixes.keep(prompt, adapter, Prefix(prompt[:size], kv))

    def _forget_old_prefixes(self) -> None:
        if self._changes != self._adapters.adapters.changes:
            self._changes = self._adapters.adapters.changes
            self._prefixes.clear()

    def _read(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spans: list[Span]) -> Tensor:
        """Attention of prompts, each to itself; q may hold only each prompt's last token."""
        only_last = q.shape[0] != k.shape[0]
        out = q.new_empty(q.shape)
        keys, values = self._cache.layer(layer)
        for i, (row, start, end, known) in enumerate(spans):
            a, b = (i, i + 1) if only_last else (start, end)
            out[a:b] = self._llama.ops.attend_prompt(
                q[a:b], k[start:end], v[start:end], keys[row], values[row], known
            )
        return out.flatten(1)
