"""How measures of solutions go together: Kendall's tau-b over all solutions of a study, and within each poison.

A solution is a point: one end of one pair on one poison. Solutions of one poison share its images, and a poison moves
sharpness and accuracy alike, so that pooled poisons can show an association that none of them has (Simpson's paradox);
hence also within each poison. Solutions are not independent, so there is no p, and nothing here is causal. Read next:
`statistics.kendall`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean
from typing import Any

from mddes.studies.interpolation_text import JUDGED, WORDS
from mddes.studies.statistics import kendall
from mddes.tasks import Record

ALL = "all"
DECIMALS = 12  # accuracies differ by 1 / images; rounding errors do not
TARGETS = ("test_accuracy", "generalization_gap")
QUANTITIES = (*JUDGED, "norm", "distance_from_init", "train_loss", "test_loss", *TARGETS)
Cell = Mapping[str, Any]
Points = dict[str, list[float | None]]


def correlation_cells(start: Mapping[str, Any], poisons: Mapping[str, Sequence[Record]]) -> list[dict[str, Any]]:
    """Return a row for each pair of quantities, over all solutions and within each poison.

    Args:
        start: what all rows say: dataset and model.
        poisons: the pairs' records that are done, by poison.
    """
    there = {name: points(records) for name, records in poisons.items() if records}
    pooled = {name: [value for own in there.values() for value in own[name]] for name in QUANTITIES}
    cells = []
    for within, own in [(ALL, pooled), *there.items()]:
        for first, second in combinations(QUANTITIES, 2):
            tau, n = kendall(own[first], own[second])
            cell = {**start, "kind": "correlation", "within": within}
            cell["training_sets"] = len(there) if within == ALL else 1
            cells.append({**cell, "first": first, "second": second, "tau": tau, "n": n})
    return cells if there else []


def points(records: Sequence[Record]) -> Points:
    """Return every quantity of every solution: both ends of each pair, one after the other.

    The gap is training accuracy (of the images as trained on) minus clean test accuracy; rounded, so that equal gaps
    are ties.
    """
    found: Points = {name: [end for record in records for end in record[name]] for name in QUANTITIES[:-1]}
    ends = [pair for record in records for pair in zip(record["train_accuracy"], record["test_accuracy"], strict=True)]
    return {**found, QUANTITIES[-1]: [round(train - test, DECIMALS) for train, test in ends]}


def correlation_tables(cells: Sequence[Cell]) -> dict[str, list[dict[str, str]]]:
    """Return the tables by title: a line a measure, against test accuracy and gap."""
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    found = {}
    for model in models:
        own = [cell for cell in cells if cell["model"] == model]
        named = f", {model}" if len(models) > 1 else ""
        found[f"Kendall's tau-b over solutions{named}"] = [_line(own, name) for name in QUANTITIES[: -len(TARGETS)]]
    return found


def _line(cells: Sequence[Cell], name: str) -> dict[str, str]:
    row = {"measure": WORDS[name]}
    for target in TARGETS:
        pooled, *within = [cell for cell in cells if (cell["first"], cell["second"]) == (name, target)]
        row[WORDS[target]] = f"{_signed(pooled['tau'])} (n = {pooled['n']})"
        row[f"{WORDS[target]}, within a training set"] = _within(within)
    return row


def _within(cells: Sequence[Cell]) -> str:
    """Return the mean of the poisons' own taus and their range."""
    taus = [cell["tau"] for cell in cells if cell["tau"] is not None]
    if not taus:
        return "undefined"
    between = f" ({min(taus):+.2f} to {max(taus):+.2f})" if len(taus) > 1 else ""
    return f"{mean(taus):+.2f}{between}"


def _signed(tau: float | None) -> str:
    return "undefined" if tau is None else f"{tau:+.2f}"


def correlation_sentences(cells: Sequence[Cell]) -> list[str]:
    """Return, for each network, how the measures of sharpness go with test accuracy, and what that does not say."""
    said = []
    for model in dict.fromkeys(cell["model"] for cell in cells):
        own = [cell for cell in cells if cell["model"] == model and cell["second"] == "test_accuracy"]
        pooled = {cell["first"]: cell for cell in own if cell["within"] == ALL}
        parts = []
        for name in JUDGED:
            within = _within([cell for cell in own if cell["first"] == name and cell["within"] != ALL])
            parts.append(f"{WORDS[name]} {_signed(pooled[name]['tau'])}, within {within}")
        n = max(cell["n"] for cell in pooled.values())
        said.append(
            f"{own[0]['dataset']}, {model}: Kendall's tau-b with clean test accuracy over {n} solutions of "
            f"{own[0]['training_sets']} training sets (clean or poisoned), and within each of them, mean and range: "
            f"{'; '.join(parts)}. This says "
            "what goes together, not what causes it: poisons move sharpness and accuracy alike, solutions share "
            "poisons and optimizers, and there is no test."
        )
    return said
