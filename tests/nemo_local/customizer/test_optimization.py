"""What the optimiser does to which weight, and how its rate moves."""

import pytest
import torch
from torch import nn

from nemo_local.customizer.hyperparameters import make_plan
from nemo_local.customizer.training.optimization import make_optimizer, make_schedule


def plan(**given):
    rates = {"learning_rate": 0.1, "min_learning_rate": 0.01}
    return make_plan({"finetuning_type": "all_weights", **rates, **given}, [], 1)


def rates(made, total_steps):
    """The learning rate of each step, and of the one after the last."""
    optimizer = make_optimizer(nn.Linear(2, 2), made)
    schedule, found = make_schedule(optimizer, made, total_steps), []
    for _ in range(total_steps + 1):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_norms_and_biases_are_not_decayed_and_frozen_weights_are_left_alone():
    model = nn.ModuleDict(
        {"linear": nn.Linear(3, 3), "norm": nn.LayerNorm(3), "base": nn.Bilinear(2, 2, 2)}
    )
    model["base"].requires_grad_(False)
    groups = make_optimizer(model, plan(weight_decay=0.3)).param_groups
    decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert {name: decays.get(id(weight)) for name, weight in model.named_parameters()} == {
        "linear.weight": 0.3,
        "linear.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "base.weight": None,
        "base.bias": None,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam_with_cosine_annealing", torch.optim.Adam),
        ("adam_with_flat_lr", torch.optim.Adam),
        ("adamw_with_cosine_annealing", torch.optim.AdamW),
        ("adamw_with_flat_lr", torch.optim.AdamW),
    ],
)
def test_the_optimizer_is_the_one_that_was_asked_for(name, kind):
    given = {"optimizer": name, "adam_beta1": 0.7, "adam_beta2": 0.8}
    optimizer = make_optimizer(nn.Linear(2, 2), plan(**given))
    assert type(optimizer) is kind
    assert optimizer.defaults["betas"] == (0.7, 0.8) and optimizer.defaults["lr"] == 0.1


def test_a_flat_rate_stays_what_it_is():
    assert rates(plan(optimizer="adamw_with_flat_lr", warmup_steps=3), 8) == [0.1] * 9


def test_a_cosine_rises_over_the_warm_up_and_falls_to_the_minimum():
    found = rates(plan(warmup_steps=2), 6)
    expected = [0.01, 0.055, 0.1, 0.1 - 0.09 * (1 - 0.5**0.5) / 2, 0.055]
    assert found[:5] == pytest.approx(expected) and found[6] == pytest.approx(0.01)
