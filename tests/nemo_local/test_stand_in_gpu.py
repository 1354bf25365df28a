"""What runs on GPUs, run on one, or else on a stand-in for one (see tests/stand_in_gpu)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.stand_in_gpu import build

CHECKS = Path(__file__).parents[1] / "stand_in_gpu" / "checks.py"
OLDEST_COMPILER = 11
"""For the C++20 in PyTorch's headers."""


@pytest.mark.timeout(900)  # all checks in one process, for which the stand-in is built first
def test_training_and_inference_run_on_a_gpu(tmp_path: Path) -> None:
    library = tmp_path / "device.so"
    if not torch.cuda.is_available():
        if torch.version.cuda or torch.version.hip or sys.platform != "linux":
            pytest.skip("there is no GPU, and its stand-in is for a CPU build of PyTorch on Linux")
        compiler = shutil.which("g++")
        if compiler is None or _major_version(compiler) < OLDEST_COMPILER:
            pytest.skip(f"the stand-in for a GPU is compiled with g++ {OLDEST_COMPILER} or newer")
        build(compiler, library)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)],
        env={**os.environ, "STAND_IN_GPU": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def _major_version(compiler: str) -> int:
    told = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True)
    return int(told.stdout.split(".")[0])
