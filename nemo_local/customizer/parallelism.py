"""How many processes train a job, and the command that starts them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nemo_local.core.errors import Invalid
from nemo_local.settings import Parallelism, Settings

SETTING = "NEMO_LOCAL_PARALLELISM"
PORT = 29500
"""Port at which the processes of several machines meet, unless the address names another."""

SHARDED = ("fsdp", "zero3")
"""Kinds of parallelism in which each process holds only a part of the weights."""
FLAGS: dict[Parallelism, list[str]] = {
    # PyTorch's launcher, on CPUs too: Accelerate's own for CPUs needs MPI.
    "ddp": ["--multi_gpu"],
    # Likewise; transformers splits the weights when it loads them.
    "fsdp": ["--multi_gpu"],
    "zero2": ["--use_deepspeed", "--zero_stage", "2"],
    "zero3": [
        *("--use_deepspeed", "--zero_stage", "3"),
        *("--zero3_init_flag", "false", "--zero3_save_16bit_model", "true"),
    ],
}


@dataclass(frozen=True)
class Processes:
    """The processes that train one job together."""

    here: int
    """Processes on this machine."""
    machines: int = 1
    parallelism: Parallelism = "ddp"
    address: str | None = None
    """host[:port] at which the other machines reach this one."""
    threads: int = 1
    """CPU threads of each process."""

    @property
    def count(self) -> int:
        return self.here * self.machines

    def command(self, folder: Path, machine: int = 0) -> list[str]:
        """The arguments of `accelerate launch` on machine number `machine`; 0 is this one."""
        host, _, port = (self.address or "").partition(":")
        several = self.machines > 1
        flags = FLAGS[self.parallelism]
        if several:
            flags = [*flags, "--main_process_ip", host]
        if several and "--use_deepspeed" in flags:
            flags = [*flags, "--deepspeed_multinode_launcher", "standard"]
        return [
            *flags,
            *("--num_machines", str(self.machines), "--machine_rank", str(machine)),
            *("--num_processes", str(self.count)),
            *("--main_process_port", port or str(PORT) if several else "0"),
            *("--num_cpu_threads_per_process", str(self.threads)),
            *("--mixed_precision", "no", "--dynamo_backend", "no"),
            *("-m", "nemo_local.customizer.training.rank", str(folder)),
        ]


@dataclass(frozen=True)
class WantedProcesses:
    """The processes that a job asks for, whatever machine will train it."""

    gpus: int = 1
    machines: int = 1
    cpu_processes: int = 1
    """Processes on a machine without GPUs."""
    parallelism: Parallelism = "ddp"
    address: str | None = None
    """host[:port] of this machine, see Processes."""


def asked(option: dict[str, Any], settings: Settings) -> WantedProcesses:
    """The processes that a job with this training option asks for.

    Raises:
        Invalid: the setting names DeepSpeed, which is not installed or cannot train this way.
    """
    parallelism = settings.parallelism
    if parallelism.startswith("zero") and find_spec("deepspeed") is None:
        raise Invalid(
            f"{SETTING} is {parallelism!r} for this platform, but DeepSpeed is not installed: "
            "pip install deepspeed, or use fsdp"
        )
    machines = (option.get("num_nodes") or 1) if settings.training_address else 1
    gpus, cpu_processes = option["num_gpus"], settings.training_processes or 1
    several = max(gpus, machines, cpu_processes) > 1
    if parallelism.startswith("zero") and option["training_type"] == "dpo" and several:
        raise Invalid(
            f"{SETTING} is {parallelism!r} for this platform, and preference training (dpo) on "
            "several processes needs ddp or fsdp: its reference is computed before DeepSpeed takes "
            "the model over"
        )
    return WantedProcesses(gpus, machines, cpu_processes, parallelism, settings.training_address)


def warnings(option: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """Warnings for a job that asks for GPUs, machines or parallelism it may not get here."""
    gpus, machines = option["num_gpus"], option.get("num_nodes") or 1
    said = []
    if gpus > 1:
        said.append(
            (
                f"Training uses up to {gpus} GPUs, of those that are visible",
                "without any it uses as many processes as NEMO_LOCAL_TRAINING_PROCESSES says",
            )
        )
    if machines > 1 and not settings.training_address:
        said.append(
            (
                "Training uses one machine",
                "NEMO_LOCAL_TRAINING_ADDRESS must say where the others find this one",
            )
        )
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if (option.get(name) or 1) > 1:
            said.append((f"{name} is not used", f"{SETTING} splits weights: fsdp or zero3"))
    return [{"message": message, "explanation": why} for message, why in said]


def processes_for(wanted: WantedProcesses, gpus: int, threads: int) -> Processes:
    """The processes that a job gets on a machine with these many usable GPUs and CPU threads."""
    here = max(1, min(wanted.gpus, gpus) if gpus else wanted.cpu_processes)
    return Processes(
        here=here,
        machines=wanted.machines,
        parallelism=wanted.parallelism,
        address=wanted.address,
        threads=max(1, threads // here),
    )
