"""What a study of optimizers says in tables and sentences; the numbers come from `optimizers.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mddes.studies.findings import SIGNIFICANT, percent, slashed, verdict
from mddes.studies.statistics import Summary

Cell = Mapping[str, Any]
DEFAULT = "default"  # the way of one who tunes nothing
CHOSEN_BY = {
    "poisoned": "chosen on poisoned held-out images",
    "clean": "chosen by an oracle on clean held-out images",
    DEFAULT: "left at the default",
}


def tables(cells: Sequence[Cell], optimizers: Sequence[str], reference: str) -> dict[str, list[dict[str, str]]]:
    """Return the tables by title; titles name the network where there are several."""
    found: dict[str, list[dict[str, str]]] = {}
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    for model in models:
        named = f", {model}" if len(models) > 1 else ""
        own = [cell for cell in cells if cell["model"] == model]
        final = [cell for cell in own if cell["kind"] == "chosen"]
        ways = {way: words for way, words in CHOSEN_BY.items() if any(cell["selection"] == way for cell in final)}
        for way, words in ways.items():
            chosen = [cell for cell in final if cell["selection"] == way]
            found[f"Clean test accuracy, learning rate {words}{named}"] = _grid(chosen, optimizers, accuracy_text)
        tuned = [cell for cell in final if cell["selection"] != DEFAULT]
        found[f"Learning rates, poisoned / clean choice{named}"] = _rates(tuned, optimizers)
        found[f"Against {reference}{named}"] = _comparisons(final)
        for way, words in ways.items():
            chosen = [cell for cell in final if cell["selection"] == way]
            found[f"Pixel-follow rate (%), {words}{named}"] = _grid(chosen, optimizers, _followed)
            loss = f"Training loss reached (nats, on poisoned images), {words}{named}"
            found[loss] = _grid(chosen, optimizers, _loss)
            earlier = [cell for cell in own if cell["kind"] == "epoch" and cell["selection"] == way]
            for epoch in sorted({cell["epoch"] for cell in earlier}):
                at = [cell for cell in earlier if cell["epoch"] == epoch]
                title = f"Clean test accuracy after {epoch} epoch(s), {words}{named}"
                found[title] = _grid(at, optimizers, accuracy_text)
    return found


def sentences(cells: Sequence[Cell], reference: str) -> list[str]:
    """Return, for each poison and each way to choose, which optimizers beat the reference, which it beats."""
    said = []
    final = [cell for cell in cells if cell["kind"] == "chosen" and cell["n"]]
    places = dict.fromkeys((cell["row"], cell["model"]) for cell in final)
    for row, model in sorted(places, key=lambda place: place[0] == "clean"):  # what a poison does comes first
        for way, words in CHOSEN_BY.items():
            own = [c for c in final if (c["row"], c["model"], c["selection"]) == (row, model, way)]
            if not own:
                continue
            best = max(own, key=lambda cell: cell["clean_test_accuracy_mean"])
            worst = min(own, key=lambda cell: cell["clean_test_accuracy_mean"])
            text = f"{best['dataset']}, {model}, {row}, {words}: highest {best['optimizer']} ({accuracy_text(best)}), "
            text += f"lowest {worst['optimizer']} ({accuracy_text(worst)})"
            for relation in ("higher than", "lower than", "not distinguishable from", "not tested against"):
                names = [
                    f"{c['optimizer']} ({100 * c['vs_reference_difference']:+.1f})"
                    for c in own
                    if "vs_reference_difference" in c
                    and verdict(c["vs_reference_difference"], c.get("vs_reference_p_holm")) == relation
                ]
                text += f"; {relation} {reference}: {', '.join(names)}" if names else ""
            tested = any(c.get("vs_reference_p_holm") is not None for c in own)
            level = f", p < {SIGNIFICANT:g} after Holm's correction" if tested else ""
            n = slashed(cell["n"] for cell in own)
            said.append(f"{text} (n = {n}, mean ± sd{level}).")
    if stuck := [cell for cell in final if cell["learned_nothing"]]:
        each = {(c["model"], c["row"], c["optimizer"], c["lr"]): c["learned_nothing"] for c in stuck}
        where = ", ".join(f"{m}, {name} at {lr:g} under {row} ({count})" for (m, row, name, lr), count in each.items())
        said.append(
            "Some fresh networks learned nothing (they have no more of their training images right than the largest "
            f"class has), and stay in the means: {where}."
        )
    tuned = [cell for cell in final if cell["selection"] != DEFAULT]
    edges = [cell for cell in tuned if cell["edge"]]
    if edges:
        said.append(
            f"{len(edges)} of {len(tuned)} chosen learning rates lie at the end of their sweep (marked *): a wider one "
            "could find better."
        )
    return said


def answer(cells: Sequence[Cell], reference: str) -> list[str]:
    """Return, in a sentence for each way to choose, the highest, the lowest and what is told apart, by poison."""
    said = []
    final = [cell for cell in cells if cell["kind"] == "chosen" and cell["n"]]
    models = len({cell["model"] for cell in final})
    places = [*dict.fromkeys((cell["row"], cell["model"]) for cell in final if cell["row"] != "clean")]
    for way, words in CHOSEN_BY.items():
        parts = []
        for row, model in places:
            own = [c for c in final if (c["row"], c["model"], c["selection"]) == (row, model, way)]
            ranked = sorted(own, key=lambda cell: float(cell["clean_test_accuracy_mean"]))
            if ranked:
                name = f"{row} ({model})" if models > 1 else row
                ends = " and ".join(f"{c['optimizer']} ({accuracy_text(c)})" for c in (ranked[-1], ranked[0]))
                parts.append(f"{name}: {ends}{_told_apart(own, reference)}")
        if parts:
            own = [cell for cell in final if cell["selection"] == way]
            n = slashed(cell["n"] for cell in own)
            start = f"{final[0]['dataset']}, rates {words}, highest and lowest clean test accuracy"
            said.append(f"{start} under {'; '.join(parts)} (n = {n}, mean ± sd).")
    return said


def _told_apart(cells: Sequence[Cell], reference: str) -> str:
    tested = [cell for cell in cells if cell.get("vs_reference_p_holm") is not None]
    if not tested:
        return ""
    apart = [
        f"{cell['optimizer']} ({100 * cell['vs_reference_difference']:+.1f})"
        for cell in tested
        if cell["vs_reference_p_holm"] < SIGNIFICANT
    ]
    return f", told apart from {reference}: {', '.join(apart) or 'none'}"


def accuracy_text(cell: Cell) -> str:
    """Return mean ± sd in percent, and how many of the networks learned nothing, if any did."""
    mean = cell["clean_test_accuracy_mean"]
    summary = None if mean is None else Summary(cell["n"], mean, cell["clean_test_accuracy_std"], None, None)
    nothing = f", {cell['learned_nothing']} learned nothing" if cell["learned_nothing"] else ""
    return percent(summary, cell["failed"]) + nothing


def _grid(cells: Sequence[Cell], optimizers: Sequence[str], text: Any) -> list[dict[str, str]]:
    """Return a row for each poison, a column for each optimizer."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        row = rows.setdefault(cell["row"], {"poison": cell["row"], "mode": cell["mode"] or ""})
        row[cell["optimizer"]] = text(cell)
    return [{"poison": "", "mode": "", **dict.fromkeys(optimizers, ""), **row} for row in rows.values()]


def _rates(cells: Sequence[Cell], optimizers: Sequence[str]) -> list[dict[str, str]]:
    ways: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        rate = "none" if cell["lr"] is None else f"{cell['lr']:g}" + ("*" if cell["edge"] else "")
        ways.setdefault((cell["row"], cell["optimizer"]), {})[cell["selection"]] = rate
    rows: dict[str, dict[str, str]] = {}
    for (row, optimizer), found in ways.items():
        both = list(dict.fromkeys(found.values()))
        rows.setdefault(row, {"poison": row})[optimizer] = " / ".join(both)
    return [{"poison": "", **dict.fromkeys(optimizers, ""), **row} for row in rows.values()]


def _followed(cell: Cell) -> str:
    return "" if cell["pixel_follow_rate"] is None else f"{100 * cell['pixel_follow_rate']:.0f}"


def _loss(cell: Cell) -> str:
    return "" if cell["poisoned_train_loss"] is None else f"{cell['poisoned_train_loss']:.3f}"


def _comparisons(cells: Sequence[Cell]) -> list[dict[str, str]]:
    rows = []
    for cell in cells:
        if "vs_reference_difference" not in cell:
            continue
        low, high = cell["vs_reference_low"], cell["vs_reference_high"]
        p, effect = cell.get("vs_reference_p_holm"), cell["vs_reference_effect"]
        rows.append(
            {
                "poison": cell["row"],
                "chosen on": cell["selection"],
                "optimizer": cell["optimizer"],
                "points": f"{100 * cell['vs_reference_difference']:+.1f}",
                "95 % interval, uncorrected": "" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}",
                "p (Holm)": "" if p is None else f"{p:.2g}",
                "d_z": "" if effect is None else f"{effect:+.1f}",
                "pairs": str(cell["vs_reference_n"]),
            }
        )
    return rows
