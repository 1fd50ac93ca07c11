"""The page of a search: the finding, the poison, the curves, how to do it again; finished or not."""

import json
import shlex
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from mddes.poison import Perturbation
from mddes.poison.perturbation_file import as_rows
from mddes.report.diagnostics import PANELS, search_rows, strategy_diagnostics
from mddes.report.figures import DPI, learning_curve
from mddes.report.page import Code, Page, Part, Picture, Section, Table
from mddes.report.panel import alone
from mddes.tasks import Record
from mddes.tasks.run_folder import read_json

MISMATCH = {
    "gap": "how much worse the network does on clean than on poisoned copies (cross-entropy, nats)",
    "mismatch": "the cross-entropy of its outputs on clean copies against its predictions on poisoned ones (nats)",
    "clean_ce": "its cross-entropy on clean copies (nats)",
}


def _method(config: Mapping[str, Any]) -> str:
    """Return what was done, as the settings say it."""
    how = "draws at random, as a rival of MDD-ES," if config.get("algorithm") == "random" else "searches, with CMA-ES,"
    where = "training" if config.get("fitness_data") == "train" else "held-out"
    return (
        f"This {how} for class-wise changes of a few pixels (MDD-ES: Chaudhury and Yamasaki, ICASSP 2020, arXiv "
        "2003.06646). For each candidate a network is trained from scratch on the poisoned training images; its "
        f"fitness is F = w_m F_m + w_d F_d, measured on {where} images: F_m, the semantic mismatch, is "
        f"{MISMATCH[config['mismatch']]}; F_d = 1 - 2 eps, the domain divergence, is how well a discriminator with "
        "error eps tells the two apart. Test images judge the winner, and choose nothing."
    )


def search_page(
    folder: Path, config: Mapping[str, Any], records: Sequence[Record], victims: int, banner: Sequence[str]
) -> Page:
    """Return the page of a search's folder.

    Args:
        folder: of the run.
        config: its settings.
        records: its evaluations, finalists included.
        victims: trainings for the comparison on test images.
        banner: what is unfinished or failed; empty for a run that ended well.

    Raises:
        InputError: a file of the folder is damaged.
    """
    summary = read_json(folder / "summary.json")
    summary = summary if isinstance(summary, dict) else {}
    winner = folder / "perturbation.json"
    perturbation = Perturbation.load(winner) if winner.exists() else None
    answer = [str(summary.get("sentence") or _so_far(records))]
    name = "Random search" if config.get("algorithm") == "random" else "MDD-ES"
    sections = [
        Section("Result", _result(summary)),
        Section("The poison", _poison(perturbation)),
        Section("The search", _curves(folder, config, records)),
        Section("Method", [_method(config)]),
        Section("Settings", [listed("setting", config)]),
        Section("Environment", [environment_table(folder)]),
        Section("Trainings", [_trainings(records, victims)]),
        Section("To do it again", _again(folder)),
    ]
    return Page(
        title=f"{name} on {Path(config['dataset']).stem}: {config['pixels']} pixel(s) per class, seed {config['seed']}",
        answer=answer,
        key=_key(folder),
        sections=[section for section in sections if section.parts],
        banner=banner,
    )


def _so_far(records: Sequence[Record]) -> str:
    done = [record["fitness"] for record in records if record["status"] == "done" and record["phase"] == "search"]
    if not done:
        return "Nothing has been trained yet."
    return (
        f"{len(done)} trainings of candidates so far; the best single fitness is {max(done):.3f}. None is judged yet."
    )


def _key(folder: Path) -> Picture | None:
    path = folder / "figures" / "poison.png"
    if not path.is_file():
        return None
    shown = "A training image of each class: clean above, poisoned in the middle, their difference below."
    return Picture(path.read_bytes(), shown, "The poison, with its pixels framed; in the difference gray is no change.")


def _result(summary: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    rows = [
        {
            "trained on": {"found": "found poison"}.get(name, name),
            "clean test accuracy (%), mean ± sd": _spread([100 * a for a in row["accuracies"]], 1),
            "n": str(len(row["accuracies"])),
            "each network": ", ".join(f"{100 * a:.1f}" for a in row["accuracies"]),
        }
        for name, row in summary.get("clean_test_accuracy", {}).items()
    ]
    if rows:
        parts.append(Table(rows, "On all test images, networks with seeds of their own; uniform: a new draw for each."))
    finalists = [
        {
            "finalist": str(finalist["source"]),
            "fitness in the search": "" if finalist["search_fitness"] is None else f"{finalist['search_fitness']:.3f}",
            "fitness on fresh seeds, mean ± sd": _spread(finalist["fresh"], 3),
            "n": str(len(finalist["fresh"])),
        }
        for finalist in summary.get("finalists", ())
    ]
    if finalists:
        parts.append(Table(finalists, "The first is the winner: the best mean on seeds that did not choose finalists."))
    return parts


def _poison(perturbation: Perturbation | None) -> list[Part]:
    if perturbation is None:
        return []
    how = "set to" if perturbation.mode == "set" else "added to, and clipped to 0 .. 255"
    told = as_rows(perturbation.change())
    table = Table(told, f"Row and column count from 0, top left; the pixel is {how} the value (8 bit, each channel).")
    figure = alone(PANELS["perturbation-map"], [{"perturbation": perturbation}])
    shown = "A grid of the image's size, with the number of each class at its pixels, shaded by value."
    return [table, picture(figure, shown, "Where each class is written.")]


def _curves(folder: Path, config: Mapping[str, Any], records: Sequence[Record]) -> list[Part]:
    parts: list[Part] = []
    if (folder / "generations.csv").is_file():
        shown = "Four panels over generations: fitness, semantic mismatch, domain divergence, held-out clean accuracy."
        parts.append(picture(learning_curve(folder / "generations.csv"), shown, "Learning curves of the search."))
    rows = search_rows(folder, config, records)
    if pairs := PANELS["fitness-scatter"].prepare(rows):
        shown = "Each candidate as a point: domain divergence across, semantic mismatch upwards, later ones darker."
        note = f"The two terms of the fitness, n = {len(pairs)} candidates, each the mean of its networks."
        parts.append(picture(alone(PANELS["fitness-scatter"], pairs), shown, note))
    if sampled := PANELS["coordinate-sd"].prepare(rows):
        shown = "Step size, spread of the sampled coordinates, and distance of the population from its start."
        note = "CMA-ES: sigma as it adapted it, and what was sampled, in units of the search cube."
        figure = strategy_diagnostics(PANELS["step-size"].prepare(rows), sampled)
        parts.append(picture(figure, shown, note))
    if timed := PANELS["timeline"].prepare(rows):
        shown = "A bar for each training, a line for each worker, over the hours of the run."
        parts.append(
            picture(alone(PANELS["timeline"], timed), shown, "Who trained when; gaps are waiting or resuming.")
        )
    return parts


def _trainings(records: Sequence[Record], victims: int) -> Part:
    failed = [record for record in records if record["status"] == "failed"]
    rows = [
        {"what": "candidates of the search", "trainings": str(sum(r["phase"] == "search" for r in records))},
        {"what": "finalists", "trainings": str(sum(r["phase"] != "search" for r in records))},
        {"what": "comparison on test images", "trainings": str(victims)},
        {"what": "failed, of the first two", "trainings": str(len(failed))},
    ]
    rows += [{"what": f"failed: {reason}", "trainings": ""} for reason in sorted({r["reason"] for r in failed})]
    return Table(rows)


def _again(folder: Path) -> list[Part]:
    lines = ["mddes search --config config.toml   # the settings above, as this folder holds them"]
    lines += [f"mddes resume {shlex.quote(folder.name)} --generations N   # to go on"]
    for command in [session.get("command") or [""] for session in _sessions(folder)[:1]]:
        first, *rest = (str(word) for word in command)
        if Path(first).name in ("mddes", "__main__.py"):  # from Python, argv says nothing of the search
            lines.append(f"{shlex.join(['mddes', *rest])}   # as it was begun")
    same = "On one kind of CPU and the same library versions the result is the same, bit for bit."
    return [Code("\n".join(lines)), same]


def environment_table(folder: Path) -> Table:
    """Return what a run's last session ran on."""
    sessions = _sessions(folder)
    last = sessions[-1] if sessions else {}
    flat = {k: v for k, v in last.items() if k not in ("libraries", "command", "threads")}
    flat |= {f"version of {k}": v for k, v in dict(last.get("libraries", {})).items()}
    return listed("what", flat | {"sessions": len(sessions)})


def _sessions(folder: Path) -> list[dict[str, Any]]:
    found = read_json(folder / "environment.json")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def picture(figure: Figure, alternative: str, caption: str) -> Picture:
    """Return a figure as a part of a page."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Picture(buffer.getvalue(), alternative, caption)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "none"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def listed(what: str, values: Mapping[str, Any]) -> Table:
    """Return named values as a table of two columns; what is no text stands as JSON."""
    return Table([{what: k, "value": v if isinstance(v, str) else json.dumps(v)} for k, v in values.items()])
