"""Kernels that are kept on disk: for several processes, and where a disk does not do its part."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_local.core.kept_kernels import locked
from nemo_local.processes import wait_until

LITTLE = """
from pathlib import Path

import numpy as np

from nemo_local.core.compiler import Compiler

kernel = Compiler(Path(__file__).parent, "little")


@kernel({signatures})
def double(x, y):
    for i in range(len(x)):
        y[i] = 2 * x[i]


def main():
    y = np.empty(3)
    double(np.arange(3.0), y)
    print(y.tolist())
"""
ANSWER = "[0.0, 2.0, 4.0]\n"


class Little:
    """A module with a kernel, in a folder of its own."""

    def __init__(self, folder: Path, signatures: str = "") -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(parents=True)
        self.near = folder / "__pycache__"
        (folder / "little.py").write_text(LITTLE.format(signatures=signatures), encoding="utf-8")

    def start(self, before: str = "", **environment: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME",)}
        places = {"HOME": str(self.home), "NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", f"import little\n{before}\nlittle.main()"],
            cwd=self.folder,
            env={
                **inherited,
                **places,
                "PYTHONPATH": str(Path(__file__).parents[3]),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, before: str = "", **environment: str) -> str:
        """What it complained of; its answer was right."""
        process = self.start(before, **environment)
        answer, complaints = process.communicate()
        assert (process.returncode, answer) == (0, ANSWER), complaints
        return complaints

    def kept(self, pattern: str) -> list[Path]:
        return sorted(self.near.rglob(pattern))


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Little, Path]:
    little = Little(tmp_path_factory.mktemp("compiled") / "package")
    assert little.run() == ""
    return little, shutil.copytree(little.folder, little.folder.with_name("copy"))


@pytest.fixture
def compiled(compiled_once: tuple[Little, Path]) -> Little:
    """A module whose kernel another process compiled and kept; where it stands is part of that."""
    little, copy = compiled_once
    shutil.rmtree(little.folder)
    shutil.copytree(copy, little.folder)
    return little


def test_a_kernel_is_kept_for_the_next_process(compiled: Little) -> None:
    (code,) = compiled.kept("*.nbc")
    written = code.stat().st_mtime_ns
    assert compiled.run() == ""
    assert compiled.kept("*.nbc") == [code] and code.stat().st_mtime_ns == written


def test_a_kernel_of_other_sources_is_not_used(compiled: Little) -> None:
    (before,) = compiled.kept("*.nbc")
    source = compiled.folder / "little.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    compiled.run()
    (after,) = compiled.kept("*.nbc")
    assert before.parent != after.parent


def test_beside_a_package_that_is_read_only_the_user_keeps_kernels(tmp_path: Path) -> None:
    little = Little(tmp_path / "package")
    little.near.touch()  # no folder can be made there
    assert little.run() == ""
    caches = little.home / ".cache" / "nemo_local"
    assert [path.parent.parent.parent for path in caches.rglob("*.nbc")] == [caches]


def test_kernels_compile_where_no_folder_can_be_written(tmp_path: Path) -> None:
    """As in a container: the package is read-only, and there is no home."""
    little = Little(tmp_path / "package")
    little.near.touch()
    assert little.run(HOME=str(little.near)) == ""
    assert list(tmp_path.rglob("*.nb?")) == []


def test_a_full_disk_keeps_no_kernel_and_stops_none(tmp_path: Path) -> None:
    little = Little(tmp_path / "package")
    full = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
    )
    assert "cannot be written" in little.run(full)
    assert little.kept("*.nb?") == []
    assert little.run() == ""


def test_a_kernel_whose_file_is_broken_is_compiled_anew(compiled: Little) -> None:
    for suffix in ("nbc", "nbi"):
        (file,) = compiled.kept(f"*.{suffix}")
        file.write_bytes(file.read_bytes()[:20])
        assert "is recompiled" in compiled.run()
        assert file.stat().st_size > 20
    assert compiled.run() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="who waits for a lock is read in /proc/locks")
def test_processes_that_compile_at_once_keep_one_kernel_after_the_other(compiled: Little) -> None:
    """Both took the same name: the index had the one's types, and the file the other's code."""
    (code,), (index,) = compiled.kept("*.nbc"), compiled.kept("*.nbi")
    code.unlink()
    index.unlink()
    with locked(code.parent / "lock"):
        other = compiled.start()

        def waits() -> bool:
            held = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
            return any("->" in line and f" {other.pid} " in line for line in held)

        wait_until(waits, 60, "the other process waits for the lock")
        assert compiled.kept("*.nb?") == []
    assert other.communicate()[0] == ANSWER
    assert compiled.kept("*.nb?") == [code, index]


def test_of_processes_that_start_at_once_one_compiles(tmp_path: Path) -> None:
    little = Little(tmp_path / "package", '"void(f8[::1], f8[::1])"')
    hits = "print(sum(little.double.stats.cache_hits.values()))"
    first, second = (little.start(hits) for _ in range(2))
    told = [process.communicate()[0].removesuffix(ANSWER) for process in (first, second)]
    assert sorted(told) == ["0\n", "1\n"]
