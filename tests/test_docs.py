"""The documentation's examples run, and its commands are those of the package."""

import re
import shlex
from pathlib import Path

import pytest

from mddes.commands import COMMANDS
from mddes.commands.search import parse_search
from mddes.commands.study import COMMANDS as STUDIES
from mddes.commands.study import parse_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
FENCE = r"```python\n(.*?)```"
EXAMPLES = [(page.name, code) for page in PAGES for code in re.findall(FENCE, page.read_text(), re.DOTALL)]


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_python_examples_run(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    assert names["mddes"]


def commands() -> list[str]:
    blocks = [block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("mddes ")]


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `mddes ...` line of the documentation parses; `search` lines to their last option."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search.toml").write_text("pixels = 2\n")
    _, name, *rest = shlex.split(command)
    assert name in COMMANDS
    if name == "search" and "--help" not in rest:
        assert parse_search(rest)
    if name == "study":
        assert parse_study(rest[0], STUDIES[rest[0]], rest[1:])


def anchors(page: Path) -> set[str]:
    """Return what a link to the page can end in: its headings as forges name them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    named = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len({*named}) == len(named), f"{page.name}: two headings of one name"
    return {*named}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            where = page.parent / path if path else page
            assert where.exists(), target
            assert not anchor or anchor in anchors(where), target


def test_ci_runs_the_readme_s_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"<!-- test command -->\n```sh\n(.*)\n```", readme)
    assert command.startswith("python3 -m venv .venv && ")
    assert command.endswith("&& .ci/check")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()
