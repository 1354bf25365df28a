"""Trains the pocket guard: tokenizer, weights and settings, as one Hugging Face folder.

    python -m nemo_local.pocket.guard_recipe --out nemo_local/pocket/weights/guard

State is saved after every pool of batches; the same command continues an interrupted run.
`--compile` needs a C++ compiler and a minute of compiling, and is faster from then on.
Batch contents depend on the seed and the pool's number only.
"""

import argparse
import json
import logging
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken as Token
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nemo_local.pocket import guard_prompt
from nemo_local.pocket.guard_benign_words import BENIGN_WORDS, COMMON_WORDS, LEARNED_WORDS
from nemo_local.pocket.guard_harm_words import HARM_WORDS
from nemo_local.pocket.guard_text import Example, example, examples
from nemo_local.pocket.recipe import SHORT_ATTENTION

logger = logging.getLogger(__name__)

PAD, EOT = "<|pad|>", "<|eot|>"
SPECIAL = (PAD, EOT, "<|user|>", "<|agent|>", "<|policy|>", "<|verdict|>")
FIELDS = (
    guard_prompt.USER_FIELD,
    guard_prompt.RESPONSE_FIELD,
    guard_prompt.CATEGORIES_FIELD,
    guard_prompt.END_FIELD,
)
RATINGS = ("safe", "unsafe")
TEMPLATE = Path(__file__).parent / "weights" / "guard" / "chat_template.jinja"

# A lower-case word carries the space before it, a capitalised one (a category's) never does, so
# that a word has one spelling in the conversation and one in list and verdict.
WORDS = r"'[a-z]+| ?[a-z]+|[A-Z][a-z]*| ?\d| ?[^\sA-Za-z0-9']+|'|\s"


@dataclass(frozen=True)
class Recipe:
    """Every number of the run."""

    seed: int = 11
    vocabulary: int = 8192
    width: int = 192
    layers: int = 3
    heads: int = 4
    inner: int = 512
    context: int = 4096
    """Positions the model accepts (tokens); training texts reach about 900."""
    pools: int = 40
    """Length of the learning-rate schedule (pools)."""
    stop: int = 40
    """Pools really trained."""
    averaged: int = 3
    """Number of last pools whose weights are averaged, which replaces a slow decay at the end."""
    pool_examples: int = 2560
    batch_tokens: int = 4096
    """Tokens of one step, padding included."""
    matrix_rate: float = 0.01
    other_rate: float = 2e-3
    flat_share: float = 0.4
    """Share of the run at full rate; a cosine to 2 % follows."""
    rating_weight: float = 3.0
    """Weight of the words safe and unsafe in the loss; every other answer token weighs 1."""
    noise_share: float = 0.3
    """Share of conversations in which 6 % of the tokens are replaced by random ones."""
    threads: int = 2


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE over generated conversations, with the guard's chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - len(FIELDS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_text(recipe), trainer)
    tokenizer.add_tokens([Token(field, normalized=False) for field in FIELDS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOT,
        chat_template=TEMPLATE.read_text(),
        clean_up_tokenization_spaces=False,
        model_max_length=recipe.context,
        padding_side="left",
    )


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(recipe: Recipe, out: Path, state_path: Path, compiled: bool = False) -> dict[str, float]:
    """Trains to the end, saving state after every pool, and writes the folder `out`.

    Returns the last pool's mean loss, the steps, the tokens and the seconds.
    """
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    state_path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(recipe, state_path.with_suffix(".tokenizer"))
    model = new_model(recipe, tokenizer)
    model.set_attn_implementation(SHORT_ATTENTION)
    layers: torch.nn.Module = model.model
    if compiled:
        layers = cast(torch.nn.Module, torch.compile(layers, dynamic=True))
    optimizers = _optimizers(model, recipe)
    done: dict[str, float] = {"pool": 0, "steps": 0, "tokens": 0, "seconds": 0, "loss": 0}
    total: dict[str, torch.Tensor] = {}
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        done, total = state["done"], state["total"]
    weight = torch.ones(len(tokenizer))
    for rating in RATINGS:
        (token,) = tokenizer.encode(rating, add_special_tokens=False)
        weight[token] = recipe.rating_weight
    while done["pool"] < recipe.stop:
        started, losses = time.monotonic(), []
        number = int(done["pool"])
        batches = list(pool_batches(recipe, number, tokenizer))
        for index, (tokens, mask, places) in enumerate(batches):
            progress = (number + index / len(batches)) / recipe.pools
            losses.append(
                _step(model, layers, optimizers, tokens, places, weight, progress, recipe)
            )
            done["tokens"] += int(mask.sum())
        done["pool"], done["steps"] = number + 1, done["steps"] + len(batches)
        done["seconds"] += time.monotonic() - started
        done["loss"] = sum(losses) / len(losses)
        if number >= recipe.stop - recipe.averaged:
            for name, value in model.state_dict().items():
                total[name] = total.get(name, torch.zeros_like(value)) + value / recipe.averaged
        state = {"model": model.state_dict(), "done": done, "total": total}
        state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
        torch.save(state, state_path.with_suffix(".partial"))
        os.replace(state_path.with_suffix(".partial"), state_path)
        logger.info("pool %d/%d %s", done["pool"], recipe.stop, json.dumps(done))
    model.load_state_dict(total)
    save(model, tokenizer, out)
    return done


def pool_batches(
    recipe: Recipe, number: int, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches of one pool as (tokens, mask, answer mask), each (rows, length)."""
    rng = random.Random(f"{recipe.seed}/{number}")
    rows = [encode(example(rng), tokenizer, rng, recipe) for _ in range(recipe.pool_examples)]
    rows.sort(key=lambda row: len(row[0]))
    groups: list[list[tuple[list[int], int]]] = [[]]
    for row in rows:
        if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > recipe.batch_tokens:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(tokens) for tokens, _ in group)
        tokens = torch.full((len(group), longest), int(tokenizer.pad_token_id or 0))
        mask = torch.zeros((len(group), longest), dtype=torch.long)
        answer = torch.zeros((len(group), longest), dtype=torch.bool)
        for index, (ids, prompt_length) in enumerate(group):
            tokens[index, : len(ids)] = torch.tensor(ids)
            mask[index, : len(ids)] = 1
            answer[index, prompt_length : len(ids)] = True
        yield tokens, mask, answer


def encode(
    sample: Example, tokenizer: PreTrainedTokenizerFast, rng: random.Random, recipe: Recipe
) -> tuple[list[int], int]:
    """Token ids of prompt and verdict, and the prompt's length in tokens."""
    text = guard_prompt.prompt_text(sample.user, sample.response, sample.categories)
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer.encode(str(rendered), add_special_tokens=False)
    if rng.random() < recipe.noise_share:
        policy = prompt.index(tokenizer.convert_tokens_to_ids("<|policy|>"))
        first = len(SPECIAL) + 256
        for place in range(policy):
            if prompt[place] >= len(SPECIAL) and rng.random() < 0.06:
                prompt[place] = rng.randrange(first, len(tokenizer) - len(FIELDS))
    answer = guard_prompt.verdict_text(sample.verdict) + EOT
    return prompt + tokenizer.encode(answer, add_special_tokens=False), len(prompt)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The folder that any Llama loader reads: bf16 safetensors, tokenizer, template, settings."""
    LlamaForCausalLM.from_pretrained(
        None, config=model.config, state_dict=model.state_dict(), dtype=torch.bfloat16
    ).save_pretrained(out)
    tokenizer.save_pretrained(out)
    GenerationConfig(
        do_sample=False,
        max_new_tokens=64,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(out)


def _step(
    model: LlamaForCausalLM,
    layers: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    tokens: torch.Tensor,
    answer: torch.Tensor,
    weight: torch.Tensor,
    progress: float,
    recipe: Recipe,
) -> float:
    """One optimizer step; returns the weighted loss. Logits are computed at answer tokens only."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # No mask: padding stands on the right, where a causal model never looks back from.
        hidden = layers(input_ids=tokens, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][answer[:, 1:]])
    loss = torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][answer[:, 1:]], weight)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    past = max(0.0, progress - recipe.flat_share) / (1 - recipe.flat_share)
    rate = 0.02 + 0.98 * (1 + math.cos(math.pi * past)) / 2
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    known = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    built: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=recipe.other_rate, weight_decay=0.05, betas=(0.9, 0.98)),
    ]
    for optimizer in built:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return built


def _tokenizer(recipe: Recipe, folder: Path) -> PreTrainedTokenizerFast:
    """The run's tokenizer: trained once, then read back, so that a continued run has the same."""
    if not folder.exists():
        train_tokenizer(recipe).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _tokenizer_text(recipe: Recipe) -> Iterator[str]:
    rng = random.Random(f"{recipe.seed}/tokenizer")
    for phrase in chain(COMMON_WORDS, LEARNED_WORDS, *BENIGN_WORDS.values()):
        yield f" {phrase}" * 4
    for phrase in chain(*HARM_WORDS.values()):  # a word of harm should be one token
        yield f" {phrase}" * 40
    # Often enough that each is one token: ratings of unequal length would be weighed unequally.
    yield from RATINGS * 5000
    for sample in islice(examples(rng), 60_000):
        text = f"{sample.user} {sample.response or ''}".lower()
        yield " " + text.replace("-", " - ").replace("/", " / ")
        yield "\n".join(sample.categories)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--state", type=Path, help="state file (default: OUT.state)")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--compile", action="store_true")
    given: dict[str, Any] = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out, state, compiled = (given.pop(name) for name in ("out", "state", "compile"))
    result = train(Recipe(**given), out, state or out.with_name(f"{out.name}.state"), compiled)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
