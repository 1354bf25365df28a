"""Adapters beside a base model, held to PEFT's numbers."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.lora import AdapterSet, Unservable, read_adapter
from tests.tiny_checkpoint import entry, make_adapter, store_network

IDS = torch.tensor([[7, 8, 9, 10, 11], [20, 21, 22, 23, 24], [7, 8, 9, 10, 11]])


def logits(checkpoint: Checkpoint, rows: list[str | None]) -> torch.Tensor:
    ids = IDS[: len(rows)]
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    with torch.inference_mode():
        return checkpoint.forward(ids, torch.ones_like(ids), positions, DynamicCache(), rows)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# PEFT asks transformers for a name that is about to go.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"use_rslora": True}, id="rank-stabilised"),
        pytest.param({"alpha_pattern": {"q_proj": 3}}, id="alpha by layer"),
        pytest.param({"init_lora_weights": "orthogonal"}, id="orthogonal beginning"),
        pytest.param({"init_lora_weights": "eva", "eva_config": {"rho": 2}}, id="beginning by EVA"),
        pytest.param({"init_lora_weights": "mica"}, id="beginning by MiCA"),
    ],
)
def test_logits_equal_those_of_peft(
    checkpoint: Checkpoint, tiny_folder: Path, tmp_path: Path, changes: dict
) -> None:
    folder = make_adapter(tmp_path / "a", seed=1)
    change_config(folder, **changes)
    checkpoint.adapters.add("a", read_adapter(folder))
    reference = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_folder), str(folder)
    )
    with torch.inference_mode():
        expected = reference(input_ids=IDS).logits[:, -1]
    torch.testing.assert_close(logits(checkpoint, ["a"] * 3), expected)


# PEFT stores the head, too, and warns that it does.
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_of_an_output_head_is_served_beside_the_head_it_was_trained_on(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=360, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    base = LlamaForCausalLM(config).eval()
    checkpoint = load_checkpoint(entry("meta/own", store_network(tmp_path / "own", base)), "cpu")
    rules = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    adapted = get_peft_model(base, rules)
    adapted.save_pretrained(str(tmp_path / "a"))
    weights = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(weights)
    adapter = read_adapter(tmp_path / "a")
    checkpoint.adapters.check(adapter)
    checkpoint.adapters.add("a", adapter)
    expected = adapted(input_ids=IDS).logits[:, -1].detach()
    torch.testing.assert_close(logits(checkpoint, ["a"] * 3), expected)
    tensors["base_model.model.lm_head.base_layer.weight"][5, 5] += 1
    save_file(tensors, weights)
    with pytest.raises(Unservable, match="trained beside other weights of lm_head"):
        checkpoint.adapters.check(read_adapter(tmp_path / "a"))


def test_the_scale_of_an_adapter_in_bfloat16_is_not_rounded(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    change_config(folder, r=3, lora_alpha=4)
    weights = folder / "adapter_model.safetensors"
    tensors = {key: tensor.bfloat16() for key, tensor in load_file(weights).items()}
    save_file(tensors, weights)
    for module, (_, b) in read_adapter(folder).pairs.items():
        exact = tensors[f"base_model.model.{module}.lora_B.weight"].double() * 4 / 3
        torch.testing.assert_close(b.double(), exact, rtol=1e-6, atol=0)


def test_rows_of_one_batch_use_their_own_adapters(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = logits(checkpoint, [None] * 3)
    for name, seed in (("a", 1), ("b", 2)):
        checkpoint.adapters.add(name, read_adapter(make_adapter(tmp_path / name, seed)))
    only_a, only_b = logits(checkpoint, ["a"] * 3), logits(checkpoint, ["b"] * 3)
    mixed = logits(checkpoint, ["a", None, "b"])
    expected = torch.stack([only_a[0], base[1], only_b[2]])
    torch.testing.assert_close(mixed, expected)
    assert not torch.allclose(only_a, only_b) and not torch.allclose(only_a, base)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_changes_its_own_rows_only_where_layers_get_all_tokens_in_a_row(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=360, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, init_std=0.3,
    )  # fmt: skip
    base = OPTForCausalLM(config).eval()
    checkpoint = load_checkpoint(entry("meta/opt", store_network(tmp_path / "opt", base)), "cpu")
    expected: dict[str | None, torch.Tensor] = {None: base(input_ids=IDS).logits[:, -1].detach()}
    for name in "ab":
        rules = LoraConfig(r=4, target_modules=["q_proj", "fc1", "fc2"], init_lora_weights=False)
        adapted = get_peft_model(copy.deepcopy(base), rules)
        adapted.save_pretrained(str(tmp_path / name))
        expected[name] = adapted(input_ids=IDS).logits[:, -1].detach()
        adapter = read_adapter(tmp_path / name)
        checkpoint.adapters.check(adapter)
        checkpoint.adapters.add(name, adapter)
    asked: list[list[str | None]] = [["a", None, None], [None, "a", None], ["b", None, "a"]]
    for rows in asked:
        alone = torch.stack([expected[name][row] for row, name in enumerate(rows)])
        torch.testing.assert_close(logits(checkpoint, rows), alone, rtol=1e-3, atol=1e-4)


def mixed_set(checkpoint: Checkpoint, folder: Path) -> list[str | None]:
    """Adapters of several ranks and layers in the checkpoint; rows that use them, and the base."""
    for seed, (name, rank) in enumerate((("a", 4), ("b", 2), ("c", 6))):
        adapter = read_adapter(make_adapter(folder / name, seed, rank))
        if name == "b":
            few = {module: pair for module, pair in adapter.pairs.items() if "v_proj" not in module}
            adapter = replace(adapter, pairs=few)
        checkpoint.adapters.add(name, adapter)
    return ["b", None, "a", "c", "b", "b", "a"]


@pytest.mark.parametrize("stacked", [2**31, 0], ids=["stacked", "one after the other"])
def test_rows_of_a_mixture_have_the_numbers_of_rows_alone(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked: int
) -> None:
    monkeypatch.setattr("nemo_local.nim.lora.STACKED_BYTES", stacked)
    rows = mixed_set(checkpoint, tmp_path)
    ids = torch.arange(3, 3 + 5 * len(rows)).view(len(rows), 5)

    def replies(chosen: list[int]) -> torch.Tensor:
        names, cache, found = [rows[i] for i in chosen], DynamicCache(), []
        with torch.inference_mode():
            for first, last in ((0, 4), (4, 5)):  # a prompt, and a step
                part = ids[chosen, first:last]
                positions = torch.arange(first, last).expand_as(part)
                mask = torch.ones(len(chosen), last, dtype=torch.long)
                found.append(checkpoint.forward(part, mask, positions, cache, names))
        return torch.stack(found)

    expected = torch.cat([replies([i]) for i in range(len(rows))], dim=1)
    torch.testing.assert_close(replies(list(range(len(rows)))), expected, rtol=1e-4, atol=1e-4)
    # Fewer of those that are stacked already, in another order.
    torch.testing.assert_close(replies([3, 1, 0]), expected[:, [3, 1, 0]], rtol=1e-4, atol=1e-4)
    checkpoint.adapters.remove("c")
    checkpoint.adapters.add("c", read_adapter(make_adapter(tmp_path / "new", seed=9, rank=3)))
    expected = torch.cat([replies([i]) for i in range(len(rows))], dim=1)
    torch.testing.assert_close(replies(list(range(len(rows)))), expected, rtol=1e-4, atol=1e-4)


def test_adapters_are_stacked_beside_those_before_while_there_is_room(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_set(checkpoint, tmp_path)
    adapters, found = checkpoint.adapters, []
    monkeypatch.setattr("nemo_local.nim.lora.STACKED_BYTES", 20_000)
    asked: list[list[str | None]] = [["a", "b"], ["b", "a"], ["c", "b", None], ["a", "b", "c"]]
    for rows in asked:
        adapters.select(rows)
        found.append((adapters.stacked, adapters.mixture is not None))
    assert found[:2] == [(("a", "b"), True)] * 2
    assert found[2:] == [(("c", "b"), True), (("c", "b"), False)]
    monkeypatch.setattr("nemo_local.nim.lora.STACKED_BYTES", 2**31)
    adapters.select(["a", "b"])
    assert adapters.stacked == ("c", "b", "a")


class Counted(TorchDispatchMode):
    """Counts the products and sums."""

    count = 0

    def __torch_dispatch__(self, op: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        self.count += op.overloadpacket.__name__ in ("mm", "bmm", "index", "index_add", "add")
        return op(*given, **(options or {}))


def test_a_step_of_many_adapters_takes_as_many_products_as_one_of_two(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    names: list[str | None] = [f"a{i}" for i in range(6)]
    for seed, name in enumerate(names):
        checkpoint.adapters.add(str(name), read_adapter(make_adapter(tmp_path / str(name), seed)))
    counts = []
    for several in (names[:2], names):
        rows = [several[i % len(several)] for i in range(6)]
        ids = torch.arange(3, 9)[:, None]
        for _ in range(2):  # in the first pass matrices are stacked
            with torch.inference_mode(), Counted() as counted:
                checkpoint.forward(ids, torch.ones_like(ids), 0 * ids, DynamicCache(), rows)
        counts.append(counted.count)
    assert counts[0] == counts[1]


def test_removing_the_last_adapter_restores_the_model(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    layers = [type(module) for module in checkpoint.model.modules()]
    checkpoint.adapters.add("a", read_adapter(make_adapter(tmp_path / "a", 1)))
    assert "a" in checkpoint.adapters
    checkpoint.adapters.remove("a")
    assert "a" not in checkpoint.adapters
    assert [type(module) for module in checkpoint.model.modules()] == layers


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"use_dora": True}, "use_dora", id="DoRA"),
        pytest.param({"bias": "all"}, "bias", id="bias"),
        pytest.param({"modules_to_save": ["lm_head"]}, "modules_to_save", id="saved modules"),
        pytest.param({"fan_in_fan_out": True}, "fan_in_fan_out", id="transposed weights"),
        pytest.param({"lora_bias": True}, "lora_bias", id="bias of its own"),
        pytest.param({"layer_replication": [[0, 2]]}, "layer_replication", id="repeated layers"),
        pytest.param({"trainable_token_indices": [3]}, "trainable_token", id="tokens"),
        pytest.param({"peft_type": "LOHA"}, "peft_type", id="another method"),
        pytest.param({"alora_invocation_tokens": [7]}, "alora_invocation_tokens", id="aLoRA"),
        pytest.param({"init_lora_weights": "pissa"}, "'pissa' .*PEFT converts", id="PiSSA"),
        pytest.param({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4", id="fast PiSSA"),
        pytest.param({"init_lora_weights": "olora"}, "olora", id="OLoRA"),
        pytest.param({"use_next_year": True}, "use_next_year=True", id="what is to come"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(
    tmp_path: Path, changes: dict, reason: str
) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    change_config(folder, **changes)
    with pytest.raises(Unservable, match=reason):
        read_adapter(folder)


def test_notes_in_the_configuration_of_an_adapter_are_none_of_its_options(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    notes = {"library_name": "peft", "runtime_config": {"ephemeral_gpu_offload": False}, "x": ""}
    change_config(folder, **notes, torch_dtype="bfloat16", transformers_version="5.23.0")
    assert read_adapter(folder).pairs


def test_broken_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(Unservable, match="cannot be read"):
        read_adapter(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(Unservable, match="safetensors"):
        read_adapter(folder)
    save_file({"embedding": torch.zeros(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(Unservable, match="'embedding'"):
        read_adapter(folder)


def test_an_adapter_for_another_model_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    adapter = read_adapter(make_adapter(tmp_path / "a", 1))
    other = AdapterSet(torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)}))
    with pytest.raises(Unservable, match="no linear layer"):
        other.check(adapter)
    name = next(iter(adapter.pairs))
    adapter.pairs[name] = (torch.zeros(4, 999), torch.zeros(999, 4))
    with pytest.raises(Unservable, match="another size"):
        checkpoint.adapters.check(adapter)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 0}, "ZeroDivisionError"),
        ({"r": "x"}, "ValueError"),
        ({"lora_alpha": None}, "ValueError"),
        ([], "not a JSON object"),
    ],
)
def test_an_adapter_with_a_broken_configuration_is_unservable(
    tmp_path: Path, config: Any, words: str
) -> None:
    path = make_adapter(tmp_path, 1) / "adapter_config.json"
    whole = json.loads(path.read_text()) | config if config else config
    path.write_text(json.dumps(whole))
    with pytest.raises(Unservable, match=words):
        read_adapter(tmp_path)


def test_an_adapter_with_numbers_that_are_none_is_unservable(tmp_path: Path) -> None:
    weights = make_adapter(tmp_path, 1) / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = next(iter(tensors))
    tensors[key][0, 0] = float("inf")
    save_file(tensors, weights)
    with pytest.raises(Unservable, match="not finite"):
        read_adapter(tmp_path)
    tensors[key] = tensors[key][:2].zero_()
    save_file(tensors, weights)
    with pytest.raises(Unservable, match="do not fit each other"):
        read_adapter(tmp_path)
