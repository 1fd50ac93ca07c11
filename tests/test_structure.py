"""The house: layers, public names, sizes. What these tests forbid is said in docs/architecture.md."""

import ast
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import mddes

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "mddes").rglob("*.py"))

# Imports point down; two places of one rank do not know each other.
RANKS = {
    **dict.fromkeys(("version", "errors", "seeding", "threads", "writing", "hypertext"), 0),
    **dict.fromkeys(("user_code", "settings", "compute", "config_file"), 1),
    **dict.fromkeys(("data", "tasks"), 1),
    **dict.fromkeys(("optim", "models", "poison", "attacks", "pools"), 2),
    "training": 3,
    "measures": 4,
    "search": 5,
    "studies": 6,
    "report": 7,
    "preparation": 8,
    **dict.fromkeys(("api", "plan", "bar", "arguments", "study"), 9),
    **dict.fromkeys(("status", "study_plan"), 10),
    **dict.fromkeys(("drawing", "pages"), 11),
    "commands": 12,
    "cli": 13,
    **dict.fromkeys(("__init__", "__main__"), 14),
}
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": ("tasks/ray_",),
    "matplotlib": ("report/",),
    "cma": ("search/strategy.py",),
    "tyro": ("arguments.py", "commands/"),
}
READ_FIRST = (
    "search/driver.py",
    "search/fitness.py",
    "poison/perturbation.py",
    "training/loop.py",
    "tasks/ledger.py",
)


def place(path: Path) -> str:
    """Return the layer of a module: the first part of its path in the package."""
    return path.relative_to(ROOT / "mddes").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = place(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "mddes" and len(parts) > 1 and parts[1] != own:
            assert RANKS[parts[1]] < RANKS[own], f"{path.name} must not import {name}"
        if parts[0] in ONLY_IN:
            inside = str(path.relative_to(ROOT / "mddes"))
            assert inside.startswith(ONLY_IN[parts[0]]), f"{inside} must not import {name}"


def test_every_name_that_is_public_is_in_all() -> None:
    public = {
        name
        for name, value in vars(mddes).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public | {"__version__"} == set(mddes.__all__)
    assert mddes.__all__ == sorted(mddes.__all__)


def test_every_public_name_is_documented() -> None:
    for name in mddes.__all__:
        if name != "__version__":
            assert (getattr(mddes, name).__doc__ or "").strip(), name


def test_search_is_a_function_and_a_package() -> None:
    assert callable(mddes.search)
    from mddes.search.driver import run_search

    assert callable(run_search)
    assert isinstance(mddes.search, types.FunctionType), "importing the package does not hide the function"


def test_importing_mddes_imports_no_heavy_library() -> None:
    code = "import mddes, sys; print([m for m in ('ray', 'matplotlib', 'cma', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_newcomer_reads_five_files() -> None:
    lengths = {name: len((ROOT / "mddes" / name).read_text().splitlines()) for name in READ_FIRST}
    assert sum(lengths.values()) < 700, lengths


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_idea_a_file(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says what it is for"
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
