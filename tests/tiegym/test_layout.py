"""Imports run downwards: between the floors of the package, and between the files of a floor."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = [
    *("atomic_write", "ties", "parts", "private", "compression", "features"),
    *("argument_types", "data"),
    *("library_models", "config_checks", "config"),
    *("actions", "rewards", "episode"),
    *("spaces", "specs"),
    *("transformer", "training", "info", "pictures", "runs", "policies", "analysis", "report"),
    *("copies", "measured", "shown", "env", "flat_env", "population_copies", "population"),
    *("wrappers", "sb3_vec_env", "vec_env", "bench", "offline", "cli"),
]
"""From the ground up. Of `tiegym` itself anything may use the version."""


def modules() -> dict[str, Path]:
    paths = [p for p in (ROOT / "tiegym").rglob("*.py") if p.name != "__init__.py"]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of tiegym that a file imports anywhere: at the top, lazily, or for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known


def test_every_module_has_a_floor():
    tops = {name.split(".")[1] for name in modules()}
    assert tops == set(FLOORS)


def test_imports_run_downwards_between_floors():
    known = modules()
    upward = {
        f"{name} imports {other}"
        for name, path in known.items()
        for other in imports(path, set(known))
        if FLOORS.index(other.split(".")[1]) > FLOORS.index(name.split(".")[1])
    }
    assert not upward


def test_no_two_files_import_each_other():
    known = modules()
    graph = {name: imports(path, set(known)) - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_package_imports_no_program():
    foreign = {
        f"{name}: {node.module}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] in ("agents", "baselines", "benchmarks", "tests")
    }
    assert not foreign


def test_no_module_is_named_like_one_of_the_standard_library():
    import sys

    names = {part for name in modules() for part in name.split(".")[1:]}
    assert not names & sys.stdlib_module_names
