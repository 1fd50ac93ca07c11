"""Every accuracy in the packed results stands in docs/reproduce.md, in a line of a table, or a paragraph,
that names its poison.

Spreads go with it; differences, p and follow rates are not looked at.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mddes.studies.findings import percent
from mddes.studies.statistics import Summary

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "reproduce.md").read_text()
ARCHIVES = sorted((ROOT / "benchmarks" / "results").glob("*.tar.gz"))
SAID = {  # what the page calls a row; a ready-made poison by its name, or by where it was searched for
    "clean": "none|clean|without a poison|0 %",
    "uniform": "uniform",
    "left-column": "left column",
    "one-pixel-shortcut": "OPS",
    "one-pixel-shortcut-paper": "OPS, score `paper`",
    "one-pixel-shortcut-art": "OPS, score `art`",
    "random-search": "random search",
    "mdd-es": "MDD-ES \\|",
    "mdd-es-mismatch": "F_m only",
    "mdd-es-divergence": "F_d only",
    "svhn10k-np1": "svhn_10k-np1",  # its name before it was shipped
}


def results(archive: Path) -> dict[str, Any] | None:
    """Return a study's results.json; None of a search."""
    with tarfile.open(archive) as tar:
        found = [member for member in tar.getmembers() if Path(member.name).name == "results.json"]
        if not found:
            return None
        (member,) = found
        file = tar.extractfile(member)
        assert file
        content: dict[str, Any] = json.load(file)
        return content


def published(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the poison of each row of a study, and its accuracy as the page should have it."""
    for row in content["rows"]:
        if row.get("kind", "chosen") == "chosen" and row.get("clean_test_accuracy_mean") is not None:
            std = row["clean_test_accuracy_std"]
            yield row["poison"], percent(Summary(row["n"], row["clean_test_accuracy_mean"], std, None, None))


def is_there(poison: str, accuracy: str, study: str) -> bool:
    number = rf"(?<![\d.]){re.escape(accuracy)}(?!\d)"
    if study == "defenses":  # there the poisons are columns
        return re.search(number, TEXT) is not None
    name = SAID.get(poison, re.escape(poison))
    paragraphs = TEXT.split("\n\n")
    parts = [part for p in paragraphs for part in (p.splitlines() if p.startswith("|") else [p])]
    return any(re.search(name, part) and re.search(number, part) for part in parts)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_every_archive_is_named_and_its_accuracies_are_in_the_text(archive: Path) -> None:
    assert archive.name in TEXT or archive.name.startswith("search-")
    content = results(archive)
    if content is None or content["study"] not in ("transfer", "optimizers", "defenses"):
        return
    missing = [found for found in published(content) if not is_there(*found, content["study"])]
    assert not missing
