"""A GPU that is none, for tests of what runs on GPUs: `device.cpp`, and here its `torch.cuda`.

PyTorch places tensors on it, refuses to mix them with the CPU's and computes right numbers, slowly.
It has none of a GPU's kernels, streams or limits of memory, so it says nothing of speed, of
FlashAttention, of Triton or of several GPUs. It cannot be taken out of a process again, so tests
that need it run in a process of their own: test_stand_in_gpu.py runs checks.py.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("device.cpp")
NAME, CAPABILITY, BYTES = "a stand-in for a GPU", (9, 0), 80 * 10**9


def build(compiler: str, library: Path) -> None:
    """Compile the device against the PyTorch that is installed; takes a quarter of a minute."""
    import torch

    root = Path(torch.__file__).parent
    command = [compiler, "-O1", "-g0", "-std=c++20", "-fPIC", "-shared", str(SOURCE)]
    for folder in ("include", "include/torch/csrc/api/include"):
        command.append(f"-I{root / folder}")
    command += [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-ltorch", "-ltorch_cpu"]
    subprocess.run([*command, "-lc10", "-o", str(library)], check=True)


def install(library: Path) -> None:
    """Give this process the GPU."""
    import torch

    torch.ops.load_library(str(library))
    said: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": NAME,
        "get_device_capability": CAPABILITY,
        "get_device_properties": _Properties,
        "mem_get_info": (BYTES, BYTES),
        "current_stream": _Stream(),
    }
    done = (
        *("_lazy_init", "empty_cache", "synchronize", "set_device", "manual_seed"),
        *("manual_seed_all", "reset_peak_memory_stats"),
    )
    for name in (*said, *done):
        setattr(torch.cuda, name, _saying(said.get(name)))
    for name in ("manual_seed", "manual_seed_all"):
        setattr(torch.cuda.random, name, _saying(None))
    for name, state in (
        ("get_rng_state", torch.zeros(16, dtype=torch.uint8)),
        ("set_rng_state", 0),
    ):
        for whole in ("", "_all"):
            value = [state] if whole and name.startswith("get") else state
            setattr(torch.cuda, name + whole, _saying(value))
            setattr(torch.cuda.random, name + whole, _saying(value))
    torch.cuda.default_generators = (torch.default_generator,)
    torch.accelerator.current_accelerator = _saying(torch.device("cuda"))
    torch.accelerator.current_stream = _saying(_Stream())
    torch.version.cuda = "12.8"
    # A CPU build makes storages of no other device; what is loaded from a checkpoint is one.
    torch.UntypedStorage.to = _storage_on  # type: ignore[assignment]


def _storage_on(storage: Any, *, device: Any, non_blocking: bool = False) -> Any:
    import torch

    held = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return held.to(device).untyped_storage()


class _Properties:
    """What torch.cuda tells of it."""

    name, (major, minor), total_memory, multi_processor_count = NAME, CAPABILITY, BYTES, 100


class _Stream:
    """The only stream; all it was given is done."""

    device = None

    def synchronize(self) -> None:
        pass

    def is_capturing(self) -> bool:
        return False


def _saying(value: Any) -> Callable[..., Any]:
    """A function that gives the value; each is one of its own, since torch tells them apart."""
    return lambda *_, **__: value
