"""Adapters with tokens and templates of their own, in one batch with others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_local.core.tool_formats import HERMES, LLAMA3_JSON, MISTRAL
from nemo_local.nim.chat_template import render_chat
from nemo_local.nim.checkpoint import Checkpoint, beside
from nemo_local.nim.engine import Engine
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Models
from tests.nemo_local.nim.conftest import Writer
from tests.running_nim import HELLO
from tests.tiny_checkpoint import TEMPLATE, entry, make_adapter

EMBEDDING = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
HEAD = "base_model.model.lm_head.token_adapter.trainable_tokens_delta"


def with_tokens(folder: Path, ids: list[int], **rows: torch.Tensor) -> Path:
    """Give an adapter rows for these tokens, as PEFT stores them."""
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    save_file({**load_file(weights), **rows}, weights)
    changed = {**json.loads(config.read_text()), "trainable_token_indices": ids}
    config.write_text(json.dumps(changed))
    return folder


def with_tokenizer(folder: Path, checkpoint: Checkpoint, count: int, end: str = "") -> Path:
    """Give it the base's tokenizer with so many tokens more; an answer ends with `end`."""
    tokenizer: Any = type(checkpoint.tokenizer).from_pretrained(checkpoint.model.name_or_path)
    tokenizer.add_tokens([f"<|new {i}|>" for i in range(count)], special_tokens=True)
    if end:
        tokenizer.eos_token = end
    tokenizer.save_pretrained(folder)
    return folder


def grown(folder: Path, checkpoint: Checkpoint, count: int) -> Path:
    """An adapter with so many tokens more than its base, which it writes most of the time."""
    free = checkpoint.model.config.vocab_size - len(checkpoint.tokenizer)
    first = len(checkpoint.tokenizer)
    rows = 3 * torch.randn(count, 32, generator=torch.Generator().manual_seed(5))
    make_adapter(folder, 1)
    with_tokens(folder, list(range(first, first + count)), **{EMBEDDING: rows})
    assert count > free
    return with_tokenizer(folder, checkpoint, count)


def test_replies_with_and_without_grown_vocabularies_are_written_together(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path
) -> None:
    folder = grown(tmp_path / "own", checkpoint, 40)
    adapter, plain = read_adapter(folder), read_adapter(make_adapter(tmp_path / "plain", 2))
    own = beside(checkpoint, adapter, folder)
    size = checkpoint.vocabulary.size
    assert own.vocabulary.size // 32 > size // 32  # their grammars have masks of other widths
    base, grown_one = Writer(checkpoint, engine), Writer(own, engine)
    rule = Constraint("regex", "[a-z ]{9,12}")

    def generations(names: tuple[str | None, ...]) -> list:
        made = []
        for name in names:
            writer = grown_one if name == "own" else base
            made += [writer.generation("What time", adapter=name) for _ in range(2)]
            made[-1].matcher = writer.checkpoint.grammars.matcher(rule)
        return made

    engine.add_adapter(checkpoint.id, "plain", plain)
    alone = [one.tokens for one in base.write(*generations((None, "plain")))]
    engine.add_adapter(checkpoint.id, "own", adapter)
    written = base.write(*generations((None, "own", "plain")))
    assert all(one.error is None for one in written)
    assert [one.tokens for one in (*written[:2], *written[4:])] == alone
    assert max(written[2].tokens) >= size  # free, it writes new tokens; held to letters, none
    assert max(written[3].tokens) < size and written[3].text.strip()
    engine.remove_adapter(checkpoint.id, "own")
    assert [one.tokens for one in base.write(*generations((None, "plain")))] == alone


def test_rows_of_new_tokens_without_a_tokenizer_leave_constrained_replies_whole(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path
) -> None:
    size, rows = checkpoint.vocabulary.size, torch.randn(40, 32)
    folder = make_adapter(tmp_path / "own", 1)
    with_tokens(folder, list(range(size, size + 40)), **{EMBEDDING: rows})
    adapter = read_adapter(folder)
    own = Writer(beside(checkpoint, adapter, folder), engine)
    engine.add_adapter(checkpoint.id, "own", adapter)
    held = own.generation("Hello", adapter="own", ignore_eos=False)
    held.matcher = own.checkpoint.grammars.matcher(Constraint("choice", ["yes", "no"]))
    neighbour = Writer(checkpoint, engine).generation("Hello")
    own.write(held, neighbour)
    assert held.error is neighbour.error is None and held.text in ("yes", "no")


def test_a_reply_ends_with_the_end_of_its_own_adapter(
    checkpoint: Checkpoint, engine: Engine, tmp_path: Path
) -> None:
    folder = grown(tmp_path / "own", checkpoint, 40)
    free = Writer(beside(checkpoint, read_adapter(folder), folder), engine)
    engine.add_adapter(checkpoint.id, "own", read_adapter(folder))
    (whole,) = free.write(free.generation("What time", adapter="own", ignore_eos=False))
    assert len(whole.tokens) > 1
    end = free.checkpoint.tokenizer.convert_ids_to_tokens(whole.tokens[0])
    with_tokenizer(folder, checkpoint, 40, end=end)
    ending = Writer(beside(checkpoint, read_adapter(folder), folder), engine)
    (cut,) = ending.write(ending.generation("What time", adapter="own", ignore_eos=False))
    assert cut.tokens == whole.tokens[:1]
    assert (cut.finish_reason, cut.stop_reason) == ("stop", None)


@pytest.mark.parametrize(
    ("ids", "rows", "words"),
    [
        ([3, 3], {EMBEDDING: (2, 32)}, "each once"),
        ([3], {}, "names 1 tokens; rows stored: none"),
        ([3, 4], {EMBEDDING: (1, 32)}, "rows stored: 1 of model.embed_tokens"),
        ([3], {HEAD: (1, 32)}, "only those of the embedding"),
        ([3], {EMBEDDING: (1, 16)}, "base model of another size"),
        ([3, 900], {EMBEDDING: (2, 32)}, "no rows for some tokens from"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_by_name(
    checkpoint: Checkpoint, tmp_path: Path, ids: list[int], rows: dict, words: str
) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    with_tokens(folder, ids, **{key: torch.zeros(size) for key, size in rows.items()})
    with pytest.raises(Unservable, match=words):
        checkpoint.adapters.check(read_adapter(folder))


def test_a_new_token_of_an_untied_model_needs_a_row_of_the_head(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    checkpoint.model.config.tie_word_embeddings = False
    first = checkpoint.vocabulary.size
    rows = {EMBEDDING: torch.zeros(1, 32)}
    folder = with_tokens(make_adapter(tmp_path / "a", 1), [first], **rows)
    with pytest.raises(Unservable, match="no rows of the output head for the new tokens"):
        checkpoint.adapters.check(read_adapter(folder))
    with_tokens(folder, [first], **rows, **{HEAD: torch.zeros(1, 32)})
    checkpoint.adapters.check(read_adapter(folder))


def test_a_tokenizer_that_counts_further_than_the_rows_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = with_tokenizer(make_adapter(tmp_path / "a", 1), checkpoint, 40)
    with pytest.raises(Unservable, match="its tokenizer has ids up to"):
        beside(checkpoint, read_adapter(folder), folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(Unservable, match="its tokenizer cannot be read"):
        beside(checkpoint, read_adapter(folder), folder)


def test_an_adapter_is_asked_with_its_own_template(tiny_folder: Path, tmp_path: Path) -> None:
    engine = Engine(Metrics())
    engine.start()
    models = Models(engine, "cpu", {"ns/set": MISTRAL})
    models.load_base(entry("meta/tiny", tiny_folder))
    template = TEMPLATE.replace("<|start|>", "§\r\n<tool_call>") + "{# end #}\n\n"
    for name, text in (("ns/own", template), ("ns/plain", None), ("ns/set", None)):
        folder = make_adapter(tmp_path / name, 1)
        if text:
            (folder / "chat_template.jinja").write_bytes(text.encode())
        models.load_adapter(name, "meta/tiny", folder, f"hf://{name}")
    leases = {name: models.load(name) for name in models.ids()}
    rendered = {
        name: render_chat(lease.checkpoint.tokenizer, HELLO, []) for name, lease in leases.items()
    }
    assert rendered["ns/plain"] == rendered["ns/set"] == rendered["meta/tiny"]
    # The text as a tokenizer renders it that was given the template as it was sent.
    trained: Any = type(leases["meta/tiny"].checkpoint.tokenizer).from_pretrained(tiny_folder)
    trained.chat_template = template
    assert rendered["ns/own"].encode() == render_chat(trained, HELLO, []).encode()
    assert rendered["ns/own"] != rendered["ns/plain"]
    forms = {name: lease.checkpoint.tool_format for name, lease in leases.items()}
    assert forms == {
        "meta/tiny": LLAMA3_JSON, "ns/own": HERMES, "ns/plain": LLAMA3_JSON, "ns/set": MISTRAL
    }  # fmt: skip
    assert {lease.checkpoint.model for lease in leases.values()} == {
        leases["meta/tiny"].checkpoint.model
    }
    engine.stop()
