"""What runs on GPUs, run on a stand-in for one (see tests/stand_in_gpu)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_in_gpu import build

CHECKS = Path(__file__).parents[1] / "stand_in_gpu" / "checks.py"


def test_training_and_inference_run_on_a_gpu_that_has_no_kernels_of_its_own(
    tmp_path: Path,
) -> None:
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the stand-in for a GPU is compiled with g++ on Linux")
    build(compiler, tmp_path / "device.so")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)],
        env={**os.environ, "STAND_IN_GPU": str(tmp_path / "device.so")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
