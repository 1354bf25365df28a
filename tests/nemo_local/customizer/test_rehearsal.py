"""What a spare does before there is a job, in a process of its own as a spare is."""

import json
import subprocess
import sys
from dataclasses import replace

from nemo_local.customizer.processes import training_environment

KERNELS = ("norm", "norm_back", "gate", "gate_back", "turn", "softmax")
REHEARSED_THEN_TRAINED = """
import json, sys
from pathlib import Path
from nemo_local.customizer.layers import kernels
from nemo_local.customizer.training import rehearsal
from nemo_local.customizer.task import Task
from tests.nemo_local.customizer.training import train_job

def known():
    return {name: len(getattr(kernels, name).signatures) for name in sys.argv[2:]}

assert rehearsal.rehearse()
before = known()
train_job(Task.read(Path(sys.argv[1])), Path(sys.argv[1]))
print(json.dumps([before, known()]))
"""


def test_a_job_after_a_rehearsal_has_no_kernel_to_load(job, job_dir):
    plan = replace(job.plan, batch_size=16, max_steps=1)
    replace(job, threads=2, plan=plan).write(job_dir)
    done = subprocess.run(
        [sys.executable, "-c", REHEARSED_THEN_TRAINED, str(job_dir), *KERNELS],
        env=training_environment() | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == after and all(after.values())
