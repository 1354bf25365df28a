"""What a training process is told of its job."""

from dataclasses import replace
from pathlib import Path

from nemo_local.customizer.parallelism import WantedProcesses
from nemo_local.customizer.plan import Dpo, Plan
from nemo_local.customizer.task import Task
from tests.nemo_local.customizer.training import TASK

PLAN = Plan(target_modules=("q_proj",), training_type="distillation", dpo=Dpo(sft_loss_weight=1.0))


def test_a_task_is_read_as_it_was_written(tmp_path):
    task = replace(
        TASK,
        plan=PLAN,
        tokenizer={"eos_token": "<|end|>"},
        tools=[{"type": "function"}],
        parallel=WantedProcesses(gpus=4, parallelism="zero3"),
        teacher="ns/teacher@v1",
        teacher_path=Path("/models/teacher"),
    )
    task.write(tmp_path)
    assert Task.read(tmp_path) == task
