import json

import pytest

from nemo_local.core.errors import Invalid
from nemo_local.customizer.hyperparameters import make_plan, refuse_unknown, shown
from nemo_local.customizer.modules import linear_modules, resolve_modules
from nemo_local.customizer.plan import Dpo, Plan
from nemo_local.customizer.training.passes import pass_sizes

LEAVES = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LLAMA = [f"model.layers.{n}.self_attn.{leaf}" for n in range(2) for leaf in LEAVES] + [
    f"model.layers.{n}.mlp.{leaf}" for n in range(2) for leaf in MLP
]
TUTORIAL = {
    "training_type": "sft",
    "finetuning_type": "lora",
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.0001,
    "lora": {"adapter_dim": 32, "adapter_dropout": 0.1},
}


def plan(**changed):
    return make_plan({"finetuning_type": "lora", **changed}, LLAMA, 1)


def test_the_tutorials_request_becomes_its_plan():
    made = make_plan(TUTORIAL, LLAMA, 1)
    assert made == Plan(
        target_modules=(*LEAVES, *MLP),
        epochs=2,
        batch_size=16,
        learning_rate=0.0001,
        min_learning_rate=0.0001 * 0.1,
        adapter_dim=32,
        adapter_dropout=0.1,
        alpha=16,
    )
    assert Plan.from_json(made.as_json()) == made


def test_a_job_shows_what_was_given_and_few_defaults():
    body = shown(TUTORIAL, make_plan(TUTORIAL, LLAMA, 1))
    assert body == {
        **TUTORIAL,
        "log_every_n_steps": None,
        "val_check_interval": None,
        "weight_decay": None,
        "sequence_packing_enabled": False,
        "lora": {"adapter_dim": 32, "adapter_dropout": 0.1, "alpha": 16, "target_modules": None},
        "sft": None,
        "distillation": None,
        "p_tuning": None,
    }


def test_defaults_are_the_documented_ones():
    made = plan()
    assert (made.epochs, made.batch_size, made.learning_rate, made.seed) == (50, 8, 1e-4, 42)
    assert (made.weight_decay, made.log_every_n_steps, made.max_steps) == (0.01, 10, None)
    assert (made.adapter_dim, made.alpha, made.adapter_dropout) == (8, 16, 0.0)


def test_a_least_learning_rate_of_zero_is_as_if_none_was_given():
    for given in (0, None):
        assert plan(min_learning_rate=given).min_learning_rate == pytest.approx(1e-5)


def test_a_least_learning_rate_does_not_bound_a_flat_one():
    assert plan(optimizer="adam_with_flat_lr", min_learning_rate=1).learning_rate == 1e-4


def test_preference_training_has_defaults_of_its_own():
    made = plan(training_type="dpo")
    assert (made.epochs, made.batch_size, made.learning_rate) == (1, 16, 9e-6)
    assert made.min_learning_rate == pytest.approx(9e-7)
    assert plan(training_type="dpo", epochs=3, learning_rate=1e-5).epochs == 3
    given = {"ref_policy_kl_penalty": 0.2, "sft_loss_weight": 0.5, "max_grad_norm": None}
    made = plan(training_type="dpo", dpo=given)
    assert made.dpo == Dpo(ref_policy_kl_penalty=0.2, sft_loss_weight=0.5)
    assert Plan.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_dropouts_and_packing_are_part_of_the_plan():
    made = plan(sft={"attention_dropout": 0.1, "hidden_dropout": None})
    assert (made.attention_dropout, made.hidden_dropout) == (0.1, None)
    assert plan(training_type="dpo", sft={"hidden_dropout": 0.1}).hidden_dropout is None
    assert plan(sequence_packing_enabled=True).pack_sequences
    given = {"finetuning_type": "lora", "sequence_packing_enabled": True}
    assert not make_plan(given, LLAMA, 1, can_pack=False).pack_sequences


def test_all_weights_need_no_target_modules():
    made = plan(finetuning_type="all_weights", lora={"adapter_dim": 4})
    assert made.target_modules == () and not made.makes_adapter
    assert "lora" not in shown({"finetuning_type": "all_weights"}, made)


def test_the_recorded_run_has_the_steps_that_it_had():
    made = plan(epochs=2, batch_size=16)
    assert made.total_steps(3500) == 438
    assert made.validation_interval(3500) == 219
    assert made.warmup(438) == 43 and made.warmup(4000) == 200
    assert plan(warmup_steps=300).warmup(438) == 300


@pytest.mark.parametrize(
    ("interval", "max_steps", "steps"),
    [(None, None, 100), (0, None, 100), (0.25, None, 25), (1.0, None, 100), (30, None, 30),
     (500, None, 100), (None, 50, 49), (30, 50, 30), (None, 1, 1)],
)  # fmt: skip
def test_validation_comes_as_often_as_asked_but_once_an_epoch_and_before_the_end(
    interval, max_steps, steps
):
    made = plan(batch_size=8, val_check_interval=interval, max_steps=max_steps)
    assert made.validation_interval(800) == steps


@pytest.mark.parametrize(
    ("given", "modules"),
    [
        (["linear_qkv"], ("q_proj", "k_proj", "v_proj")),
        (["linear_proj", "linear_fc2"], ("o_proj", "down_proj")),
        (["linear_fc1"], ("gate_proj", "up_proj")),
        (["q_proj", "linear_qkv"], ("q_proj", "k_proj", "v_proj")),
        (["*_proj"], (*LEAVES, *MLP)),
        (["linear_fc?"], (*MLP[:2], "down_proj")),
        (["*linear_qkv"], ("q_proj", "k_proj", "v_proj")),
        (
            ["*.layers.0.self_attention.linear_proj", "decoder.layers.1.mlp.linear_fc2"],
            ("model.layers.0.self_attn.o_proj", "model.layers.1.mlp.down_proj"),
        ),
        (["*.layers.1.*.v_proj"], ("model.layers.1.self_attn.v_proj",)),
        (["*.layers.1.*.linear_fc2"], ("model.layers.1.mlp.down_proj",)),
        (
            ["*.layers.0.*.linear_proj", "linear_fc2"],
            ("model.layers.0.self_attn.o_proj", "down_proj"),
        ),
    ],
)
def test_target_modules_have_two_vocabularies_and_wildcards(given, modules):
    assert resolve_modules(given, LLAMA) == modules


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0"),
        ({"adam_beta1": 1}, "adam_beta1 must be at least 0 and below 1"),
        ({"min_learning_rate": 1}, "must be lower than learning_rate"),
        ({"val_check_interval": 0.05}, "val_check_interval must be a fraction"),
        ({"val_check_interval": 2.5}, "val_check_interval must be a fraction"),
        ({"lora": {"adapter_dim": 12}}, "lora.adapter_dim must be a power of 2"),
        ({"lora": {"adapter_dim": 512}}, "lora.adapter_dim must be a power of 2"),
        ({"lora": {"adapter_dropout": 1.5}}, "lora.adapter_dropout must be"),
        ({"lora": {"alpha": 0}}, "lora.alpha must be at least 1"),
        (
            {"lora": {"target_modules": ["qproj"]}},
            "'qproj' is not a linear layer of the base model",
        ),
        ({"lora": {"alpha": 10**400}}, "hyperparameters.lora.alpha must be at most 2147483647"),
        ({"seed": 2**32}, "hyperparameters.seed must be at most 4294967295, not 4294967296"),
        ({"dpo": {"sft_loss_weight": -1}}, "hyperparameters.dpo.sft_loss_weight must be at least"),
        ({"dpo": {"max_grad_norm": 0}}, "hyperparameters.dpo.max_grad_norm must be greater than 0"),
        ({"training_type": "distillation"}, "hyperparameters.distillation.teacher is missing"),
        ({"sft": {"hidden_dropout": 1}}, "sft.hidden_dropout must be at least 0 and below 1"),
    ],
)
def test_a_value_out_of_bounds_is_named(changed, words):
    with pytest.raises(Invalid) as error:
        plan(**changed)
    assert words in str(error.value.detail)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_refused_wherever_it_stands(number):
    names = ("learning_rate", "weight_decay", "val_check_interval", "min_learning_rate")
    for name in (*names, "adam_beta1", "dpo.max_grad_norm", "sft.hidden_dropout"):
        prefix, _, last = name.rpartition(".")
        with pytest.raises(Invalid, match=f"hyperparameters.{name} must be a finite number, not "):
            plan(**({prefix: {last: number}} if prefix else {name: number}))


def test_a_batch_must_hold_whole_micro_batches():
    with pytest.raises(Invalid, match=r"batch_size \(8\) must be a multiple"):
        make_plan({"finetuning_type": "lora"}, LLAMA, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lora": {"adapter_size": 2}}, "Unknown hyperparameter 'lora.adapter_size'. Did you mean"),
        ({"dpo": {"beta": 2}}, "Unknown hyperparameter 'dpo.beta'. Known are: "),
        ({"zzz": 2}, "Unknown hyperparameter 'zzz'. Known are: "),
    ],
)
def test_an_unknown_hyperparameter_is_named_with_its_neighbours(given, words):
    with pytest.raises(Invalid) as error:
        refuse_unknown({"finetuning_type": "lora", **given})
    assert words in str(error.value.detail)


def test_what_a_job_shows_may_be_sent_again():
    refuse_unknown(shown(TUTORIAL, make_plan(TUTORIAL, LLAMA, 1)))


def test_linear_layers_are_read_from_the_checkpoint(tmp_path):
    import numpy
    from safetensors.numpy import save_file

    shapes = {
        "model.embed_tokens.weight": (4, 2),
        "lm_head.weight": (4, 2),
        "model.norm.weight": (2,),
        **{f"{name}.weight": (2, 2) for name in LLAMA},
    }
    save_file(
        {name: numpy.zeros(shape, numpy.float32) for name, shape in shapes.items()},
        tmp_path / "model.safetensors",
    )
    assert sorted(linear_modules(tmp_path)) == sorted(LLAMA)


@pytest.mark.parametrize("name", ["p_tuning", "grpo"])
def test_parameters_of_a_type_we_lack_are_refused_by_name(name):
    with pytest.raises(Invalid, match=f"hyperparameters.{name} is not supported: "):
        refuse_unknown({"finetuning_type": "lora", name: {}})
    refuse_unknown({"finetuning_type": "lora", name: None})


def test_a_batch_with_too_many_noughts_is_no_endless_search():
    plan = make_plan({"finetuning_type": "lora", "batch_size": 10**18}, LLAMA, 1)
    assert pass_sizes(plan, 1000) == (8, 4, 2, 1)
