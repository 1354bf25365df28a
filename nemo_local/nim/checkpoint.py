"""A base model in memory: network, tokenizer, grammars, and the adapters beside it."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from nemo_local.catalog import CatalogModel
from nemo_local.core.tool_formats import ToolFormat, format_of_template
from nemo_local.nim.constraints import Grammars
from nemo_local.nim.lora import AdapterSet

logger = logging.getLogger(__name__)

SMALL_MODEL = 400_000_000
"""Up to this many parameters we compute in float32, where a row's numbers barely depend on its
neighbours; larger models compute in bfloat16 and fit into memory."""


@dataclass
class Checkpoint:
    """One loaded base model. Only the engine's thread computes with it."""

    id: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """Tokens of prompt and reply together."""
    stop_ids: frozenset[int]
    """Tokens that end a reply."""
    grammars: Grammars
    adapters: AdapterSet
    tool_format: ToolFormat
    """How this model writes tool calls."""
    dropped_ids: frozenset[int] = frozenset()
    """Control tokens that are no part of a text which may hold calls; empty = all of them."""

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def encode(self, text: str, special: bool) -> list[int]:
        """Token ids of a text; `special` adds what the tokenizer puts around a bare text."""
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, without control tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def decode_calls(self, ids: list[int]) -> str:
        """Text of token ids, with the control tokens that mark tool calls."""
        if not self.dropped_ids:
            return self.decode(ids)
        kept = [i for i in ids if i not in self.dropped_ids]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))

    def decode_token(self, token_id: int) -> tuple[str, list[int]]:
        """One token as text and as the UTF-8 bytes of that text."""
        text = str(self.tokenizer.decode([token_id], skip_special_tokens=False))
        return text, list(text.encode("utf-8"))

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, rows: list[str | None]
    ) -> Tensor:
        """Logits [B, V] after the last of `ids` [B, T], in float32; the cache grows by T.

        B rows, T new tokens, V vocabulary; `mask` is [B, cached + T]; `rows` names each row's
        adapter.
        """
        self.adapters.select(rows)
        output: Any = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


def new_cache() -> DynamicCache:
    """An empty cache whose layers all keep every position, also those with a sliding window."""
    return DynamicCache()


def weight_bytes(entry: CatalogModel) -> int:
    """Bytes that the weights of a catalogue entry take in memory."""
    return entry.num_parameters * _dtype(entry).itemsize


def load_checkpoint(
    entry: CatalogModel, device: str, tool_format: ToolFormat | None = None
) -> Checkpoint:
    """The model of a catalogue entry, ready to compute.

    `device` is auto, cpu or cuda; without a `tool_format` the chat template decides. Weights come
    from safetensors only, and no code of the checkpoint runs.

    Raises:
        OSError, ValueError: the folder is not a checkpoint that transformers can load.
    """
    assert entry.path is not None, "only servable entries are loaded"
    disable_progress_bar()
    place = "cuda" if device == "auto" and torch.cuda.is_available() else device
    place = "cpu" if place == "auto" else place
    tokenizer = AutoTokenizer.from_pretrained(str(entry.path), local_files_only=True)
    # The first call settles the tokenizer's padding; later ones, from many threads, only read it.
    tokenizer("settle")
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(entry.path),
        local_files_only=True,
        use_safetensors=True,
        dtype=_dtype(entry),
    )
    model.to(place).eval().requires_grad_(False)
    stop_ids = _stop_ids(model, tokenizer)
    tool_format = tool_format or format_of_template(str(tokenizer.chat_template or ""))
    logger.info(
        "loaded %s: %s, %d parameters on %s, tool calls as %s",
        entry.id, entry.why, entry.num_parameters, place, tool_format.name,
    )  # fmt: skip
    return Checkpoint(
        id=entry.id,
        model=model,
        tokenizer=tokenizer,
        context=entry.max_model_len,
        stop_ids=frozenset(stop_ids),
        grammars=Grammars(tokenizer, model.config.vocab_size, stop_ids, tool_format.form),
        adapters=AdapterSet(model),
        tool_format=tool_format,
        dropped_ids=_dropped_ids(tokenizer, tool_format),
    )


def _dtype(entry: CatalogModel) -> torch.dtype:
    return torch.float32 if entry.num_parameters <= SMALL_MODEL else torch.bfloat16


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    given = model.generation_config.eos_token_id if model.generation_config else None
    listed = given if isinstance(given, list) else [given]
    ids = {i for i in [*listed, tokenizer.eos_token_id] if isinstance(i, int)}
    return sorted(ids)


def _dropped_ids(tokenizer: PreTrainedTokenizerBase, format_: ToolFormat) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder
    special = {i for i, token in added.items() if token.special}
    kept = {i for i, token in added.items() if token.content in format_.kept}
    return frozenset(special - kept) if special & kept else frozenset()
