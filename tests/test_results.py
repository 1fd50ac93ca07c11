"""The tables of docs/reproduce.md say what the ledgers in benchmarks/results say."""

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
    """Yield what each row of a study is called, and its accuracy as the page should have it."""
    for row in content["rows"]:
        if row.get("kind", "chosen") == "chosen" and row.get("clean_test_accuracy_mean") is not None:
            name = " ".join(str(row.get(k)) for k in ("poison", "pixels", "model", "optimizer", "selection", "defense"))
            std = row["clean_test_accuracy_std"]
            yield name, percent(Summary(row["n"], row["clean_test_accuracy_mean"], std, None, None))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_every_archive_is_named_and_its_accuracies_are_in_the_text(archive: Path) -> None:
    assert archive.name in TEXT or archive.name.startswith("search-")
    content = results(archive)
    if content is None or content["study"] not in ("transfer", "optimizers", "defenses"):
        return
    missing = [(name, said) for name, said in published(content) if not re.search(rf"(?<![\d.]){said}(?!\d)", TEXT)]
    assert not missing
