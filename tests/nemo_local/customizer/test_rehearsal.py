"""What a spare does before there is a job, in a process of its own as a spare is."""

import json
import subprocess
import sys

from nemo_local.customizer.processes import training_environment

KERNELS = ("norm", "norm_back", "gate", "gate_back", "turn", "softmax")
REHEARSED_THEN_TRAINED = """
import json, sys
from pathlib import Path
from nemo_local.customizer import kernels, rehearsal
from tests.nemo_local.customizer.training import train_job

def known():
    return {name: len(getattr(kernels, name).signatures) for name in sys.argv[3:]}

assert rehearsal.rehearse()
before = known()
train_job(json.loads(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps([before, known()]))
"""


def test_a_job_after_a_rehearsal_has_no_kernel_to_load(job, job_dir):
    job |= {"threads": 2, "plan": job["plan"] | {"batch_size": 16, "max_steps": 1}}
    done = subprocess.run(
        [sys.executable, "-c", REHEARSED_THEN_TRAINED, json.dumps(job), str(job_dir), *KERNELS],
        env=training_environment() | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == after and all(after.values())
