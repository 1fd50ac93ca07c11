"""The page of a study: what it found, its figures and tables, and how to go on; finished or not."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mddes.errors import InputError
from mddes.report.page import Code, Page, Part, Picture, Section, Table
from mddes.report.search_page import environment_table, listed
from mddes.report.style import file_name
from mddes.studies.findings import ANSWERS, RESULTS
from mddes.studies.poisons import named_by

# How the figure of a study reads to those who cannot see it; by the words that its file's name begins with.
SHOWN = {
    "transfer": "Bars: clean test accuracy under each poison, a panel for each network, with 95 % intervals.",
    "defenses": "Clean test accuracy under each poison with each defence, with 95 % intervals.",
    "shares": "Clean test accuracy over the share of each class that is poisoned.",
    "learning-curve": "Test error over generations, clean test accuracy over epochs, test error over proxy A-distance.",
    "optimizers": "Bars: clean test accuracy of each tuned optimizer under each poison, with 95 % intervals.",
    "sam": "Test accuracy of every run and method, the paper's claims pair by pair, and accuracy under shift.",
    "rates": "Accuracy over the learning rate of each optimizer under each poison.",
    "epochs": "Clean test accuracy of each optimizer, each at its chosen rate, over the epochs, under each poison.",
    "gradcam-shares": "Share of the Grad-CAM maps near the poison's pixels and on the border, each pair of networks.",
    "gradcam-singles": "Grad-CAM maps of clean and poisoned networks over single test images, clean and poisoned.",
    "line": "Training loss, test loss and accuracy along the line between two solutions, a column for each poison.",
    "around": "Training loss around two solutions: slices and surfaces in random directions, a column for each poison.",
    "correlations": "Heat maps of Kendall's tau-b of every two measures of solutions, pooled and within training sets.",
    "gradcam": "Grad-CAM maps of clean and poisoned networks over images, the poison's pixels framed.",
}


def study_page(folder: Path, name: str, settings: Mapping[str, Any], banner: Sequence[str]) -> Page:
    """Return the page of a study's folder.

    Args:
        folder: of the study.
        name: of the study.
        settings: as its study.toml has them.
        banner: what is unfinished or failed; empty for one that ended well.

    Raises:
        InputError: its results are damaged.
    """
    results = read_results(folder)
    sentences = [str(sentence) for sentence in results.get("sentences", ())]
    figures = _figures(folder, _key_of(name, settings))
    if results and not figures:
        banner = [*banner, "The figures are missing: they could not be drawn, and the run's warnings say why."]
    answer = [str(sentence) for sentence in results.get("answer", sentences[:ANSWERS])]
    findings: list[Part] = [*sentences] if sentences != answer else []
    tables: list[Part] = []
    for title, rows in dict(results.get("tables", {})).items():
        tables.append(Table([{str(k): str(v) for k, v in row.items()} for row in rows], str(title)))
    protocol: list[Part] = (
        [
            f"Protocol {results['protocol_hash']}: results of another are not to be ranked with these.",
            listed("what", dict(results["protocol"])),
        ]
        if results
        else []
    )
    sections = [
        Section("All findings", findings),
        Section("Tables", tables),
        Section("Figures", figures[1:]),
        Section("Protocol", protocol),
        Section("Settings", [listed("setting", settings)]),
        Section("Environment", [environment_table(folder)]),
        Section("To go on", [Code(f"mddes resume {shlex.quote(folder.name)} --seeds N   # more networks")]),
    ]
    return Page(
        title=f"Study {name}: {Path(str(settings.get('dataset', ''))).stem}",
        answer=answer or ["There are no results yet."],
        key=figures[0] if figures else None,
        sections=[section for section in sections if section.parts],
        banner=banner,
    )


def read_results(folder: Path) -> dict[str, Any]:
    """Return a study's results, empty if it has none yet.

    Raises:
        InputError: they are damaged.
    """
    path = folder / RESULTS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(found["rows"], list) and isinstance(found["protocol"], dict) and found["protocol_hash"]):
            raise ValueError("rows or protocol are not what they should be")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read results from {path}: {error}") from error
    return dict(found)


def _key_of(name: str, settings: Mapping[str, Any]) -> str:
    """Return how the name of the key picture begins: that which shows what the answer speaks of."""
    if name == "gradcam" and settings.get("poisons"):
        return f"gradcam-{file_name(named_by(str(settings['poisons'][-1])))}-"
    return {"interpolation": "line-", "optimizers": "optimizers-"}.get(name, "")  # of others the first by name


def _figures(folder: Path, first: str) -> list[Picture]:
    paths = sorted((folder / "figures").glob("*.png"), key=lambda path: (not path.stem.startswith(first), path.name))
    return [Picture(path.read_bytes(), _shown(path.stem), f"{_shown(path.stem)} ({path.stem})") for path in paths]


def _shown(stem: str) -> str:
    kind = max((known for known in SHOWN if f"{stem}-".startswith(f"{known}-")), key=len, default=None)
    return SHOWN[kind] if kind else f"Figure {stem}."
