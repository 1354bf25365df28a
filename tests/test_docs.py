"""The docs against the code: routes, settings, commands, errors, links."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import config
from nemo_local.app import create_app
from nemo_local.nim.app import create_app as create_nim
from nemo_local.settings import Settings
from utils import errors

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def routes_of(app):
    return {
        (path, method.upper())
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }


def routes_in(text):
    return {
        (path, method)
        for path, methods in re.findall(r"^\| `(/[^`]*)` \| ([A-Z ]+) \|$", text, re.MULTILINE)
        for method in methods.split()
    }


def test_api_coverage_lists_every_route_and_no_other(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path, dataset_rows=0)
    real = routes_of(create_app(settings)) | routes_of(create_nim(settings))
    documented = routes_in((ROOT / "docs/api-coverage.md").read_text())
    assert documented - real == set()
    assert real - documented == set()


def test_readme_lists_every_setting_of_the_notebooks():
    source = (ROOT / "config.py").read_text()
    names = set(re.findall(r'_(?:text|url|secret)\(\s*"([A-Z_]+)"', source))
    assert "NEMO_URL" in names and hasattr(config, "NEMO_URL")
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_readme_lists_every_setting_of_the_platform():
    source = (ROOT / "nemo_local/settings.py").read_text()
    names = set(re.findall(r"(?:NEMO_LOCAL|MLFLOW)_[A-Z_]+[A-Z]", source))
    assert len(names) == len(dataclasses.fields(Settings))
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_readme_lists_every_make_target():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert {name for name in phony[1].split() if f"`make {name}`" not in README} == set()


def test_readme_snippets_use_no_name_that_they_do_not_define():
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    nodes = list(ast.walk(ast.parse("\n".join(blocks))))
    defined = {
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    names = [node for node in nodes if isinstance(node, ast.Name)]
    defined |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert len(blocks) == 3 and {node.id for node in names} - defined == set()


def test_troubleshooting_explains_every_error_of_the_client():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    names = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    assert {name for name in names - {"NemoError"} if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_readme_links_each_notebook(number):
    (notebook,) = ROOT.glob(f"{number}_*.ipynb")
    assert f"({notebook.name})" in README
