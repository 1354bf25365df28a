"""Training processes: each job gets one of its own, which may have been waiting for it.

To import torch and the libraries around it takes seconds of a processor. One process, the spare,
does so before there is a job and then waits for the line that names it (see train.py). A job that
finds no spare starts a process with its line at hand.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from nemo_local.customizer.integrations import KEY, TRACKING_URI
from nemo_local.customizer.temporary import TemporaryFolder

logger = logging.getLogger(__name__)

CHILD_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "true",  # nothing forks here
    # Threads that spin for long starve every other process on a small machine; a short spin saves
    # an eighth of a step.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "30000",
    # glibc gives every large tensor back to the kernel and asks for it again: a third of a step.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    # oneDNN keeps kernels by the shapes of products, else 1,024 of them; a length of rows means 28.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096",
    # Passes differ in length, and what a shorter one gives back would be too small for the next.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
NOT_INHERITED = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NEMO_LOCAL_TOKEN", "NEMO_LOCAL_HF_TOKEN"),
    *("NEMO_LOCAL_DATABASE_URL", "NEMO_LOCAL_ENGINE_KEY", "NEMO_LOCAL_NIM_KEY"),
    *("NIM_ENDPOINT_API_KEY", "NVIDIA_API_KEY", "OPENAI_API_KEY"),
    *(KEY, TRACKING_URI),
)
"""Secrets, which a training has from its job or not at all."""

Process = subprocess.Popen[bytes]


class TrainingProcesses:
    """Starts training processes, and keeps at most one spare; they end when this process does."""

    def __init__(self, threads: int | None = None, with_spare: bool = False) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._with_spare = with_spare
        self._spare: Process | None = None
        # Trainings end, or are ended, before libraries could remove their temporary folders.
        self._temporary = TemporaryFolder()

    def prepare(self) -> None:
        """Have a spare, where one is wanted. It costs about 4 s of a processor, at leisure."""
        with self._lock:
            if not self._with_spare or (self._spare and self._spare.poll() is None):
                return
            try:
                self._spare = self._spawn("--spare", Path.cwd(), subprocess.DEVNULL)
            except OSError as error:
                logger.warning("no spare training process, the next job starts its own: %s", error)

    def start(
        self, folder: Path, log: IO[bytes], environment: Mapping[str, str] | None = None
    ) -> Process:
        """The process that trains the job of this folder: the spare, or a new one.

        `environment` is for this job only. It reaches the process over a pipe, so that a key in it
        is seen in no list of processes.
        """
        job = {"folder": str(folder), "environment": dict(environment or {})}
        line = json.dumps(job).encode() + b"\n"
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            if spare.poll() is None and _told(spare, line):
                return spare
            logger.warning("the spare training process had ended (%s)", spare.poll())
            end_process(spare, 0)
        process = self._spawn("--job", folder, log)
        _told(process, line)  # one that ended at once is reported by its status
        return process

    def close(self) -> None:
        """End the spare, for good, and remove what trainings left; none is under way."""
        with self._lock:
            self._with_spare = False
            spare, self._spare = self._spare, None
        if spare is not None:
            end_process(spare, 0)
        self._temporary.close()

    def _spawn(self, mode: str, folder: Path, output: IO[bytes] | int) -> Process:
        environment = {
            # Where torch.compile keeps what it compiled, for the next platform, too.
            "TORCHINDUCTOR_CACHE_DIR": f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}",
            **child_environment(),
            "TMPDIR": str(self._temporary.path),
        }
        if self._threads:
            environment["OMP_NUM_THREADS"] = str(self._threads)
            environment["RAYON_NUM_THREADS"] = str(self._threads)  # of the tokenizer
        return subprocess.Popen(
            [sys.executable, "-m", "nemo_local.customizer.train", mode],
            bufsize=0,
            stdin=subprocess.PIPE,  # its end of file tells the child that we are gone
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,  # Ctrl-C in the platform's terminal must not fail the job
        )


def child_environment() -> dict[str, str]:
    """The platform's environment without its secrets, in which `python -m nemo_local...` works."""
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    path = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
    return {**inherited, **CHILD_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)}


def end_process(process: Process, within_s: float) -> None:
    """Ask the process to end, and end it by force when it has not `within_s` seconds later."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin:
        process.stdin.close()


def _told(process: Process, line: bytes) -> bool:
    """Whether the process could be given its job."""
    assert process.stdin is not None, "it is a pipe"
    with suppress(BrokenPipeError):
        process.stdin.write(line)
        return True
    return False
