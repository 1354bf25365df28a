"""Who may import whom, read from the source with `ast`, as docs/decisions.md has it."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICES = ("data_store", "entity_store", "customizer", "evaluator", "guardrails", "deployment")
PARTS = (*SERVICES, "nim")
HTTP = {"requests", "httpx", "httpx2", "aiohttp", "urllib3"}
WEB = {"fastapi", "starlette", "uvicorn"}
HEAVY = {"torch", "transformers", "peft", "trl", "accelerate"}


def modules(*folders):
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [file.relative_to(ROOT) for file in files]


@cache
def imports(path, *, top_level_only=False):
    """What a module imports, by full name, and the line: {"nemo_local.core.errors.NotFound": 7}."""
    tree = ast.parse((ROOT / path).read_text(), filename=str(path))
    nodes = _at_import_time(tree) if top_level_only else ast.walk(tree)
    package = path.parent.parts
    found: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name: node.lineno for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{name}.{alias.name}": node.lineno for alias in node.names}
    return found


def _at_import_time(node):
    """Every node that runs when the module is imported: not function bodies, not TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _at_import_time(child)


def tops(names):
    return {name.split(".")[0] for name in names}


def is_within(name, package):
    return f"{name}.".startswith(f"{package}.")


def offenders(paths, is_wrong, **options):
    """Every import of these modules that is wrong, a line each: "utils/http.py:7 imports torch"."""
    return "\n".join(
        f"{path}:{line} imports {name}"
        for path in paths
        for name, line in imports(path, **options).items()
        if is_wrong(path, name)
    )


def of(libraries):
    """Whether a name is of one of these libraries."""
    return lambda path, name: name.split(".")[0] in libraries


def test_utils_knows_neither_the_platform_nor_the_settings():
    others = {"nemo_local", "config", "scripts", "tests"}
    assert offenders(modules("utils"), of(others)) == ""


def test_the_platform_knows_neither_utils_nor_the_settings():
    others = {"utils", "config", "scripts", "tests"}
    assert offenders(modules("nemo_local"), of(others)) == ""


def test_config_imports_the_standard_library_only():
    assert tops(imports(Path("config.py"))) <= sys.stdlib_module_names


def test_core_imports_nothing_else_of_the_platform():
    def is_wrong(path, name):
        allowed = ("nemo_local.core", "nemo_local.settings")
        return is_within(name, "nemo_local") and not name.startswith(allowed)

    assert offenders(modules("nemo_local/core"), is_wrong) == ""


def test_a_service_imports_no_other_service():
    def is_wrong(path, name):
        others = {*PARTS, "app"} - {path.parts[1]}
        return any(is_within(name, f"nemo_local.{other}") for other in others)

    assert offenders(modules(*(f"nemo_local/{part}" for part in PARTS)), is_wrong) == ""


def test_the_http_library_is_imported_in_two_modules_only():
    allowed = {Path("utils/http.py"), Path("nemo_local/core/client.py")}
    others = [path for path in modules("utils", "nemo_local") if path not in allowed]
    assert offenders(others, of(HTTP)) == ""


SPEAK_HTTP = {
    *(Path("nemo_local") / name for name in ("app.py", "cli.py", "nim/app.py", "nim/__main__.py")),
    *(Path("nemo_local/core") / name for name in ("web.py", "middleware.py", "error_bodies.py")),
    # The Hub's own error bodies, and its habit of quoting the slash in a repository name.
    *(Path("nemo_local/data_store") / name for name in ("hub.py", "quoted_slash.py")),
}


def test_the_web_framework_is_imported_where_urls_are_only():
    others = [
        path
        for path in modules("utils", "nemo_local")
        if path not in SPEAK_HTTP and not path.name.endswith("routes.py")
    ]
    assert offenders(others, of(WEB)) == ""


def test_utils_never_needs_a_training_library():
    assert offenders(modules("utils"), of(HEAVY)) == ""


def started_with(*paths):
    """The platform's modules that are imported with these, and these."""
    left, found = list(paths), set()
    while left:
        path = left.pop()
        if path in found or not (ROOT / path).is_file():
            continue
        found.add(path)
        for name in imports(path, top_level_only=True):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                module = Path(*parts[:end])
                left += [module.with_suffix(".py"), module / "__init__.py"]
    return found


def taken_in(paths):
    """What these modules import from elsewhere: torch, fastapi, ..."""
    return {top for path in paths for top in tops(imports(path, top_level_only=True))}


def test_the_control_plane_starts_without_a_training_library():
    paths = started_with(*(Path("nemo_local") / name for name in ("__main__.py", "app.py")))
    assert Path("nemo_local/customizer/runner.py") in paths
    assert not taken_in(paths) & (HEAVY | {"nemoguardrails"})


def test_what_controls_trainings_imports_nothing_of_what_trains():
    def is_wrong(path, name):
        trains = ("nemo_local.customizer.training", "nemo_local.customizer.layers")
        return any(is_within(name, package) for package in trains)

    controls = [path for path in modules("nemo_local/customizer") if len(path.parts) == 3]
    assert offenders(controls, is_wrong) == ""
    assert offenders(controls, of(HEAVY), top_level_only=True) == ""


def test_a_training_reads_its_rows_before_it_imports_a_training_library():
    folder = Path("nemo_local/customizer/training")
    paths = started_with(folder / "train.py", folder / "launch.py")
    assert folder / "batches.py" in paths
    assert not taken_in(paths) & HEAVY


def test_a_training_starts_without_what_the_control_plane_needs():
    folder = Path("nemo_local/customizer/training")
    paths = started_with(
        *(folder / name for name in ("train.py", "launch.py", "rank.py", "trainer.py"))
    )
    assert folder / "saving.py" in paths and "torch" in taken_in(paths)
    assert not taken_in(paths) & (WEB | HTTP | {"sqlalchemy", "nemo_microservices"})


def test_no_module_imports_a_star():
    paths = [*modules("utils", "nemo_local"), Path("config.py")]
    assert offenders(paths, lambda path, name: name.endswith(".*")) == ""


@pytest.mark.parametrize("service", PARTS)
def test_every_service_opens_with_its_boundary(service):
    text = ast.get_docstring(ast.parse((ROOT / "nemo_local" / service / "__init__.py").read_text()))
    for label in ("Covered:", "Not covered:", "Differs:", "Source:"):
        assert text is not None and label in text, f"{service} does not say {label!r}"
