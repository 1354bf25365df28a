"""Adapts transformers' Trainer to trainings on several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import Stopped
from nemo_local.customizer.training.batches import LengthBuckets
from nemo_local.customizer.training.optimization import make_optimizer, make_schedule
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.reporting import SavePace, StopAt
from nemo_local.customizer.training.saving import trained_weights
from nemo_local.customizer.training.shares import OrNothing, Passes, Shares, validation_shares

OPTIMIZER, SCHEDULE = "optimizer", "scheduler.pt"


class Together(Trainer):
    """A trainer whose processes share each batch and each validation that one would have."""

    plan: Plan
    ranks = Ranks()
    order: LengthBuckets
    """Order of the training rows."""
    total_steps: int
    saves: SavePace

    optimizer: Any
    lr_scheduler: Any

    def create_optimizer(self, *_: Any, **__: Any) -> Any:
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.model, self.plan)
            if self.ranks.parallelism == "ddp":  # else the weights are replaced later
                # The model's own would visit all layers for trained weights, after each step.
                self.model.zero_grad = self.optimizer.zero_grad
        return self.optimizer

    def create_scheduler(self, *_: Any, **__: Any) -> Any:
        if self.lr_scheduler is None:
            self.lr_scheduler = make_schedule(self.optimizer, self.plan, self.total_steps)
        return self.lr_scheduler

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip as the Trainer does, but without visiting all layers for trained weights."""
        if self.ranks.parallelism != "ddp":
            return super()._clip_grad_norm(model)
        return torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)

    @property
    def trained(self) -> list[torch.Tensor]:
        """The trained weights, as the optimiser has them: no layers need to be visited."""
        groups = self.optimizer.param_groups if self.optimizer else []
        return [weight for group in groups for weight in group["params"]]

    def get_train_dataloader(self) -> Any:
        if self.ranks.count == 1:
            return super().get_train_dataloader()
        size = self.args.per_device_train_batch_size
        shares = Shares(self.order, self.plan.batch_size, size, self.ranks)
        return Passes(
            self.train_dataset,
            batch_sampler=shares,
            collate_fn=OrNothing(self.data_collator, self.train_dataset[0]),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_eval_dataloader(self, *given: Any) -> Any:
        return self.in_turn(self.eval_dataset)

    def _prepare_input(self, data: Any) -> Any:
        """Move data as the Trainer does, but without waiting for a GPU before copying to it."""
        if isinstance(data, torch.Tensor):
            data = data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def in_turn(self, rows: Any) -> DataLoader[Any]:
        """A data loader of the validation batches of `rows` that this process computes."""
        return DataLoader(
            rows,
            batch_sampler=validation_shares(len(rows), self.args.eval_batch_size, self.ranks),
            collate_fn=OrNothing(self.data_collator, rows[0]),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def evaluation_loop(self, dataloader: Any, *given: Any, **options: Any) -> Any:
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for rows, inputs in zip(dataloader.batch_sampler, dataloader, strict=True):
            self._end_if_told()
            with torch.no_grad(), self.compute_loss_context_manager():
                loss: Any = self.compute_loss(self.model, self._prepare_inputs(inputs))
            if rows:  # else it had nothing to predict
                weight = self.weight_of(rows, inputs)
                sums += torch.stack([weight * loss.double(), torch.full_like(sums[0], weight)])
        total, weights = self.ranks.sum(sums).tolist()
        return EvalLoopOutput(
            predictions=None,
            label_ids=None,
            metrics={"eval_loss": total / max(1.0, weights)},
            num_samples=len(self.eval_dataset),
        )

    def _end_if_told(self) -> None:
        """Raise Stopped, after writing a checkpoint, when a validation is told to stop."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, StopAt) and callback.told():
                # A run that has taken no step since it began has one, with its random state.
                if self.state.global_step > self._initial_global_step:
                    self._save_checkpoint(self.model, None)
                raise Stopped

    def weight_of(self, rows: list[int], inputs: dict[str, Any]) -> int:
        """A validation pass's weight in the mean loss: how many tokens, or pairs, it predicts."""
        return len(inputs["places"])

    def _save_checkpoint(self, *given: Any) -> None:
        with self.saves.writing():
            super()._save_checkpoint(*given)

    def split_again(self) -> None:
        """Split FSDP weights that a forward pass without a backward one has left joined."""
        if self._is_split():
            from torch.distributed.fsdp import FSDPModule

            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    # Of a model that transformers has split (FSDP), the Trainer would keep only the weights. What
    # splits and joins them is imported when needed, so that other trainings start sooner.

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self._is_split() and isinstance(self.model, PeftModel):
            state_dict = trained_weights(self.model)  # else the base would be gathered, too
        super()._save(output_dir, state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._is_split():
            super()._save_optimizer_and_scheduler(output_dir)
            return
        from transformers.distributed.checkpoint import save_optimizer_distributed

        folder = Path(output_dir)
        save_optimizer_distributed(self.model, self.optimizer.optimizer, str(folder / OPTIMIZER))
        if self.ranks.first:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self._is_split():
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        from transformers.distributed.checkpoint import load_optimizer_distributed

        folder = Path(checkpoint)
        load_optimizer_distributed(self.model, self.optimizer.optimizer, str(folder / OPTIMIZER))
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULE, weights_only=True))

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if isinstance(self.model, PeftModel) or not self._is_split():
            super()._load_from_checkpoint(checkpoint, model)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        weights: dict[str, Any] = {}
        for file in sorted(Path(checkpoint).glob("*.safetensors")):
            weights |= load_file(file)
        # Tied weights are stored once.
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, weights, options=options)

    def _is_split(self) -> bool:
        return bool(self.is_distributed_loading_by_transformers)
