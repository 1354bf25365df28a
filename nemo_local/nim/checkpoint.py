"""A base model in memory: network, tokenizer, grammars, and the adapters beside it."""

import copy
import gc
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from nemo_local.catalog import CatalogModel
from nemo_local.core.longrope import choose_row_by_row
from nemo_local.core.tool_formats import ToolFormat, format_of_template
from nemo_local.nim.generation import Vocabulary
from nemo_local.nim.grammars.constraints import Grammars
from nemo_local.nim.lora import Adapter, AdapterSet, Unservable

logger = logging.getLogger(__name__)

SMALL_MODEL = 400_000_000
"""Up to this many parameters we compute in float32, where a row's numbers barely depend on its
neighbours; larger models compute in bfloat16 and fit into memory."""


@dataclass
class Checkpoint:
    """One loaded base model, as it reads and writes by itself or beside an adapter.

    Only the engine's workers compute with it.
    """

    id: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """Tokens of prompt and reply together."""
    vocabulary: Vocabulary
    """What prompts and replies are written with."""
    grammars: Grammars
    adapters: AdapterSet
    tool_format: ToolFormat
    """How this model writes tool calls."""
    longest_token: int
    """Characters of the longest token."""
    dropped_ids: frozenset[int]
    """Control tokens that are no part of a text which may hold calls; empty = all of them."""
    reread_at: int | None = None
    """Tokens after which the keys of a reply are of no use (see `longrope`); None = never."""

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        config: Any = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        numbers = 2 * int(config.num_hidden_layers) * int(heads) * int(size)
        return numbers * int(self.model.dtype.itemsize)

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
        """One token as text, and its bytes in UTF-8: the text of a part of a character is lost."""
        encoded = self.grammars.token_bytes[token_id]
        return encoded.decode(errors="replace"), list(encoded)

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, rows: list[str | None]
    ) -> Tensor:
        """Logits [B, V] after the last of `ids` [B, T], in float32; the cache grows by T.

        B rows, T new tokens, V vocabulary, which grows by the new tokens of the adapters in use;
        `mask` is [B, cached + T]; `rows` names each row's adapter.
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
        size = self.vocabulary.size
        if logits.shape[-1] > size:
            # Only after whatever the model does to the head's output, such as Gemma's soft cap.
            for row, name in enumerate(rows):
                own = self.adapters.tokens.get(name or "")
                logits[row, max(size, own.end if own else 0) :] = float("-inf")
        return logits


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
        Unservable: the folder is not a checkpoint that transformers can load, or nothing ends a
            reply.
    """
    assert entry.path is not None, "only servable entries are loaded"
    disable_progress_bar()
    place = "cuda" if device == "auto" and torch.cuda.is_available() else device
    place = "cpu" if place == "auto" else place
    try:
        tokenizer = _tokenizer_in(entry.path)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(entry.path),
            local_files_only=True,
            use_safetensors=True,
            dtype=_dtype(entry),
        )
    except Exception as error:  # a broken file lets libraries raise what they like
        raise Unservable(str(error) or repr(error)) from error
    if place != "cpu":
        # cuDNN would plan its kernels anew for every length of a reply, at every token.
        torch.backends.cuda.enable_cudnn_sdp(False)
    model.to(place).eval().requires_grad_(False)
    checkpoint = Checkpoint(
        id=entry.id,
        model=model,
        context=entry.max_model_len,
        adapters=AdapterSet(model),
        reread_at=choose_row_by_row(model),
        **_written_with(tokenizer, model, model.config.get_text_config().vocab_size, tool_format),
    )
    logger.info(
        "loaded %s: %s, %d parameters on %s, tool calls as %s",
        entry.id, entry.why, entry.num_parameters, place, checkpoint.tool_format.name,
    )  # fmt: skip
    return checkpoint


def give_back_memory() -> None:
    """Let other processes, trainings for one, have the GPU memory of models that are gone."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def beside(
    base: Checkpoint, adapter: Adapter, folder: Path, tool_format: ToolFormat | None = None
) -> Checkpoint:
    """The checkpoint as the users of an adapter see it.

    It reads and writes with the tokenizer that is stored with the adapter, or with the base's and
    the chat template stored there; without a `tool_format` that template decides, or the base's
    format where none is stored.

    Raises:
        Unservable: the tokenizer cannot be read, or has tokens that nobody has rows for.
    """
    size = max([base.vocabulary.size, *(token + 1 for token in adapter.token_ids)])
    tokenizer = _stored_tokenizer(base.tokenizer, folder)
    if tokenizer is base.tokenizer:
        tool_format = tool_format or base.tool_format
        if (size, tool_format) == (base.vocabulary.size, base.tool_format):
            return base
    last = max(tokenizer.get_vocab().values())
    if last >= size:
        raise Unservable(
            f"its tokenizer has ids up to {last}, but the model has embeddings for {size} tokens"
        )
    return replace(base, **_written_with(tokenizer, base.model, size, tool_format))


def _written_with(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    size: int,
    tool_format: ToolFormat | None,
) -> dict[str, Any]:
    """The fields of a Checkpoint that follow from its tokenizer; token ids are below `size`."""
    stop_ids = _stop_ids(model, tokenizer, size)
    tool_format = tool_format or format_of_template(str(tokenizer.chat_template or ""))
    return {
        "tokenizer": tokenizer,
        "vocabulary": Vocabulary(size, frozenset(stop_ids), tokenizer.eos_token_id),
        "grammars": Grammars(tokenizer, size, stop_ids, tool_format.form),
        "tool_format": tool_format,
        "longest_token": max(map(len, tokenizer.get_vocab())),
        "dropped_ids": _dropped_ids(tokenizer, tool_format),
    }


def _tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    # "Hello ." would become "Hello.", but only where it is decoded whole, not in a stream.
    tokenizer.clean_up_tokenization_spaces = False
    # The first call settles the tokenizer's padding; later ones, from many threads, only read it.
    tokenizer("settle")
    return tokenizer


def _stored_tokenizer(base: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an adapter's folder, or the base's with the template of that folder; the
    base's own, the same object, when there is neither."""
    template = folder / "chat_template.jinja"
    try:
        if (folder / "tokenizer.json").is_file():
            return _tokenizer_in(folder)
        if template.is_file():
            tokenizer = copy.copy(base)
            tokenizer.chat_template = template.read_text(encoding="utf-8")
            return tokenizer
    except Exception as error:  # tokenizers raises plain Exceptions
        raise Unservable(f"its tokenizer cannot be read: {error}") from error
    return base


def _dtype(entry: CatalogModel) -> torch.dtype:
    return torch.float32 if entry.num_parameters <= SMALL_MODEL else torch.bfloat16


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, size: int) -> list[int]:
    """The tokens that end a reply; ids that the model cannot write, `size` or more, are no help."""
    given = model.generation_config.eos_token_id if model.generation_config else None
    listed = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    ids = {i for i in listed if isinstance(i, int) and 0 <= i < size}
    if not ids:
        raise Unservable(
            f"no token ends its replies: generation_config.json (eos_token_id) and the tokenizer "
            f"(eos_token) name {listed}, and the model's ids are from 0 to {size - 1}; name one of "
            "those"
        )
    return sorted(ids)


def _dropped_ids(tokenizer: PreTrainedTokenizerBase, format_: ToolFormat) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder
    special = {i for i, token in added.items() if token.special}
    kept = {i for i, token in added.items() if token.content in format_.kept}
    return frozenset(special - kept) if special & kept else frozenset()
