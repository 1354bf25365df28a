"""Starts a training process for each job, forked from a warmed-up spare where there is one.

Importing torch and the libraries around it takes seconds of CPU time. One process, the spare, does
so before there is a job, and forks for each line that names one (see spare.py). A job that finds no
spare gets a new process, which reads its line at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
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
from nemo_local.environment import LOCAL_PROFILE, runs_our_modules

logger = logging.getLogger(__name__)

TRAINING_PROFILE = {
    **LOCAL_PROFILE,  # its short spin saves an eighth of a step
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "true",  # the spare forks before it has a tokenizer
    # glibc returns each freed large tensor to the kernel, which takes a third of a step.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    # oneDNN caches a kernel per shape of product, by default 1,024; each row length needs 28.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096",
    # Passes differ in length; blocks that a short one frees would be too small for the next.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
NOT_INHERITED = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NEMO_LOCAL_TOKEN", "NEMO_LOCAL_HF_TOKEN"),
    *("NEMO_LOCAL_DATABASE_URL", "NEMO_LOCAL_ENGINE_KEY", "NEMO_LOCAL_NIM_KEY"),
    *("NIM_ENDPOINT_API_KEY", "NVIDIA_API_KEY", "OPENAI_API_KEY"),
    *(KEY, TRACKING_URI),
)
"""Secrets, which a training gets from its job or not at all."""


Process = subprocess.Popen[bytes]


class TrainingOfSpare:
    """The process of one job: the spare's fork, or the spare where it does the job itself."""

    def __init__(self, spare: Process) -> None:
        self._spare = spare
        self.pid = spare.pid
        self.stdin: IO[bytes] | None = None  # that of the spare stays open
        self.returncode: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._listen, name="training", daemon=True).start()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired(self._spare.args, timeout or 0)
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _listen(self) -> None:
        """Read the fork's id and exit status from the spare; if that dies, so does the fork."""
        reports = self._spare.stdout
        assert reports is not None, "it is a pipe"
        forked = reports.readline()
        if forked:
            self.pid = int(forked)
        status = reports.readline()
        self.returncode = int(status) if status else self._spare.wait()
        self._ended.set()


Training = Process | TrainingOfSpare


class TrainingProcesses:
    """Starts training processes, and keeps at most one spare; they end when this process does."""

    def __init__(self, threads: int | None = None, with_spare: bool = False) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._with_spare = with_spare
        self._spare: Process | None = None
        # Trainings exit or are killed before libraries can remove their temporary folders.
        self._temporary = TemporaryFolder()

    def prepare(self) -> None:
        """Start a spare if one is wanted and none runs: about 4 s of CPU time at low priority."""
        with self._lock:
            if not self._with_spare or (self._spare and self._spare.poll() is None):
                return
            self._end_spare()
            try:
                self._spare = self._spawn("spare", Path.cwd(), subprocess.PIPE, subprocess.DEVNULL)
            except OSError as error:
                logger.warning("no spare training process, the next job starts its own: %s", error)

    def start(
        self, folder: Path, log: IO[bytes], environment: Mapping[str, str] | None = None
    ) -> Training:
        """Start training the job in this folder, in a fork of the spare or in a new process.

        `environment` is for this job only. It reaches the process over a pipe, so that keys in it
        appear in no list of processes.
        """
        job = {"folder": str(folder), "environment": dict(environment or {})}
        line = json.dumps(job).encode() + b"\n"
        with self._lock:
            spare = self._spare
        if spare is not None:
            if spare.poll() is None and _told(spare, line):
                return TrainingOfSpare(spare)
            logger.warning("the spare training process had ended (%s)", spare.poll())
        process = self._spawn("train", folder, log, subprocess.STDOUT)
        _told(process, line)  # if it has ended already, its status tells
        return process

    def close(self) -> None:
        """End the spare for good and remove temporary files; no training may be under way."""
        with self._lock:
            self._with_spare = False
            self._end_spare()
        self._temporary.close()

    def _end_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            with spare:
                end_process(spare, 0)

    def _spawn(self, module: str, folder: Path, output: IO[bytes] | int, errors: int) -> Process:
        environment = {
            # Where torch.compile keeps what it compiled, for the next platform, too.
            "TORCHINDUCTOR_CACHE_DIR": f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}",
            **training_environment(),
            "TMPDIR": str(self._temporary.path),
        }
        if self._threads:
            environment["OMP_NUM_THREADS"] = str(self._threads)
            environment["RAYON_NUM_THREADS"] = str(self._threads)  # of the tokenizer
        return subprocess.Popen(
            [sys.executable, "-m", f"nemo_local.customizer.training.{module}"],
            bufsize=0,
            stdin=subprocess.PIPE,  # its end of file tells the child that we are gone
            stdout=output,
            stderr=errors,
            cwd=folder,
            env=environment,
            start_new_session=True,  # Ctrl-C in the platform's terminal must not fail the job
        )


def training_environment() -> dict[str, str]:
    """The platform's environment without its secrets, as a training needs it."""
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    return {**inherited, **TRAINING_PROFILE, **runs_our_modules(inherited)}


def end_process(process: Training, within_s: float) -> None:
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
    """Write the job's line to the process; False when it has stopped reading."""
    assert process.stdin is not None, "it is a pipe"
    with suppress(BrokenPipeError):
        process.stdin.write(line)
        return True
    return False
