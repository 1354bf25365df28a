"""Training losses: cross entropy of the answers, divergence from a teacher, or preference (DPO).

N tokens that count in the loss, B rows or pairs, T tokens of a row, V vocabulary

A place is an index into the flattened [B, T] batch: the token that predicts one of the N tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import TrainingArguments
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from nemo_local.customizer.layers.answers_only import ends_at_answers, rows_end_to_end
from nemo_local.customizer.layers.fused_layers import built_once
from nemo_local.customizer.plan import Dpo, Plan
from nemo_local.customizer.training.call_accuracy import CallAccuracy
from nemo_local.customizer.training.model_inputs import model_inputs
from nemo_local.customizer.training.rendering import IGNORED
from nemo_local.customizer.training.reporting import LossWindow, Pace
from nemo_local.customizer.training.row_threads import RowThreads
from nemo_local.customizer.training.together import Together

ANSWERS_OF = 64
"""The number of places is padded to a multiple of it, as products of a new shape are slow."""


class Followed(Together):
    """A trainer that draws rows in the order of LengthBuckets, and records each step's loss."""

    window: LossWindow
    pace: Pace
    call_accuracy: CallAccuracy | None = None
    """Tool-call accuracy to measure at each validation; None = not measured."""

    def _run_epoch(self, **options: Any) -> None:
        """Run an epoch, but none after the end: the Trainer would, when it resumes there."""
        if self.state.global_step < self.total_steps and not self.control.should_training_stop:
            super()._run_epoch(**options)

    def training_step(self, model: Any, inputs: Any, *given: Any, **options: Any) -> Tensor:
        self.pace.count((inputs["input_ids"] != self.processing_class.pad_token_id).sum())
        loss: Tensor = super().training_step(model, inputs, *given, **options)
        self.window.add(loss)
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Always 0: to count them, the Trainer would visit every weight in each pass."""
        return 0

    def log(self, logs: dict[str, float], *given: Any, **options: Any) -> None:
        logs.pop("total_flos", None)
        super().log(logs, *given, **options)

    def evaluation_loop(self, *given: Any, **options: Any) -> Any:
        output = super().evaluation_loop(*given, **options)
        if self.call_accuracy is not None:
            output.metrics.update(self.call_accuracy.measure(self.model))
        return output

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints need no card; the output gets its own."""


class AnswerTrainer(Followed, SFTTrainer):
    """SFTTrainer whose output head runs only where the loss needs it, which halves a CPU step."""

    threads = RowThreads()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Any:
        def loss_of(part: dict[str, Any]) -> Tensor:
            places = part["places"]
            targets = part["labels"].flatten()[places + 1]
            return self.loss_sum(answer_logits(model, part, places), targets, part, places)

        parts = shared_by(inputs, self.threads.parts(*inputs["labels"].shape))
        with built_once(model) if len(parts) > 1 else nullcontext():
            loss = self.threads.sum(loss_of, parts, self.trained)
        if num_items_in_batch is None:
            return loss / max(1, len(inputs["places"]))  # one of several processes may have none
        # The items of all processes, over which the gradients are averaged.
        return loss * self.ranks.count / torch.as_tensor(num_items_in_batch).clamp(min=1)

    def loss_sum(
        self, logits: Tensor, targets: Tensor, inputs: dict[str, Any], places: Tensor
    ) -> Tensor:
        """Summed loss of `logits` [N, V] for `targets` [N] after `places` [N]."""
        return functional.cross_entropy(logits, targets, reduction="sum")


class DistillationTrainer(AnswerTrainer):
    """Pulls the distribution of every answer token towards the teacher's.

        loss = sum over tokens of KL(teacher || student)

    Source: https://arxiv.org/abs/1503.02531 (temperature 1, no hard targets)
    """

    teacher: Any

    def loss_sum(
        self, logits: Tensor, targets: Tensor, inputs: dict[str, Any], places: Tensor
    ) -> Tensor:
        with torch.no_grad(), self.accelerator.autocast():
            wanted = answer_logits(self.teacher, inputs, places)
        # Checkpoints pad their vocabularies differently; no token has an id beyond the smaller.
        size = min(logits.shape[-1], wanted.shape[-1])
        return functional.kl_div(
            functional.log_softmax(logits[:, :size], dim=-1),
            functional.log_softmax(wanted[:, :size], dim=-1),
            reduction="sum",
            log_target=True,
        )


class PreferenceTrainer(Followed):
    """Preference training (DPO), with an SFT term where NeMo's weight for it is set.

        reward = log p(answer) - log p(answer) before the first step
        loss = preference_loss_weight * -log sigmoid(beta * (reward(chosen) - reward(rejected)))
             + sft_loss_weight * -log p(chosen)

    Both terms are means over the pairs of a step in all processes.

    Source: https://arxiv.org/abs/2305.18290
    """

    dpo: Dpo
    train_dataset: Any
    eval_dataset: Any
    loss_is_scaled_for_ga = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rewards: dict[bool, Any] = {True: 0.0, False: 0.0}  # of training, of validation

    def remember_reference(self) -> None:
        """Keep the answers' log-probabilities under the model as it is now: the loss's reference.

        Each process computes a part. No second model then stays in memory.
        """
        self.model.eval()
        self.train_dataset = self._with_reference(self.train_dataset)
        if self.eval_dataset is not None:
            self.eval_dataset = self._with_reference(self.eval_dataset)
        self.split_again()

    def _with_reference(self, pairs: Any) -> Referred:
        found = torch.zeros((len(pairs), 2), device=self.args.device)
        batches: Any = self.in_turn(pairs)
        for numbers, inputs in zip(batches.batch_sampler, batches, strict=True):
            with torch.no_grad(), self.accelerator.autocast():
                log_probs, _ = answer_log_probs(self.model, self._prepare_inputs(inputs))
            if numbers:  # else it had nothing to compute
                found[numbers] = log_probs.T.contiguous()
        return Referred(pairs, self.ranks.sum(found).cpu())

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Pairs of a step, in all processes."""
        count = sum(real_pairs(inputs).sum() for inputs in batch_samples)
        return self.ranks.sum(torch.as_tensor(count, device=device))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Any:
        (chosen, rejected), tokens = answer_log_probs(model, inputs)
        rewards = torch.stack(
            [chosen - inputs["ref_chosen_logps"], rejected - inputs["ref_rejected_logps"]]
        )
        if self.dpo.preference_average_log_probs:
            rewards = rewards / tokens
        rewards = self.dpo.ref_policy_kl_penalty * rewards
        losses = -self.dpo.preference_loss_weight * functional.logsigmoid(rewards[0] - rewards[1])
        if self.dpo.sft_loss_weight:
            nll = -chosen / tokens[0] if self.dpo.sft_average_log_probs else -chosen
            losses = losses + self.dpo.sft_loss_weight * nll
        real = real_pairs(inputs)
        self._note(rewards.detach() * real, real)
        loss = (losses * real).sum()
        if num_items_in_batch is None:
            return loss / real.sum().clamp(min=1)
        # The gradients are averaged over the processes.
        return loss * self.ranks.count / num_items_in_batch

    def weight_of(self, rows: list[int], inputs: dict[str, Any]) -> int:
        return len(rows)

    def _note(self, rewards: Tensor, real: Tensor) -> None:
        """Add the rewards [2, B] of the real pairs to the sums that are logged next."""
        sums = [real.sum(), *rewards.sum(1), (rewards[0] > rewards[1]).sum()]
        seen = torch.stack([value.double() for value in sums])
        self._rewards[self.model.training] = self._rewards[self.model.training] + seen

    def log(self, logs: dict[str, float], *given: Any, **options: Any) -> None:
        for name, training in (("loss", True), ("eval_loss", False)):
            if name in logs:
                pairs, *sums = self.ranks.sum(self._rewards[training]).tolist()
                chosen, rejected, right = (value / pairs for value in sums)
                prefix = name.removesuffix("loss")
                logs |= {
                    f"{prefix}rewards/chosen": chosen,
                    f"{prefix}rewards/rejected": rejected,
                    f"{prefix}rewards/margins": chosen - rejected,
                    f"{prefix}rewards/accuracies": right,
                }
                self._rewards[training] = 0.0
        super().log(logs, *given, **options)


@dataclass(frozen=True)
class Referred:
    """Pairs with the log-probabilities of their answers under the reference."""

    pairs: Any
    log_probs: Tensor
    """[pairs, 2], of the chosen and of the rejected answer."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> dict[str, Any]:
        chosen, rejected = self.log_probs[number].tolist()
        reference = {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        return {**self.pairs[number], **reference}


@dataclass(frozen=True)
class WithPlaces:
    """A collator that adds the `places` [N] to its batches.

    Found only once the batch is on a GPU, they would make each pass wait for the one before.
    """

    collator: Callable[[list[Any]], dict[str, Any]]

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        batch = self.collator(rows)
        learnt = batch["labels"] != IGNORED if "labels" in batch else batch["completion_mask"] > 0
        return {**batch, "places": places_before(learnt)}


def make_trainer(
    plan: Plan, arguments: dict[str, Any], padded_to: int | None = None, **options: Any
) -> Any:
    """The trainer of a plan's training type; `arguments` are those of transformers' Trainer.

    A `data_collator` is for packed rows; others are padded to a multiple of `padded_to` tokens.
    """
    pad_id = options["processing_class"].pad_token_id
    if plan.training_type == "dpo":
        trainer = PreferenceTrainer(
            args=_one_device(
                TrainingArguments(
                    **arguments, max_grad_norm=plan.dpo.max_grad_norm, remove_unused_columns=False
                )
            ),
            data_collator=WithPlaces(
                DataCollatorForPreference(pad_id, pad_to_multiple_of=padded_to)
            ),
            **options,
        )
        trainer.dpo = plan.dpo
        return trainer
    kind = DistillationTrainer if plan.training_type == "distillation" else AnswerTrainer
    config = SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    collator = options.pop("data_collator", None) or DataCollatorForLanguageModeling(
        pad_id, pad_to_multiple_of=padded_to
    )
    return kind(args=_one_device(config), data_collator=WithPlaces(collator), **options)


def _one_device(arguments: TrainingArguments) -> TrainingArguments:
    """The arguments of a process that computes on one device, however many it sees."""
    # transformers would split passes over all of them (DataParallel), which TRL refuses.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def answer_log_probs(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Log-probabilities and token counts of B pairs' chosen and rejected answers, [2, B] each.

    Counts are at least 1.
    """
    ids, learnt, places = inputs["input_ids"], inputs["completion_mask"], inputs["places"]
    logits = answer_logits(model, inputs, places)
    of_tokens = -functional.cross_entropy(logits, ids.flatten()[places + 1], reduction="none")
    of_answers = of_tokens.new_zeros(len(ids)).index_add(0, places // ids.shape[1], of_tokens)
    return of_answers.view(2, -1), learnt[:, 1:].sum(1).clamp(min=1).view(2, -1)


def real_pairs(inputs: dict[str, Any]) -> Tensor:
    """Whether each of B pairs [B] is real, and not what OrNothing computes with."""
    mask: Tensor = inputs["completion_mask"]
    return mask.chunk(2)[0].any(1)


def shared_by(inputs: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The rows of inputs dealt out to `count` parts, each with its own `places`."""
    if count == 1:
        return [inputs]
    parts = [
        {name: value[first::count] for name, value in inputs.items() if name != "places"}
        for first in range(count)
    ]
    return [{**part, "places": places_before(part["labels"] != IGNORED)} for part in parts]


def places_before(learnt: Tensor) -> Tensor:
    """The places [N] that predict the tokens marked in `learnt` [B, T].

    The first token of a row has no place before it, and never counts in the loss.
    """
    before = functional.pad(learnt[:, 1:], (0, 1))
    return before.flatten().nonzero().squeeze(1)


def answer_logits(model: Any, inputs: dict[str, Any], places: Tensor) -> Tensor:
    """Logits [N, V] (float32) at each of the `places` [N], the only ones where the head runs."""
    plain = getattr(model, "module", model)
    given = model_inputs(plain, inputs)
    answers = functional.pad(places, (0, -len(places) % ANSWERS_OF))
    output: Any
    if ends_at_answers(plain):
        output = model(**given, answers=answers, use_cache=False)
    else:
        with rows_end_to_end(plain):
            output = model(**given, logits_to_keep=answers, use_cache=False)
    logits: Tensor = output.logits[0, : len(places)]
    return logits.float()
