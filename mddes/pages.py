"""Reports of run folders: a search, a study, or a folder of several, as one HTML file each or as Markdown.

What a page says is made in `report/`; here it is found out what a folder holds and how far it is. Nothing in a run's
folder is changed but the report.
"""

import dataclasses
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mddes.compute import ComputeSettings
from mddes.config_file import read_config, read_toml
from mddes.errors import InputError, look_up
from mddes.search.config import SearchConfig
from mddes.status import Status, status
from mddes.studies.standing import Standing, standing
from mddes.study import CONFIG, LEDGER
from mddes.tasks.ledger import Content, read
from mddes.tasks.run_folder import read_json
from mddes.version import __version__
from mddes.writing import replace_file

log = logging.getLogger(__name__)

FORMATS = {"html": "report.html", "md": "report.md"}
# Settings in which runs of one protocol may differ: the draw, and where they were carried out.
NO_PROTOCOL = {"seed", "out", "data_dir", "tensorboard", *(field.name for field in dataclasses.fields(ComputeSettings))}


def write_report(run_dir: str | Path, *, format: str = "html") -> Path:  # noqa: A002  the option's name
    """Write the report of a run's folder, or of a folder of several and of each of them.

    Args:
        run_dir: a search's folder, a study's, or one that holds some.
        format: "html", one file without need of a network; or "md".

    Returns:
        The report's file: report.html or report.md in the run's folder; index.html or index.md beside several.

    Raises:
        InputError: no run there, an unknown format, or a damaged file.
        OSError: the report cannot be written.
    """
    look_up("format", format, FORMATS)
    folder = Path(run_dir).resolve()
    if _is_run(folder):
        return _write_one(folder, format)[0]
    runs = sorted(path for path in folder.iterdir() if _is_run(path)) if folder.is_dir() else []
    if not runs:
        raise InputError(f"{folder} is no run's folder, and holds none")
    return _write_index(folder, runs, format)


def _is_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file() or (folder / CONFIG).is_file()


def _write_one(folder: Path, kind: str) -> tuple[Path, Any, str]:
    from mddes.report import page, search_page, study_page

    if (folder / CONFIG).is_file():
        settings = read_toml(folder / CONFIG)
        where = standing(folder, LEDGER)
        name = str(settings.get("study", "unknown"))
        made = study_page.study_page(folder, name, settings, _unfinished(folder, where))
        state = where.state
    else:
        search = status(folder)
        settings = read_toml(folder / "config.toml")
        known = read(folder / "evaluations.jsonl") if (folder / "evaluations.jsonl").exists() else Content()
        records = [*known.records.values()]
        made = search_page.search_page(folder, _whole(folder), records, search.victims, _unfinished(folder, search))
        state = search.state
    footer = f"Written by mddes {__version__} from {folder.resolve().name}."
    made = page.with_footer(made, footer)
    path = folder / FORMATS[kind]
    replace_file(path, page.as_html(made) if kind == "html" else page.as_markdown(made))
    return path, made, state


def _whole(folder: Path) -> dict[str, Any]:
    """Return a search's settings with those that its file leaves to their defaults."""
    config = read_config(folder / "config.toml", SearchConfig)
    return {name: value for name, value in vars(config).items() if value is not None}


def _unfinished(folder: Path, where: Status | Standing) -> list[str]:
    """Return what a reader must know before all else."""
    said = []
    if where.state == "running":
        said.append(f"This run is not finished: {where.driver} is running it.")
    if where.state == "stopped":
        said.append(f"This run is not finished: it has stopped. To go on: mddes resume {shlex.quote(folder.name)}")
    failed = where.accounts.failed
    if failed:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in where.accounts.reasons.items())
        said.append(f"{failed} trainings failed: {reasons}")
    return said


def _write_index(folder: Path, runs: list[Path], kind: str) -> Path:
    from mddes.report import index_page, page

    found, damaged = [], []
    for run in runs:
        try:
            path, made, state = _write_one(run, kind)
        except InputError as error:
            log.warning("no report of %s: %s", run.name, error)
            damaged.append(f"{run.name}: {error}")
            continue
        settings = read_toml(run / (CONFIG if (run / CONFIG).is_file() else "config.toml"))
        what = f"study {settings['study']}" if "study" in settings else "search"
        found.append(
            index_page.Run(
                name=run.name,
                kind=what,
                title=made.title,
                state=state,
                answer=" ".join(made.answer),
                report=path.name,
                protocol=_protocol(what, settings),
                seed=settings.get("seed", 0),
                accuracies=_accuracies(run) if state == "finished" else {},
            )
        )
    if not found:
        raise InputError(f"{folder}: no report could be made; {damaged[0]}")
    made = page.with_footer(
        index_page.index_page(folder.resolve().name, found, damaged), f"Written by mddes {__version__}."
    )
    path = folder / ("index.html" if kind == "html" else "index.md")
    replace_file(path, page.as_html(made) if kind == "html" else page.as_markdown(made))
    return path


def _protocol(what: str, settings: Mapping[str, Any]) -> str:
    """Return what runs must share to stand side by side: all settings but the seed and where it was carried out."""
    shared = {k: v for k, v in settings.items() if k not in NO_PROTOCOL}
    return f"{what}, {', '.join(f'{k} {v}' for k, v in sorted(shared.items()))}"


def _accuracies(folder: Path) -> dict[str, float]:
    summary = read_json(folder / "summary.json")
    rows = summary.get("clean_test_accuracy", {}) if isinstance(summary, dict) else {}
    return {str(name): float(row["mean"]) for name, row in rows.items()}
