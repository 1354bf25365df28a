"""Training and inference on a GPU, or on the stand-in for one; test_stand_in_gpu.py runs this."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.llama import modeling_llama

from nemo_local.nim.checkpoint import load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.grammars.constraints import Constraint
from nemo_local.nim.lora import read_adapter
from nemo_local.nim.metrics import Metrics
from tests.nemo_local.customizer.architectures import make_architecture
from tests.nemo_local.customizer.test_gpu_ways import write_data
from tests.nemo_local.customizer.test_robustness import AfterLogs, losses
from tests.nemo_local.customizer.test_special_tokens import chatml_job
from tests.nemo_local.customizer.tiny_llama import make_checkpoint as make_trainable
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job
from tests.nemo_local.nim.conftest import MODEL, Writer
from tests.nemo_local.nim.test_engine import prompts
from tests.stand_in_gpu import install
from tests.tiny_checkpoint import entry, make_adapter, make_checkpoint

pytestmark = OF_THE_LIBRARIES
REAL = torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def gpu():
    if not REAL:
        install(Path(os.environ["STAND_IN_GPU"]))


@pytest.fixture(autouse=True)
def no_kernels_of_the_test_before(monkeypatch):
    """Liger puts its own in the place of a module's, for all that the process trains after."""
    for name in ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP"):
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))


@pytest.fixture(scope="module")
def trainable(tmp_path_factory):
    return make_trainable(tmp_path_factory.mktemp("trainable"))


def test_nothing_mixes_its_tensors_with_those_of_the_cpu():
    weight = torch.randn(4, 4, device="cuda", requires_grad=True)
    x = torch.randn(3, 4, device="cuda")
    (x @ weight).relu().sum().backward()
    given, known = x.cpu(), weight.detach().cpu()
    assert weight.grad is not None and weight.grad.is_cuda
    torch.testing.assert_close(weight.grad.cpu(), given.T @ (given @ known > 0).float())
    with pytest.raises(RuntimeError, match="tensors to be on the same device"):
        torch.randn(3, 4) @ weight


def trained(job, folder, device, stop=None):
    """The run of a job on this device; the first one writes the job's data."""
    if not folder.exists():
        write_data(folder, job.plan.training_type)
    progress = train_job(replace(job, device=device), folder, stop)
    assert progress.prepared["note"].startswith(device)
    return progress


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"finetuning_type": "all_weights"},
        {"lora": {"adapter_dim": 4, "adapter_dropout": 0.2}},
        {"training_type": "dpo"},
        {"training_type": "distillation", "distillation": {"teacher": "a/b@c"}},
    ],
    ids=["lora", "all weights", "dropout", "dpo", "distillation"],
)
def test_a_training_on_a_gpu_has_the_losses_of_one_on_a_cpu(
    trainable, tmp_path, tmp_path_factory, changed
):
    teacher = make_trainable(tmp_path_factory.mktemp("teacher"))
    weights = load_file(teacher / "model.safetensors")
    other = {name: weight + 0.1 * weight.flip(0) for name, weight in weights.items()}
    save_file(other, teacher / "model.safetensors", {"format": "pt"})
    job = make_job(trainable, log_every_n_steps=1, **changed)
    job = replace(job, teacher_path=teacher, teacher="a/b@c")
    expected = trained(job, tmp_path / "cpu", "cpu")
    progress = trained(job, tmp_path / "gpu", "cuda")
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]
    assert losses(expected.val_loss) == [(p["step"], p["value"]) for p in progress.val_loss]
    assert expected.val_loss and progress.finished


@pytest.mark.parametrize("training_type", ["sft", "dpo"])
def test_one_process_trains_though_it_sees_two_gpus(
    trainable, tmp_path, monkeypatch, training_type
):
    job = make_job(trainable, log_every_n_steps=1, training_type=training_type)
    expected = trained(job, tmp_path / "one", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    progress = trained(job, tmp_path / "two", "cuda")
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]


def test_the_attention_of_a_gpu_is_not_that_of_cudnn(trainable, tmp_path, capsys):
    torch.backends.cuda.enable_cudnn_sdp(True)
    trained(make_job(trainable, max_steps=1), tmp_path / "run", "cuda")
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert "cuDNN attention: off (it plans each new shape" in capsys.readouterr().out


def test_rows_that_a_gpu_would_pack_behind_a_mask_are_of_one_length_instead(
    trainable, tmp_path, capsys
):
    job = make_job(trainable, log_every_n_steps=1)
    expected = trained(job, tmp_path / "plain", "cuda")
    job = make_job(trainable, log_every_n_steps=1, sequence_packing_enabled=True)
    progress = trained(job, tmp_path / "packed", "cuda")
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]
    assert "packing: off (asked for, but a mask would cost a GPU" in capsys.readouterr().out


class Waits(TorchDispatchMode):
    """Notes the operators for whose result the CPU would wait."""

    NAMES = (
        "nonzero",
        "_local_scalar_dense",
        "_unique2",
        "equal",
        "is_nonzero",
        "repeat_interleave",
    )

    def __init__(self):
        super().__init__()
        self.noted = []

    def __torch_dispatch__(self, op, types, given=(), options=None):
        results = op(*given, **(options or {}))
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        if any(tensor.is_cuda for tensor in tensors):
            name = op.overloadpacket.__name__
            read = isinstance(results, torch.Tensor) and results.is_cpu
            if name in self.NAMES or read or (name == "copy_" and given[0].is_cpu):
                self.noted.append(name)
        return results


@pytest.mark.parametrize("training_type", ["sft", "dpo"])
def test_no_pass_waits_for_the_gpu(trainable, tmp_path, monkeypatch, training_type):
    from nemo_local.customizer.training.objectives import Followed

    waits, inner, passes = Waits(), Followed.training_step, []

    def training_step(self, *given, **options):
        passes.append(len(waits.noted))
        with waits:
            return inner(self, *given, **options)

    monkeypatch.setattr(Followed, "training_step", training_step)
    job = make_job(trainable, training_type=training_type, max_steps=4)
    trained(job, tmp_path / "run", "cuda")
    assert len(passes) == 4 and waits.noted == []


@pytest.mark.skipif(REAL, reason="on a GPU they can be compiled")
def test_kernels_that_cannot_be_compiled_are_left_out_with_their_reason(
    trainable, tmp_path, monkeypatch, capsys
):
    liger = tmp_path / "liger_kernel/transformers/rms_norm.py"
    liger.parent.mkdir(parents=True)
    liger.write_text(
        "from torch import nn\n"
        "class LigerRMSNorm(nn.RMSNorm):\n"
        "    def forward(self, x):\n"
        "        raise RuntimeError('Failed to find C compiler.')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = make_job(trainable, max_steps=1, lora={"adapter_dim": 4, "adapter_dropout": 0.2})
    progress = trained(job, tmp_path / "run", "cuda")
    assert progress.finished
    reason = "off (a kernel was tried and failed: RuntimeError: Failed to find C compiler.)"
    assert f"Liger kernels: {reason}" in capsys.readouterr().out


def test_a_teacher_rounds_as_who_learns_from_it(tmp_path):
    base = make_architecture("llama 3", tmp_path / "base")
    given = {"training_type": "distillation", "distillation": {"teacher": "a/b@c"}}
    job = make_job(base, log_every_n_steps=1, max_steps=2, **given)
    job = replace(job, teacher_path=base, teacher="a/b@c", precision="bf16-mixed")
    progress = trained(job, tmp_path / "itself", "cuda")
    # An adapter begins with nothing, so the model is its teacher.
    assert abs(progress.train_loss[0]["value"]) < 1e-6


def test_tokens_of_a_target_are_trained_on_a_gpu_as_on_a_cpu(trainable, tmp_path):
    job = chatml_job(trainable, log_every_n_steps=1, finetuning_type="lora_merged")
    expected, progress = (trained(job, tmp_path / name, name) for name in ("cpu", "cuda"))
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]


def test_frozen_weights_in_bf16_learn_in_bf16_and_go_on_after_a_stop(
    trainable, tmp_path, monkeypatch
):
    from nemo_local.customizer.progress import Stopped
    from nemo_local.customizer.training import choices

    monkeypatch.setattr(choices, "FP32_UP_TO_BYTES", 0)
    job = replace(make_job(trainable, log_every_n_steps=1), precision="bf16-mixed")
    expected = trained(job, tmp_path / "whole", "cuda")
    assert "cuda, bf16 (bf16-mixed asked for" in expected.prepared["note"]
    found = [point["value"] for point in expected.train_loss]
    assert found[-1] < found[0] - 0.05
    halves = tmp_path / "halves"
    with pytest.raises(Stopped):
        trained(job, halves, "cuda", AfterLogs(halves, 3))
    progress = trained(job, halves, "cuda")
    assert 0 < progress.prepared["resumed_from"] < 8
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]


def test_fused_layers_stay_in_the_type_of_the_weights(trainable, tmp_path, monkeypatch):
    from nemo_local.customizer.layers.fused_torch import InTorch
    from nemo_local.customizer.training import choices

    inner, found = InTorch.norm, set()

    def noted(self, x, *given):
        y = inner(self, x, *given)
        found.update((x.dtype, y.dtype))
        return y

    monkeypatch.setattr(choices, "FP32_UP_TO_BYTES", 0)
    monkeypatch.setattr(InTorch, "norm", noted)
    job = replace(make_job(trainable, max_steps=1), precision="bf16-mixed")
    assert "fused layers" in trained(job, tmp_path / "run", "cuda").prepared["note"]
    assert found == {torch.bfloat16}


def test_memory_that_runs_out_halves_the_rows_on_a_gpu(trainable, tmp_path, monkeypatch):
    from nemo_local.customizer.training import objectives, trainer
    from nemo_local.customizer.training.gather import gather

    inner = objectives.answer_logits

    def within(model, inputs, places):
        if torch.is_grad_enabled() and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return inner(model, inputs, places)

    monkeypatch.setattr(objectives, "answer_logits", within)
    progress = trained(make_job(trainable, batch_size=8), tmp_path / "rows", "cuda")
    assert "2 x 4 rows a step, halved because memory ran out" in progress.prepared["note"]

    def little(*given, **options):
        return replace(gather(*given, **options), free_bytes=1_000)

    monkeypatch.setattr(trainer, "gather", little)
    progress = trained(make_job(trainable, batch_size=8), tmp_path / "twice", "cuda")
    assert "activation checkpointing" in progress.prepared["note"]


@pytest.fixture
def writers(tmp_path):
    """Who writes with the same model and adapters on a GPU and on a CPU."""
    folder = make_checkpoint(tmp_path / "base")
    made, engines = [], []
    for device in ("cuda", "cpu"):
        checkpoint = load_checkpoint(entry(MODEL, folder), device)
        engines.append(Engine(Metrics(), threads=2))
        engines[-1].start()
        engines[-1].add(checkpoint)
        for seed, name in enumerate("ab"):
            adapter = read_adapter(make_adapter(tmp_path / name, seed))
            engines[-1].add_adapter(MODEL, name, adapter)
        made.append(Writer(checkpoint, engines[-1]))
    assert made[0].checkpoint.device.type == "cuda"
    yield made
    for engine in engines:
        engine.stop()


def test_replies_of_mixed_adapters_on_a_gpu_are_those_on_a_cpu(writers):
    adapters = [None, "a", "b"] * 4
    found, expected = (
        [
            reply.tokens
            for reply in writer.write(
                *(writer.generation(p, a) for p, a in zip(prompts(12), adapters, strict=True))
            )
        ]
        for writer in writers
    )
    assert found == expected
    assert len({tuple(tokens) for tokens in found}) == 12


def test_rules_of_replies_hold_on_a_gpu(writers):
    writer, _ = writers
    asked, rules = prompts(1)[0], {"temperature": 1.0, "seed": 7, "top_p": 0.9, "min_p": 0.01}
    held = writer.generation(asked, ignore_eos=False)
    held.matcher = writer.checkpoint.grammars.matcher(Constraint("choice", ["yes", "no"]))
    others = [writer.generation(p, "a", logprobs=2) for p in prompts(5, seed=3)]
    replies = writer.write(held, writer.generation(asked, **rules), *others)
    assert held.text in ("yes", "no")
    assert all(len(other.logprobs) == len(other.tokens) == 12 for other in others)
    (alone,) = writer.write(writer.generation(asked, **rules))
    assert alone.tokens == replies[1].tokens
