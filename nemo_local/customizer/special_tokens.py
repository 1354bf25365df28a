"""Special tokens that a target adds to the tokenizer of its checkpoint.

    "tokenizer": {
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "eos_token": "<|im_end|>",
    }

is what a target (`TargetCreateParams.tokenizer`) says when a chat template marks turns with tokens
that the checkpoint lacks, or has but was never trained on. Each is encoded as one token wherever it
occurs, and its rows in the model are trained. `eos_token` ends every answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_local.core.errors import Invalid
from nemo_local.customizer.task import Task
from nemo_local.customizer.texts import UntrainableData

ADDED, END = "additional_special_tokens", "eos_token"
MOST = 1000
"""The most tokens that one target may name."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens that a target names."""

    ids: list[int]
    """Ids of all of them, ascending."""
    new: list[int]
    """Ids of those that the checkpoint's tokenizer lacks, ascending."""


NO_TOKENS = SpecialTokens([], [])


def check_tokenizer(given: Any) -> None:
    """Raise Invalid for an unsupported override of the tokenizer; the message names it."""
    overrides = given or {}
    for key in overrides:
        if key not in (ADDED, END):
            raise Invalid(
                f"tokenizer.{key} is not supported here; {ADDED} and {END} are. "
                "A chat template is the config's chat_prompt_template"
            )
    tokens = overrides.get(ADDED) or []
    if not isinstance(tokens, list) or len(tokens) > MOST:
        raise Invalid(f"tokenizer.{ADDED} must be a list of at most {MOST} texts")
    for token in [*tokens, overrides.get(END, "-")]:
        if not isinstance(token, str) or not token or token != token.strip():
            raise Invalid(
                f"tokenizer: {token!r} cannot be a token; a text that neither begins nor ends "
                "with a space can"
            )
    if len(set(tokens)) != len(tokens):
        raise Invalid(f"tokenizer.{ADDED} names a token twice")


def load_tokenizer(task: Task) -> tuple[Any, SpecialTokens]:
    """The tokenizer that a task trains with, chat template included, and its special tokens.

    Raises:
        UntrainableData: the target's `eos_token` is not one of its tokens.
    """
    from transformers import AddedToken, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(task.model_path, local_files_only=True)
    if task.chat_prompt_template:
        tokenizer.chat_template = task.chat_prompt_template
    overrides = task.tokenizer or {}
    names = overrides.get(ADDED) or []
    known = tokenizer.get_vocab()
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True
    )
    if overrides.get(END):
        if overrides[END] not in tokenizer.get_vocab():
            raise UntrainableData(
                f"the target's tokenizer.{END} {overrides[END]!r} is not a token of its "
                f"checkpoint; name it in tokenizer.{ADDED} too"
            )
        tokenizer.eos_token = overrides[END]
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
    new = sorted(ids[name] for name in names if name not in known)
    return tokenizer, SpecialTokens(sorted(ids.values()), new)


def save_tokenizer(tokenizer: Any, task: Task, folder: Path) -> None:
    """Write beside an adapter what differs from its base: the tokenizer, or only the template."""
    if task.tokenizer:
        tokenizer.save_pretrained(folder)
    elif task.chat_prompt_template:
        template = folder / "chat_template.jinja"
        template.write_bytes(task.chat_prompt_template.encode("utf-8"))
