"""How many processes a training gets, how they are started, and which rows each of them draws."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from nemo_local.core.errors import Invalid
from nemo_local.customizer import parallelism
from nemo_local.customizer.parallelism import Processes, processes_for
from nemo_local.customizer.training.batches import LengthBuckets
from nemo_local.settings import Settings, SettingsError

OPTION = {"training_type": "sft", "finetuning_type": "lora", "num_gpus": 4, "micro_batch_size": 1}


def settings(**environment):
    return Settings.from_environment(
        {f"NEMO_LOCAL_{name}": value for name, value in environment.items()}
    )


def told(option=OPTION, **environment):
    return parallelism.asked(option, settings(**environment))


def messages(option=OPTION, **environment):
    return [warning["message"] for warning in parallelism.warnings(option, settings(**environment))]


def test_gpus_are_those_that_the_option_asks_for_and_that_are_there():
    assert processes_for(told(), gpus=8, threads=16) == Processes(4, threads=4)
    assert processes_for(told(), gpus=2, threads=16).here == 2
    assert processes_for(told(TRAINING_PROCESSES="3"), gpus=8, threads=16).here == 4


def test_a_cpu_trains_in_one_process_unless_the_setting_says_otherwise():
    assert processes_for(told(), gpus=0, threads=8) == Processes(1, threads=8)
    wanted = told(TRAINING_PROCESSES="3", PARALLELISM="fsdp")
    assert processes_for(wanted, gpus=0, threads=2) == Processes(3, parallelism="fsdp", threads=1)


def test_an_unknown_parallelism_is_refused_by_name():
    with pytest.raises(SettingsError, match="NEMO_LOCAL_PARALLELISM must be one of ddp, fsdp, zer"):
        settings(PARALLELISM="tp").check()


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_without_deepspeed_a_job_for_it_is_refused_with_what_to_do():
    with pytest.raises(Invalid, match="'zero3' .* DeepSpeed is not installed: pip install"):
        told(PARALLELISM="zero3")


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_preference_training_refuses_deepspeed_by_name_where_it_would_be_used(zero, monkeypatch):
    monkeypatch.setattr(parallelism, "find_spec", lambda name: name)  # DeepSpeed is installed
    dpo, alone = OPTION | {"training_type": "dpo"}, {"num_gpus": 1}
    with pytest.raises(Invalid, match=f"'{zero}' .* preference training .dpo. on several proc"):
        told(dpo, PARALLELISM=zero)
    with pytest.raises(Invalid, match="needs ddp or fsdp"):
        told(dpo | alone, PARALLELISM=zero, TRAINING_PROCESSES="2")
    for fine in (
        told(dpo | alone, PARALLELISM=zero),
        told(dpo, PARALLELISM="fsdp"),
        told(PARALLELISM=zero),
    ):
        assert processes_for(fine, gpus=4, threads=4).count == fine.gpus


def test_a_job_says_which_wishes_of_its_option_are_not_met():
    assert messages(OPTION | {"num_gpus": 1}) == []
    assert messages() == ["Training uses up to 4 GPUs, of those that are visible"]
    several = OPTION | {"num_gpus": 1, "num_nodes": 2}
    assert messages(several) == ["Training uses one machine"]
    assert messages(several, TRAINING_ADDRESS="10.0.0.1") == []
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        assert messages(OPTION | {"num_gpus": 1, name: 2}) == [f"{name} is not used"]


def test_every_machine_is_started_with_the_same_command_but_for_its_rank():
    several = told(OPTION | {"num_nodes": 2}, TRAINING_ADDRESS="10.0.0.1:777")
    processes = processes_for(several, gpus=4, threads=8)
    first, second = (processes.command(Path("/jobs/cust-1"), machine) for machine in (0, 1))
    assert " ".join(second).startswith(
        "--multi_gpu --main_process_ip 10.0.0.1 --num_machines 2 --machine_rank 1 "
        "--num_processes 8 --main_process_port 777 --num_cpu_threads_per_process 2 "
    )
    assert second[-3:] == ["-m", "nemo_local.customizer.training.rank", "/jobs/cust-1"]
    assert [b for a, b in zip(first, second, strict=True) if a != b] == ["1"]
    alone = processes_for(told(), gpus=4, threads=8).command(Path("/jobs/cust-1"))
    assert alone[alone.index("--main_process_port") + 1] == "0"  # any that is free


@pytest.mark.parametrize(
    ("rows", "count", "size"),
    [
        *((30, 2, 1), (30, 3, 2), (32, 2, 2), (32, 3, 8)),
        *((33, 2, 8), (33, 3, 1), (5, 3, 2), (5, 2, 8)),
    ],
)
def test_the_shares_of_a_step_are_the_batch_of_one_process(rows, count, size):
    from nemo_local.customizer.training.ranks import Ranks
    from nemo_local.customizer.training.shares import Shares

    lengths = list(range(rows))
    shares = [
        Shares(LengthBuckets(lengths, 8, seed=1), 8, size, Ranks(index, count))
        for index in range(count)
    ]
    for each in shares:
        each.set_epoch(2)
    whole = LengthBuckets(lengths, 8, seed=1)
    whole.set_epoch(2)
    order = list(whole)
    drawn = [list(each) for each in shares]
    assert {len(passes) for passes in drawn} == {len(each) for each in shares}
    assert len({len(each) for each in shares}) == 1
    in_turn = [row for passes in zip(*drawn, strict=True) for part in passes for row in part]
    assert in_turn == order
    assert all(len(part) <= size for passes in drawn for part in passes)


def test_validation_batches_are_handed_out_in_turn_and_nobody_is_left_waiting():
    from nemo_local.customizer.training.ranks import Ranks
    from nemo_local.customizer.training.shares import validation_shares

    assert validation_shares(5, 2, Ranks(0, 2)) == [[0, 1], [4]]
    assert validation_shares(5, 2, Ranks(1, 2)) == [[2, 3], []]
