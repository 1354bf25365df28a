"""What is asked for, what is pinned and what is imported agree."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# Packages whose import has another name.
IMPORTED_AS = {"python-multipart": "multipart", "rouge-score": "rouge_score"}


def lines(name):
    text = (ROOT / name).read_text().splitlines()
    return [line for line in text if line.strip() and not line.startswith("#")]


def names(requirements):
    packages = [Requirement(line).name for line in requirements]
    return {IMPORTED_AS.get(name, name.replace("-", "_")).lower() for name in packages}


PINS = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines("constraints.txt")
}
EXTRAS = PROJECT["optional-dependencies"]
OPTIONAL = [*EXTRAS["deepspeed"], *EXTRAS["gpu"]]
ASKED = [*lines("requirements.txt"), *(line for extra in EXTRAS.values() for line in extra)]


def test_every_range_admits_the_pinned_version():
    pins = {line: PINS.get(canonicalize_name(Requirement(line).name)) for line in ASKED}
    refused = {
        line: pin for line, pin in pins.items() if not pin or pin not in Requirement(line).specifier
    }
    assert refused == {}


def test_the_pins_carry_no_local_build_or_place():
    assert [
        f"{name}=={version}" for name, version in PINS.items() if re.search(r"[+/@]", version)
    ] == []
    assert (PINS["torch"], PINS["nemo-microservices"]) == ("2.13.0", "1.5.0")


@pytest.mark.parametrize(
    ("folders", "asked"),
    [
        (["utils"], lines("requirements.txt")),
        (["nemo_local"], [*lines("requirements.txt"), *EXTRAS["local"], *OPTIONAL]),
    ],
    ids=["utils", "nemo_local"],
)
def test_every_imported_package_is_asked_for(folders, asked):
    # They come with, and are part of, what is asked for.
    brought = {"starlette", "pydantic", "pydantic_core", "tokenizers", "httpx", "IPython"}
    known = names(asked) | brought | set(sys.stdlib_module_names) | {"utils", "nemo_local"}
    found = set()
    for file in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    assert sorted(found - known) == []


@pytest.mark.parametrize("package", ["nemo_local", "utils"])
def test_an_installed_package_has_every_file_that_it_reads(package):
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"][package]
    matched = {pattern: set((ROOT / package).glob(pattern)) for pattern in patterns}
    assert [pattern for pattern, files in matched.items() if not files] == []
    data = {
        path
        for path in (ROOT / package).rglob("*.*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert data - set().union(*matched.values()) == set()


def test_make_clean_from_another_folder_removes_nothing_there(tmp_path):
    (tmp_path / "data").mkdir()
    command = ["make", "-f", str(ROOT / "Makefile"), "clean"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "run make in the folder of its Makefile" in done.stderr
    assert (tmp_path / "data").is_dir()
    for name in ("Makefile", "./Makefile", str(ROOT / "Makefile")):
        subprocess.run(["make", "-n", "-f", name, "clean"], cwd=ROOT, check=True)
