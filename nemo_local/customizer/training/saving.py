"""Writes the output of a training: an adapter, or a whole checkpoint in the Hub's format."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from nemo_local.customizer.layers.token_rows import make_room
from nemo_local.customizer.progress import ProgressWriter, TrainingFailed, read_all
from nemo_local.customizer.special_tokens import END, save_tokenizer
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.batches import stop_ids
from nemo_local.customizer.training.ranks import Ranks


def save_weights(model: Any, folder: Path, ranks: Ranks) -> None:
    """Write what is trained: the adapter alone, or all weights as they are in memory.

    Every process must call it, since each may hold a part; the first one writes.
    """
    with _gathered(model, ranks):
        if not ranks.first:
            if ranks.parallelism == "fsdp" and not isinstance(model, PeftModel):
                model.save_pretrained(folder, is_main_process=False)
            return
        with _whole(folder) as partial:
            if isinstance(model, PeftModel):
                _save_adapter(model, partial, ranks)
            else:
                model.save_pretrained(partial)


def finish(trainer: Any, task: Task, job_dir: Path, progress: ProgressWriter) -> None:
    """Write the output from the best weights to its folder, and report the end.

    Raises:
        TrainingFailed: nothing was validated, and the last step left non-finite weights.
    """
    plan, best, ranks = task.plan, job_dir / "best", trainer.ranks
    if not ranks.from_first(best.is_dir):
        _check_finite(trainer.model, ranks)
        save_weights(trainer.model, best, ranks)
    if not ranks.first:
        return
    unset_hf_deepspeed_config()  # ZeRO-3 would split what is loaded here, too
    with _whole(job_dir / plan.output_folder) as output:
        if plan.makes_adapter:
            shutil.copytree(best, output, dirs_exist_ok=True)
            _name_base(output, task.base_model)
            save_tokenizer(trainer.processing_class, task, output)
        else:
            _save_checkpoint(task, best, output)
            trainer.processing_class.save_pretrained(output)
            _set_generation(task, trainer.processing_class, output)
    progress.write(
        "finished", steps=trainer.state.global_step, best_epoch=read_all(job_dir).best_epoch
    )


def trained_weights(model: Any) -> dict[str, Any]:
    """The trained weights, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _check_finite(model: Any, ranks: Ranks) -> None:
    """Raise TrainingFailed for non-finite weights, which no loss has seen yet."""
    with _gathered(model, ranks):
        whole = all(_is_finite(weight) for weight in trained_weights(model).values())
    if ranks.any(not whole):
        raise TrainingFailed(
            "the last step left non-finite weights (NaN or infinity); "
            "try a lower learning_rate or a longer warm-up"
        )


def _is_finite(weight: Any) -> bool:
    """Whether a weight is finite; of one that FSDP has split, this process's part."""
    part = weight.to_local() if hasattr(weight, "to_local") else weight
    return bool(torch.isfinite(part).all())


def _save_adapter(model: Any, folder: Path, ranks: Ranks) -> None:
    # By itself, PEFT would gather a base that is split from all processes.
    given = trained_weights(model) if ranks.parallelism == "fsdp" else None
    tensors = get_peft_model_state_dict(model, given, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"]
    training, config.inference_mode = config.inference_mode, True
    config.save_pretrained(folder)
    config.inference_mode = training


def _name_base(folder: Path, base_model: str) -> None:
    """Name the base in adapter_config.json by its id, in place of its folder on this machine."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_model
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _save_checkpoint(task: Task, best: Path, folder: Path) -> None:
    """Write the best weights as a checkpoint in the base's precision; an adapter is merged in."""
    base = task.model_path
    merged = task.plan.finetuning_type == "lora_merged"
    # Added in float32, so that rounding happens once.
    model: Any = AutoModelForCausalLM.from_pretrained(
        base if merged else best, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    if merged:
        make_room(model, best)
        model = PeftModel.from_pretrained(model, best).merge_and_unload()
    config: Any = AutoConfig.from_pretrained(base, local_files_only=True)
    if hasattr(config, "attention_dropout"):  # a regularisation of this run only
        model.config.attention_dropout = config.attention_dropout
    model.to(config.dtype or torch.float32).save_pretrained(folder)


def _set_generation(task: Task, tokenizer: Any, folder: Path) -> None:
    """Give the checkpoint its base's generation config, and the target's stop token if it has one.

    The trainer wrote other stop tokens into the model's own configuration.
    """
    base, name = task.model_path, "generation_config.json"
    if (base / name).is_file():
        shutil.copy(base / name, folder)
    if (task.tokenizer or {}).get(END):
        path = folder / name
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        config["eos_token_id"] = stop_ids(base, tokenizer)
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _gathered(model: Any, ranks: Ranks) -> Any:
    """A context in which trained weights are whole, even where ZeRO-3 has split them."""
    if ranks.parallelism != "zero3":
        return nullcontext()
    from deepspeed.runtime.zero import GatheredParameters

    trained = isinstance(model, PeftModel)
    return GatheredParameters([w for w in model.parameters() if w.requires_grad or not trained])


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which replaces `folder` once it is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
