"""What a training minimises: the answers' cross entropy, the distance to a teacher, or preference.

N tokens that are learnt, B rows, T tokens of a row, V vocabulary
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from nemo_local.customizer import attention
from nemo_local.customizer.answers_only import ends_at_answers
from nemo_local.customizer.call_accuracy import CallAccuracy
from nemo_local.customizer.hyperparameters import Dpo, Plan
from nemo_local.customizer.rendering import IGNORED
from nemo_local.customizer.reporting import LossWindow, Pace
from nemo_local.customizer.together import Together

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


class Followed(Together):
    """A trainer that draws rows in the order of LengthBuckets, and tells the loss of every step."""

    window: LossWindow
    pace: Pace
    call_accuracy: CallAccuracy | None = None
    """What is asked at each validation besides the loss."""

    def training_step(self, model: Any, inputs: Any, *given: Any, **options: Any) -> Tensor:
        self.pace.count((inputs["input_ids"] != self.processing_class.pad_token_id).sum())
        loss: Tensor = super().training_step(model, inputs, *given, **options)
        self.window.add(loss)
        return loss

    def evaluation_loop(self, *given: Any, **options: Any) -> Any:
        output = super().evaluation_loop(*given, **options)
        if self.call_accuracy is not None:
            output.metrics.update(self.call_accuracy.measure(self.model))
        return output

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        assert not return_outputs, "only losses are asked for"
        return self.loss_of(model, inputs, num_items_in_batch)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints need no card; the output gets its own."""


class AnswerTrainer(Followed, SFTTrainer):
    """SFTTrainer whose output head runs where something is learnt, which halves a CPU step."""

    def loss_of(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        labels = inputs["labels"][:, 1:]
        learnt = labels != IGNORED
        loss = self.loss_sum(answer_logits(model, inputs, learnt), labels[learnt], inputs, learnt)
        if num_items_in_batch is None:
            return loss / learnt.sum()
        # Those of all processes, over which the gradients are averaged.
        return loss * self.ranks.count / num_items_in_batch

    def loss_sum(
        self, logits: Tensor, targets: Tensor, inputs: dict[str, Any], learnt: Tensor
    ) -> Tensor:
        """Summed loss of `logits` [N, V] for `targets` [N]; `learnt` is [B, T - 1]."""
        return functional.cross_entropy(logits, targets, reduction="sum")


class DistillationTrainer(AnswerTrainer):
    """Pulls the distribution of every answer token to the teacher's.

        loss = sum over tokens of KL(teacher || student)

    Source: https://arxiv.org/abs/1503.02531 (temperature 1, no share of the hard targets)
    """

    teacher: Any

    def loss_sum(
        self, logits: Tensor, targets: Tensor, inputs: dict[str, Any], learnt: Tensor
    ) -> Tensor:
        with torch.no_grad():
            wanted = answer_logits(self.teacher, inputs, learnt)
        # Checkpoints pad their vocabularies differently; no token has an id beyond the smaller.
        size = min(logits.shape[-1], wanted.shape[-1])
        return functional.kl_div(
            functional.log_softmax(logits[:, :size], dim=-1),
            functional.log_softmax(wanted[:, :size], dim=-1),
            reduction="sum",
            log_target=True,
        )


class PreferenceTrainer(Followed, DPOTrainer):
    """DPOTrainer on rows that are tokens already, with NeMo's weighted SFT loss beside it.

        loss = preference_loss_weight * dpo + sft_loss_weight * nll(chosen)

    Source: https://arxiv.org/abs/2305.18290
    """

    def __init__(self, dpo: Dpo, **options: Any) -> None:
        self._dpo = dpo
        super().__init__(**options)
        # The reference's log-probabilities are computed by now.
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def loss_of(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        if not self._dpo.sft_loss_weight:
            return DPOTrainer.compute_loss(self, model, inputs)
        seen: list[Tensor] = []
        hook = model.register_forward_hook(lambda _, __, output: seen.append(output.log_probs))
        try:
            loss = DPOTrainer.compute_loss(self, model, inputs)
        finally:
            hook.remove()
        chosen = inputs["input_ids"].shape[0] // 2
        nll = -seen[0][:chosen].sum(1)
        if self._dpo.sft_average_log_probs:
            nll = nll / inputs["completion_mask"][:chosen, 1:].sum(1)
        return loss + self._dpo.sft_loss_weight * nll.mean()


def make_trainer(plan: Plan, arguments: dict[str, Any], **options: Any) -> Any:
    """The trainer of a plan's training type; `arguments` are those of transformers' Trainer."""
    if plan.training_type == "dpo":
        normalised = plan.dpo.preference_average_log_probs
        config = DPOConfig(
            **arguments,
            beta=plan.dpo.ref_policy_kl_penalty,
            loss_type=["sigmoid_norm" if normalised else "sigmoid"],
            loss_weights=[plan.dpo.preference_loss_weight],
            max_grad_norm=plan.dpo.max_grad_norm,
            # Once, before the first step: then no second model stays in memory.
            precompute_ref_log_probs=True,
            disable_dropout=False,
        )
        return PreferenceTrainer(plan.dpo, args=config, **options)
    kind = DistillationTrainer if plan.training_type == "distillation" else AnswerTrainer
    config = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})
    return kind(args=config, **options)


def answer_logits(model: Any, inputs: dict[str, Any], learnt: Tensor) -> Tensor:
    """Logits [N, V] (float32) before each token that is learnt; `learnt` is [B, T - 1].

    The output head runs at these tokens, or else at the columns where some row learns.
    """
    given = {name: inputs[name] for name in MODEL_INPUTS if name in inputs}
    plain = getattr(model, "module", model)
    if attention.takes_no_mask(plain.config._attn_implementation, inputs["input_ids"].device):
        given.pop("attention_mask", None)
    logits: Tensor
    if ends_at_answers(plain):
        answers = functional.pad(learnt, (0, 1))
        logits = model(**given, answers=answers, use_cache=False).logits[0].float()
    else:
        columns = learnt.any(0).nonzero().squeeze(1)
        output: Any = model(**given, logits_to_keep=columns, use_cache=False)
        logits = output.logits[learnt[:, columns]].float()
    return logits
