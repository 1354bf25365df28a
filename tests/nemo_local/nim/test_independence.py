"""The pocket model writes the same calls alone and in any company."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from nemo_local.catalog import DEFAULT_MODEL, POCKET_WEIGHTS, context_length, count_parameters
from nemo_local.nim.chat_template import render_chat
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.generation import Generation
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.lora import read_adapter
from nemo_local.nim.metrics import Metrics
from nemo_local.pocket.world import rows
from tests.nemo_local.nim.conftest import MODEL, Writer
from tests.tiny_checkpoint import entry, llama_sequences
from utils.xlam import parse_row, to_chat_example

PROMPTS = 200
ADAPTERS = (None, "first", "second")


@pytest.fixture(scope="module")
def pocket() -> Checkpoint:
    folder = POCKET_WEIGHTS / "base"
    assert DEFAULT_MODEL and count_parameters(folder) > 4_000_000
    return load_checkpoint(entry(MODEL, folder, context_length(folder)), "cpu")


@pytest.fixture(scope="module")
def crowd(pocket: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    """Sixteen rows at a time on two threads, and two adapters that change what the model says."""
    engine = Engine(Metrics(), max_rows=16, threads=2)
    engine.start()
    engine.add(pocket)
    for seed, name in enumerate(ADAPTERS[1:]):
        folder = make_pocket_adapter(tmp_path_factory.mktemp(name), seed)
        engine.add_adapter(MODEL, name, read_adapter(folder))
    yield Writer(pocket, engine)
    engine.stop()


def make_pocket_adapter(folder: Path, seed: int) -> Path:
    """A random adapter on every linear layer, large enough to change most replies."""
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(POCKET_WEIGHTS / "base")
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    return folder


def requests(pocket: Checkpoint) -> list[tuple[list[int], list[dict[str, Any]]]]:
    """Prompts of one user turn with one to five tools, as token ids, and their tools."""
    examples = [to_chat_example(parse_row(row)) for row in rows(3 * PROMPTS, seed=11)]
    asked = []
    for example in [one for one in examples if one is not None][:PROMPTS]:
        user = [m for m in example["messages"] if m["role"] == "user"]
        text = render_chat(pocket.tokenizer, user, example["tools"])
        asked.append((pocket.encode(text, special=False), example["tools"]))
    return asked


def replies(crowd: Writer, asked: list[tuple[list[int], list[dict[str, Any]]]]) -> list[Generation]:
    """A reply for each prompt: by every adapter in turn, half of them constrained or streamed."""
    made = []
    for i, (prompt, tools) in enumerate(asked):
        reply = crowd.generation(
            prompt, adapter=ADAPTERS[i % 3], max_tokens=48, ignore_eos=False, pieces=i % 2 == 0
        )
        if i % 4 < 2:
            reply.matcher = crowd.checkpoint.grammars.matcher(Constraint("call", tools))
        made.append(reply)
    return made


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_200_prompts_get_the_same_calls_alone_and_in_mixed_batches(crowd: Writer) -> None:
    asked = requests(crowd.checkpoint)
    assert len(asked) == PROMPTS
    together = crowd.write(*replies(crowd, asked))
    alone = [crowd.write(reply)[0] for reply in replies(crowd, asked)]
    read = crowd.checkpoint.tool_format.read
    calls = [read(reply.text, constrained=True).calls for reply in alone]
    # The base was never shown a call, so most of those that a grammar begins are not ended in time.
    assert sum(map(bool, calls)) > PROMPTS // 10
    pairs = enumerate(zip(together, alone, strict=True))
    differing = [i for i, (one, other) in pairs if one.tokens != other.tokens]
    # Sums in another order, and adapters in the weights or beside them, differ in their last bits
    # (2e-6 of logits up to 18, on average): an exact tie may fall either way.
    for i in differing:
        gap = gap_where_they_part(crowd, asked[i][0], together[i], alone[i])
        assert gap < 1e-5, (i, gap, together[i].text, alone[i].text)
    assert len(differing) <= PROMPTS // 100, differing
    assert len({reply.text for reply in alone}) > PROMPTS * 0.8


def gap_where_they_part(
    crowd: Writer, prompt: list[int], one: Generation, other: Generation
) -> float:
    """Distance of the logits of the first two tokens in which two replies differ."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    shared = next(i for i, (a, b) in enumerate(pairs) if a != b)
    sequences = llama_sequences(crowd.checkpoint)
    logits = sequences.join([prompt], [one.adapter])[0]
    for token in one.tokens[:shared]:
        logits = sequences.step([token])[0]
    return abs(float(logits[one.tokens[shared]] - logits[other.tokens[shared]]))
