"""Environment variables of the platform's processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nemo_local.home import HOME_VARIABLE
from nemo_local.settings import LOOPBACK_HOSTS, Settings

LOCAL_PROFILE = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin long starve all other processes on a small machine, but waking one for
    # each matrix product is slow, too: half of a reply's time on a virtual machine.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "30000",
    # glibc returns each freed large tensor to the kernel: a tenth of the time to read a prompt.
    "MALLOC_MMAP_THRESHOLD_": "67108864",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "16777216",
}
"""Variables of all processes: no telemetry, no Xet, threads that spin only briefly."""

_NOT_INHERITED = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"),
    # Offline, the Hub's client would not even ask our own Data Store.
    *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"),
)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of the platform's two processes: ours, the settings, the local profile."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in _NOT_INHERITED and not key.startswith("NEMO_LOCAL_")
    }
    own = {**runs_our_modules(inherited), HOME_VARIABLE: str(settings.home)}
    # Else a proxy would be asked for our own addresses. The lower-case spelling wins.
    hosts = inherited.get("no_proxy") or inherited.get("NO_PROXY", "")
    if hosts.strip() != "*":
        hosts = ",".join(dict.fromkeys(filter(None, [hosts, *LOOPBACK_HOSTS, settings.host])))
    own |= {"no_proxy": hosts, "NO_PROXY": hosts}
    return {**inherited, **LOCAL_PROFILE, **settings.environment(), **own}


def runs_our_modules(inherited: Mapping[str, str]) -> dict[str, str]:
    """Variables that let `python -m nemo_local...` run in any folder, with unbuffered output.

    A PYTHONPATH in `inherited` comes after ours.
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, inherited.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
