"""What a study of interpolation says in tables and sentences; the numbers come from `interpolation.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mddes.studies.findings import SIGNIFICANT

Cell = Mapping[str, Any]
WORDS = {
    "hessian_top_eigenvalue": "top Hessian eigenvalue",
    "hessian_trace": "Hessian trace",
    "average_sharpness": "average sharpness",
    "adaptive_average_sharpness": "adaptive average sharpness",
    "line_curvature": "curvature along the line",
    "test_accuracy": "test accuracy",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "generalization_gap": "generalisation gap",
    "norm": "norm of the weights",
    "distance_from_init": "distance from the start",
}
JUDGED = tuple(WORDS)[:5]  # what "sharper" can mean
DRAWN = ("hessian_trace", "average_sharpness", "adaptive_average_sharpness")  # estimated from random draws


def tables(cells: Sequence[Cell]) -> dict[str, list[dict[str, str]]]:
    """Return the tables by title; titles name the network where there are several."""
    found: dict[str, list[dict[str, str]]] = {}
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    for model in models:
        named = f", {model}" if len(models) > 1 else ""
        own = [cell for cell in cells if cell["model"] == model]
        found[f"At the ends{named} (MC: standard error of one value by its random draws)"] = [
            _end(cell) for cell in own if cell["kind"] == "end"
        ]
        found[f"On the line{named}"] = [_pair(cell) for cell in own if cell["kind"] == "pair"]
        found[f"First against second{named}"] = [_comparison(cell) for cell in own if cell["kind"] == "comparison"]
    return found


def _end(cell: Cell) -> dict[str, str]:
    row = {"poison": cell["row"], "solution": cell["end"]}
    row |= {"test accuracy": number(cell, "test_accuracy", 100, digits=1)}
    for name in ("train_loss", "test_loss", *JUDGED):
        row[WORDS[name]] = number(cell, name)
        if name in DRAWN and cell[f"{name}_error_mean"] is not None:
            row[WORDS[name]] += f" (MC {cell[f'{name}_error_mean']:.2g})"
    return {**row, "||w - w_0||": number(cell, "distance_from_init"), "pairs": _counted(cell)}


def _pair(cell: Cell) -> dict[str, str]:
    row = {"poison": cell["row"], "from": cell["first"], "to": cell["second"], "distance": number(cell, "distance")}
    for name in ("barrier_train", "barrier_test", "raw_barrier_train", "raw_barrier_test"):
        if cell[f"{name}_mean"] is not None or not name.startswith("raw"):
            row[name.replace("_", " ")] = number(cell, name)
    return {**row, "pairs": _counted(cell)}


def _comparison(cell: Cell) -> dict[str, str]:
    log = cell["scale"] == "log"
    middle, low, high = (cell[name] for name in (("ratio", "ratio_low", "ratio_high") if log else _DIFFERENCE))
    return {
        "poison": cell["row"],
        "quantity": WORDS[cell["quantity"]],
        f"{cell['first']} / {cell['second']}": f"{middle:.3g}" if log else "",
        f"{cell['first']} - {cell['second']}": "" if log or middle is None else f"{middle:+.3g}",
        "95 % interval, uncorrected": "" if low is None else f"{low:.3g} to {high:.3g}",
        "p (Holm)": "" if cell["p_holm"] is None else f"{cell['p_holm']:.2g}",
        "d_z": "" if cell["effect"] is None else f"{cell['effect']:+.1f}",
        "pairs": str(cell["pairs"]),
    }


_DIFFERENCE = ("difference", "low", "high")


def number(cell: Cell, name: str, times: float = 1, digits: int | None = None) -> str:
    """Return mean ± sd, to three digits unless decimals are given."""
    mean, std = cell[f"{name}_mean"], cell[f"{name}_std"]
    if mean is None:
        return "failed" if not cell["n"] else "not finite"
    how = ".3g" if digits is None else f".{digits}f"
    return f"{times * mean:{how}}" + ("" if std is None else f" ± {times * std:{'.2g' if digits is None else how}}")


def _counted(cell: Cell) -> str:
    return str(cell["n"]) + (f" ({cell['failed']} failed)" if cell["failed"] else "")


def sentences(cells: Sequence[Cell]) -> list[str]:
    """Return, for each poison and network, whether the first solution is sharper, by every measure."""
    said = []
    for row, model in dict.fromkeys((cell["row"], cell["model"]) for cell in cells):
        own = [cell for cell in cells if (cell["row"], cell["model"]) == (row, model)]
        ends = [cell for cell in own if cell["kind"] == "end"]
        compared = {cell["quantity"]: cell for cell in own if cell["kind"] == "comparison"}
        if not compared:
            continue
        first, second = ends[0]["end"], ends[1]["end"]
        text = f"{ends[0]['dataset']}, {model}, {row}: is the {first} solution sharper than the {second} one? "
        text += "; ".join(f"{WORDS[name]} {_answer(compared[name], ends)}" for name in JUDGED)
        accuracy = " and ".join(f"{number(end, 'test_accuracy', 100, digits=1)} %" for end in ends)
        loss = " and ".join(number(end, "train_loss") for end in ends)
        pair = next(cell for cell in own if cell["kind"] == "pair")
        text += (
            f". Test accuracy {accuracy}, training loss {loss}; barrier on the line {number(pair, 'barrier_train')} "
        )
        text += f"in training and {number(pair, 'barrier_test')} in test loss (n = {ends[0]['n']} pairs, mean ± sd; "
        said.append(f"{text}ratios of geometric means; p after Holm's correction).")
    return said


def answer(cells: Sequence[Cell]) -> list[str]:
    """Return in two sentences by how many measures the first solution is sharper or flatter, and both accuracies."""
    verdicts, accuracies, pairs = [], [], set()
    models = len({cell["model"] for cell in cells})
    for row, model in dict.fromkeys((cell["row"], cell["model"]) for cell in cells):
        own = [cell for cell in cells if (cell["row"], cell["model"]) == (row, model) and cell["n"]]
        ends = [cell for cell in own if cell["kind"] == "end"]
        tested = [cell for cell in own if cell["kind"] == "comparison" and cell["quantity"] in JUDGED]
        if not tested:
            continue
        apart = [c["difference"] > 0 for c in tested if c["p_holm"] is not None and c["p_holm"] < SIGNIFICANT]
        name = f"{row} ({model})" if models > 1 else row
        verdicts.append(f"{name}, sharper by {sum(apart)}, flatter by {len(apart) - sum(apart)}")
        accuracies.append(f"{name} {' and '.join(number(end, 'test_accuracy', 100, digits=1) for end in ends)}")
        pairs.add(ends[0]["n"])
    if not verdicts:
        return []
    first, second = ends[0]["end"], ends[1]["end"]
    told = f"{ends[0]['dataset']}, the {first} solution against the {second} one, of {len(JUDGED)} measures of "
    told += f"sharpness (p < {SIGNIFICANT:g} after Holm's correction): {'; '.join(verdicts)}."
    accuracy = f"Clean test accuracy of {first} and {second}, in percent: {'; '.join(accuracies)} "
    return [told, f"{accuracy}(n = {'/'.join(map(str, sorted(pairs)))} pairs, mean ± sd)."]


def _answer(cell: Cell, ends: Sequence[Cell]) -> str:
    values = " against ".join(number(end, cell["quantity"]) for end in ends)
    if cell["difference"] is None:
        return values
    p = cell["p_holm"]
    apart = f"ratio {cell['ratio']:.2g}" if cell["scale"] == "log" else f"difference {cell['difference']:+.2g}"
    if p is None:
        return f"{values} ({apart}, no test): cannot be told"
    answer = "cannot be told" if p >= SIGNIFICANT else "sharper" if cell["difference"] > 0 else "flatter"
    return f"{values} ({apart}, p = {p:.2g}): {answer}"
