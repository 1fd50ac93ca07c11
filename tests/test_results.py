"""Every accuracy in the packed results stands in docs/reproduce.md, in a line of a table, or a paragraph,
that names its poison; so do the measures of solutions and the runs of the study of SAM.

Spreads go with it, and in tables of transfer the rate at which the pixel is followed; differences and p are not
looked at.
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


FOLLOWED = (
    "mnist",
    "mnist-crop",
    "mnist-resnet20",
    "fashion-mnist",
    "fashion-mnist-resnet20",
    "svhn10k",
    "svhn10k-crop",
)


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_cell_after_an_accuracy_is_the_rate_at_which_the_pixel_is_followed(name: str) -> None:
    content = results(ROOT / "benchmarks" / "results" / f"transfer-{name}.tar.gz")
    assert content
    rows = [row for row in content["rows"] if row["pixel_follow_rate"] is not None]
    assert rows
    for row, (poison, accuracy) in zip(rows, published({"rows": rows}), strict=True):
        named = [line for line in TEXT.splitlines() if line[:1] == "|" and re.search(SAID.get(poison, poison), line)]
        cell = re.compile(rf"\| \**{re.escape(accuracy)}\** \| (\d+) \|")
        assert f"{100 * row['pixel_follow_rate']:.0f}" in [m[1] for line in named for m in cell.finditer(line)], row[
            "poison"
        ]


MEASURES = {  # columns of the page's tables of solutions
    "test accuracy": ("test_accuracy", 100),
    "training loss": ("train_loss", 1),
    "test loss": ("test_loss", 1),
    "top eigenvalue": ("hessian_top_eigenvalue", 1),
    "trace": ("hessian_trace", 1),
    "average sharpness": ("average_sharpness", 1),
    "adaptive": ("adaptive_average_sharpness", 1),
    "along the line": ("line_curvature", 1),
}
METHODS = {
    "momentum": "SGD with momentum",
    "sam": "SAM",
    "mp-sam-random/3": "random, k = 3",
    "mp-sam-mixed/5": "mixed, k = 5",
    "mp-sam-adaptive/5": "adaptive, k = 5",
}


def lines() -> Iterator[list[tuple[str, str]]]:
    """Yield the rows of the page's tables: pairs of a column's name and what stands in it."""
    for part in re.split(r"\n\n+", TEXT):
        cells = [
            [cell.strip() for cell in line.strip("| ").split(" | ")] for line in part.splitlines() if line[:1] == "|"
        ]
        for line in cells[2:]:
            yield [*zip(cells[0], line, strict=False)]


def fits(cell: str, mean: float, std: float) -> bool:
    """Return whether "a ± b" is mean and spread, rounded to the places that are written."""
    written = cell.strip("*").split(" ± ")
    return len(written) == 2 and all(
        abs(float(text) - value) <= 0.501 * 10 ** -len(text.partition(".")[2])
        for text, value in zip(written, (mean, std), strict=True)
    )


SOLVED = ("mnist", "mnist-matched", "mnist-longer", "fashion-mnist")


@pytest.mark.parametrize("name", SOLVED)
def test_every_measure_of_a_solution_is_in_a_line_of_a_table(name: str) -> None:
    content = results(ROOT / "benchmarks" / "results" / f"interpolation-{name}.tar.gz")
    assert content
    written = [found for line in lines() if "top eigenvalue" in (found := dict(line)) and "solution" in found]
    ends = [row for row in content["rows"] if row["kind"] == "end"]
    assert ends
    for row in ends:
        told = [
            line
            for line in written
            if line["solution"].lower().startswith(row["optimizer"])
            and all(
                fits(line[column], times * row[f"{field}_mean"], times * row[f"{field}_std"])
                for column, (field, times) in MEASURES.items()
                if column in line
            )
        ]
        assert len(told) == 1, (row["row"], row["end"])


def test_every_run_of_the_study_of_sam_is_in_its_tables() -> None:
    content = results(ROOT / "benchmarks" / "results" / "sam-synthetic-digits.tar.gz")
    assert content
    cells = {f"{line[0][1]}: {cell}" for line in lines() for _, cell in line}
    for row in (row for row in content["rows"] if row["kind"] == "method"):
        name, shift = METHODS[row["method"]], [f"shifted_accuracy_{t}" for t in (0.25, 0.5, 0.75)]
        wanted = ["test_accuracy", *(shift if name in ("SGD with momentum", "SAM", "adaptive, k = 5") else [])]
        texts = [f"{100 * row[f'{field}_mean']:.2f} ± {100 * row[f'{field}_std']:.2f}" for field in wanted]
        if row["problem"] == "synthetic":
            texts += [f"{100 * row['first_run']:.2f}", f"{100 * row['five_mean']:.2f} ± {100 * row['five_std']:.2f}"]
        assert [text for text in texts if f"{name}: {text}" not in cells] == []
