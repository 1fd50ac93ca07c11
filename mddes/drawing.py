"""Panels of a run on an axis of your own: what a run can draw, and one of these drawings.

    from mddes.drawing import draw, panels
    figure, axes = plt.subplots(1, 2, layout="constrained")
    draw("runs/digits-np5-...", "fitness", axes[0])
    draw(findings, "bars", axes[1], model="graynet")

A run is a search's or a study's folder, a `SearchResult`, or a study's `Findings`; nothing in it is changed. The
figures that runs and reports have are made of the same panels (`report/panel.py`).
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mddes.api import CONFIG as SEARCH
from mddes.api import SearchResult
from mddes.config_file import read_toml
from mddes.errors import InputError, look_up
from mddes.studies.findings import RESULTS, Findings
from mddes.study import CONFIG as STUDY
from mddes.study import STUDIES
from mddes.tasks.ledger import read

if TYPE_CHECKING:
    from mddes.report.panel import Axes, Figure

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Drawable:
    """What a panel shows, and the choices it takes: of each, what there is; the first is taken where none is made."""

    shows: str
    choices: Mapping[str, tuple[str, ...]]


def panels(run: str | Path | SearchResult | Findings) -> dict[str, Drawable]:
    """Return the panels that a run can draw, by name.

    Args:
        run: a search's or a study's folder, or what `mddes.search` or `mddes.study.study` returned.

    Raises:
        InputError: no run there, or a damaged file.
    """
    return {
        name: Drawable(panel.shows, {choice: tuple(values) for choice, values in panel.values(rows).items()})
        for name, (panel, rows) in _found(run).items()
    }


def draw(
    run: str | Path | SearchResult | Findings, panel: str, ax: "Axes | None" = None, **choices: str | int
) -> "Figure":
    """Draw one panel of a run, with title and legend: what is shown, n and the spread.

    Args:
        run: as `panels` takes it.
        panel: a name of `panels(run)`.
        ax: draw here; default a figure of its own.
        choices: those of the panel; what is left out is the first there is.

    Returns:
        The figure that the axis belongs to.

    Raises:
        InputError: as `panels`; an unknown panel, choice or value; an `ax` that is no rectilinear axis.
    """
    from mddes.report.panel import alone

    found, rows = look_up("panel of this run", str(panel), _found(run))
    with _intact(run):
        picked, own = found.pick(rows, choices)
        return alone(found, picked, ax, **own)


def _found(run: str | Path | SearchResult | Findings) -> dict[str, tuple[Any, Rows]]:
    """Return the panels of a run that have rows, with their rows."""
    if isinstance(run, Findings):
        table, rows = _panels_of(run.study), run.rows
    elif isinstance(run, str | Path | SearchResult):
        table, rows = _read(run.run_dir if isinstance(run, SearchResult) else Path(run))
    else:
        raise InputError(f"a run is a folder, a SearchResult or a study's Findings, not a {type(run).__name__}")
    with _intact(run):
        there = {name: (panel, panel.prepare(rows)) for name, panel in table.items()}
    return {name: (panel, own) for name, (panel, own) in there.items() if own}


@contextmanager
def _intact(run: str | Path | SearchResult | Findings) -> Iterator[None]:
    """Say of rows that are not what their kind of run writes that they are damaged."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        where = run if isinstance(run, str | Path) else run.run_dir
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"the results of {where} are damaged, or another version's ({reason})") from error


def _panels_of(study: str) -> Mapping[str, Any]:
    module = look_up("study", study, STUDIES).figures.partition(":")[0]
    return dict(importlib.import_module(f"mddes.report.{module}").PANELS)


def _read(folder: Path) -> tuple[Mapping[str, Any], Rows]:
    from mddes.report import diagnostics, study_page

    if (folder / STUDY).is_file():
        results = study_page.read_results(folder)
        if not results:
            raise InputError(f"{folder} has no results yet: it has no {RESULTS}")
        return _panels_of(str(read_toml(folder / STUDY).get("study"))), results["rows"]
    if (folder / SEARCH).is_file():
        ledger = folder / "evaluations.jsonl"
        records = [*read(ledger).records.values()] if ledger.exists() else []
        return diagnostics.PANELS, diagnostics.search_rows(folder, read_toml(folder / SEARCH), records)
    raise InputError(f"{folder} is no run's folder: it has neither {SEARCH} nor {STUDY}")
