"""Pretrains the pocket base model from scratch: `python -m nemo_local.pocket.recipe --out FOLDER`.

Checkpoints every million tokens and continues from the newest one, so it may be stopped at any
time; a larger `--tokens` on a finished run continues it. Learns 40 % of the way at a constant rate,
then decays with a cosine. Prints loss, speed and how often the model names the right tool in prose.
`--compile` needs a C++ compiler and a minute; on two CPU cores it gave 8,000 to 10,000 tokens/s
instead of 7,200.
"""

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import cast

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two threads beside another process: 6x
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from torch.nn import functional
from transformers import (
    AttentionInterface,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from nemo_local.pocket.text import Example, TextMixture, sentence
from nemo_local.pocket.tokenizer import train_tokenizer
from nemo_local.pocket.world import dataset_tool, draw_request

logger = logging.getLogger(__name__)

VOCABULARY, CONTEXT = 4096, 2048
HIDDEN, LAYERS, HEADS, FEED_FORWARD = 256, 5, 8, 704
BATCH_TOKENS, POOL = 6144, 768
MUON_RATE, ADAM_RATE, FINAL_RATE = 0.015, 2e-3, 0.02
CONSTANT_PART, WARMUP_STEPS, PROMPT_SHARE = 0.4, 50, 0.05
LATE_PART = 0.6
"""Share of the run after which the text is nearly all about tools."""
CHECKPOINT_TOKENS = 1_000_000
PROSE_REQUESTS = 64
Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids and a mask of the positions whose next token is learned, both [batch, length]."""


def main() -> None:
    """Trains until `--tokens` are seen, then writes the checkpoint folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for state and weights")
    parser.add_argument("--tokens", type=float, default=40e6, help="tokens to see in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.out, int(options.tokens), options.seed, options.device, options.compile)


def train(out: Path, total_tokens: int, seed: int, device: str, compiled: bool = False) -> None:
    """Runs or continues the pretraining in `out`; `out/model` holds the weights so far."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(out, seed)
    model = new_model(tokenizer).to(device)
    layers: torch.nn.Module = model.model
    if compiled:
        layers = cast(torch.nn.Module, torch.compile(layers, dynamic=True))
    optimizers = _optimizers(model)
    seen, steps = _restore(out, model, optimizers, device)
    rng = Random(f"pretraining {seed} {seen}")
    mixture = TextMixture(rng, words_of(tokenizer))
    batches = _batches(mixture, tokenizer, rng)
    started, since, losses = time.monotonic(), seen, list[float]()
    while seen < total_tokens:
        mixture.late = seen >= LATE_PART * total_tokens
        ids, learned = (tensor.to(device) for tensor in next(batches))
        rate = _rate(seen / total_tokens) * min(1.0, (steps + 1) / WARMUP_STEPS)
        loss = _loss(model, layers, ids, learned)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(optimizers[1].param_groups[0]["params"], 1.0)
        for optimizer, peak in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        before, seen, steps = seen, seen + int((ids != tokenizer.pad_token_id).sum()), steps + 1
        losses.append(loss.item())
        if steps % 50 == 0:
            speed = (seen - since) / (time.monotonic() - started)
            mean = sum(losses) / len(losses)
            logger.info("%.2fM tokens, loss %.4f, %.0f tokens/s", seen / 1e6, mean, speed)
            losses.clear()
        if before // CHECKPOINT_TOKENS != seen // CHECKPOINT_TOKENS or seen >= total_tokens:
            save(model, tokenizer, out / "model")
            _keep(out, model, optimizers, seen, steps)
            logger.info(
                "%.1fM tokens, %s", seen / 1e6, json.dumps(prose_accuracy(model, tokenizer))
            )


def _optimizers(model: LlamaForCausalLM) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return (
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )


def _keep(
    out: Path,
    model: LlamaForCausalLM,
    optimizers: Sequence[torch.optim.Optimizer],
    seen: int,
    steps: int,
) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    state = {"model": model.state_dict(), "optimizers": states, "seen": seen, "steps": steps}
    torch.save(state, out / "state.new")
    (out / "state.new").replace(out / "state.pt")


def _restore(
    out: Path, model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], device: str
) -> tuple[int, int]:
    """Load the saved state, if any; returns its tokens and steps, or zeros."""
    if not (out / "state.pt").exists():
        return 0, 0
    state = torch.load(out / "state.pt", map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    logger.info("continuing at %.1fM tokens", state["seen"] / 1e6)
    return state["seen"], state["steps"]


def short_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention by plain products: on CPU, at 50 to 170 tokens, 2 to 6 times
    as fast as the fused kernel.

    Shapes [batch, heads, length, width]; returns [batch, length, heads, width].
    """
    length = query.shape[2]
    future = torch.full((length, length), -torch.inf, dtype=query.dtype, device=query.device).triu(
        1
    )
    scores = query @ key.transpose(2, 3) * scaling + future
    return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None


SHORT_ATTENTION = "short"
AttentionInterface.register(SHORT_ATTENTION, short_attention)


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of about five million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, initializer_range=0.02,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id, do_sample=False,
    )  # fmt: skip
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes an ordinary checkpoint folder, weights in bfloat16."""
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(weights)
    copy.generation_config = model.generation_config
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    kept = json.loads(settings.read_text(encoding="utf-8"))
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name that every release knows
    for local in ("is_local", "local_files_only"):
        kept.pop(local, None)
    settings.write_text(json.dumps(kept, indent=2), encoding="utf-8")


def words_of(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The vocabulary's entries that are words or parts of words."""
    texts = (tokenizer.decode([index]) for index in range(len(tokenizer)))
    return [text for text in texts if text.isalpha() and text.isascii()]


def encode(
    example: Example, tokenizer: PreTrainedTokenizerFast, rng: Random
) -> tuple[list[int], list[bool]]:
    """Token ids of an example and which of them are learned: the answer, and a part of the rest."""
    tools = example.tools or None
    prompt = tokenizer.apply_chat_template(
        example.messages[:-1], tools=tools, tokenize=False, add_generation_prompt=True
    )
    prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
    answer = example.messages[-1]["content"] + tokenizer.eos_token
    answer_ids = tokenizer(answer, add_special_tokens=False).input_ids
    learned = [rng.random() < PROMPT_SHARE for _ in prompt_ids] + [True] * len(answer_ids)
    return prompt_ids + answer_ids, learned


@torch.no_grad()
def prose_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Shares of requests about unseen tools whose greedy answer is right: in name, and in full."""
    rng = Random("prose accuracy")
    model.set_attn_implementation("sdpa")
    named = exact = 0
    for _ in range(PROSE_REQUESTS):
        tools, calls, query = draw_request(rng, dataset_tool, single=True)
        tool, arguments = calls[0]
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": query}], tools=[t.openai() for t in tools],
            add_generation_prompt=True, return_tensors="pt", return_dict=True,
        ).to(model.device)  # fmt: skip
        output = model.generate(**ids, max_new_tokens=80)[0][ids["input_ids"].shape[1] :]
        answer = tokenizer.decode(output, skip_special_tokens=True)
        named += answer.split(" with ")[0] == f"Use {tool.name}"
        exact += answer == sentence(tool, arguments)
    return {"name": named / PROSE_REQUESTS, "name_and_arguments": exact / PROSE_REQUESTS}


def _tokenizer(out: Path, seed: int) -> PreTrainedTokenizerFast:
    folder = out / "tokenizer"
    if not folder.exists():
        mixture = TextMixture(Random(f"tokenizer {seed}"), ["example"])
        examples = [mixture.draw() for _ in range(12_000)]
        texts = [message["content"] for example in examples for message in example.messages]
        texts += [json.dumps(tool) for example in examples for tool in example.tools]
        train_tokenizer(texts, VOCABULARY, CONTEXT).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _batches(
    mixture: TextMixture, tokenizer: PreTrainedTokenizerFast, rng: Random
) -> Iterator[Batch]:
    """Batches of about BATCH_TOKENS tokens, of examples of like length."""
    pad = tokenizer.pad_token_id
    while True:
        pool = sorted(
            (encode(mixture.draw(), tokenizer, rng) for _ in range(POOL)), key=lambda e: len(e[0])
        )
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for encoded in pool:
            if (len(groups[-1]) + 1) * len(encoded[0]) > BATCH_TOKENS and groups[-1]:
                groups.append([])
            groups[-1].append(encoded)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in group])
            learned = torch.tensor(
                [mask[1:] + [False] * (width - len(mask) + 1) for _, mask in group]
            )
            yield ids, learned


def _loss(
    model: LlamaForCausalLM,
    layers: torch.nn.Module,
    ids: torch.Tensor,
    learned: torch.Tensor,
) -> torch.Tensor:
    """Mean cross entropy; logits are computed only where something is learned.

    `layers` is `model.model`, compiled or not.
    Padding stands on the right of causal attention, so it needs no mask.
    """
    model.set_attn_implementation(SHORT_ATTENTION if ids.device.type == "cpu" else "sdpa")
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        hidden = layers(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned])
    return functional.cross_entropy(logits.float(), ids.roll(-1, dims=1)[learned])


def _rate(progress: float) -> float:
    if progress < CONSTANT_PART:
        return 1.0
    part = min(1.0, (progress - CONSTANT_PART) / (1 - CONSTANT_PART))
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part))


if __name__ == "__main__":
    main()
