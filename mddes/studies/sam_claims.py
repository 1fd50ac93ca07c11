"""What the runs of `studies.sam` say about the claims of the paper "Multi-Perturbation SAM" (its sections 5 and 6).

Its claims: accuracy rises along `HIERARCHY`; "statistically significant improvements" over SAM in five runs, and lower
variance; "superior robustness" under shift; k + 1 passes against 2. A claim holds, or is contradicted, where a paired
test corrected for all tests of its kind (Holm) says so, and is open otherwise. Tests of its kind: accuracies; spreads;
accuracies under shift; each over all problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from mddes.studies.findings import SIGNIFICANT, limits
from mddes.studies.statistics import (
    Summary,
    compare_pairs,
    compare_spreads,
    detectable_effect,
    holm,
    summarise,
    welch,
)
from mddes.tasks import Record

HIERARCHY = ("momentum", "sam", "mp-sam-random", "mp-sam-mixed", "mp-sam-adaptive")  # from worst to best, the paper
FIVE = 5  # its number of runs
# Its section 5.2, percent; five runs each.
PUBLISHED = {
    "sam": Summary(FIVE, 92.95, 1.00, None, None),
    "mp-sam-mixed": Summary(FIVE, 93.50, 0.50, None, None),
    "mp-sam-adaptive": Summary(FIVE, 94.05, 0.70, None, None),
}
SHIFTED = (("mp-sam-adaptive", "sam"), ("mp-sam-adaptive", "momentum"), ("sam", "momentum"))  # its section 5.3
Row = dict[str, Any]


@dataclass
class Runs:
    """The runs of a method on a problem: records by the run's number, of those that did not fail."""

    problem: str
    method: str
    severities: Sequence[float]
    done: dict[int, Record] = field(default_factory=dict)
    failed: int = 0

    @property
    def name(self) -> str:
        """The method without its number of perturbations."""
        return self.method.partition("/")[0]

    def add(self, run: int, record: Record) -> None:
        """Take in a record."""
        if record["status"] == "done":
            self.done[run] = record
        else:
            self.failed += 1

    def values(self, measure: str, least: int = 0, below: int | None = None) -> dict[int, float]:
        """Return a number of the records by run, of the runs `least` <= run < `below`; a severity is a measure too."""
        found = {run: record for run, record in self.done.items() if run >= least and (below is None or run < below)}
        if measure in map(shifted, self.severities):
            i = [*map(shifted, self.severities)].index(measure)
            return {run: record["shifted_accuracy"][i] for run, record in found.items()}
        return {run: record[measure] for run, record in found.items()}


def shifted(severity: float) -> str:
    """Return the name of the accuracy under a shift.

    >>> shifted(0.5)
    'shifted_accuracy_0.5'
    """
    return f"shifted_accuracy_{severity:g}"


def method_row(runs: Runs, rivals: Sequence[Runs]) -> Row:
    """Return the numbers of a method on a problem; its time is also told over that of each rival."""
    accuracies = runs.values("test_accuracy")
    row: Row = {"kind": "method", "problem": runs.problem, "method": runs.method, "failed": runs.failed}
    row["n"] = len(accuracies)
    measures = ["test_accuracy", "train_accuracy", "generalization_gap", *map(shifted, runs.severities)]
    for measure in measures:
        values = [*runs.values(measure).values()]
        spread = summarise(values) if values else None
        ends = vars(spread) if spread and measure == "generalization_gap" else limits(spread)
        row |= {f"{measure}_{name}": ends[name] for name in ("mean", "std", "low", "high")}
    first, five = runs.values("test_accuracy", 0, 1), [*runs.values("test_accuracy", 0, FIVE).values()]
    row["first_run"] = first.get(0)
    row["five_mean"] = summarise(five).mean if five else None
    row["five_std"] = summarise(five).std if five else None
    done = runs.done.values()
    row["epochs"] = median(r["epochs"] for r in done) if done else None
    row["kept_epoch"] = median(r["kept_epoch"] for r in done) if done else None
    row["passes_per_step"] = next((r["passes"] / r["steps"] for r in done), None)
    return row | _times(runs, rivals) | {"accuracies": [*accuracies.values()]}


def _times(runs: Runs, rivals: Sequence[Runs]) -> Row:
    """Return the seconds of an epoch, and their ratio to each rival's in the same run and process: median, range."""

    def of(record: Record) -> float:
        return float(record["seconds"]) / float(record["epochs"])

    row: Row = {"seconds_per_epoch": median(map(of, runs.done.values())) if runs.done else None}
    for rival in rivals:
        pairs = [(own, rival.done[run]) for run, own in runs.done.items() if run in rival.done]
        ratios = [of(own) / of(other) for own, other in pairs if own["worker"] == other["worker"] and of(other) > 0]
        row[f"seconds_over_{rival.name}"] = median(ratios) if ratios else None
        row[f"seconds_over_{rival.name}_least"] = min(ratios, default=None)
        row[f"seconds_over_{rival.name}_most"] = max(ratios, default=None)
    return row


def comparisons_of(groups: Sequence[Runs]) -> list[Row]:
    """Return all comparisons, each kind corrected together."""
    rows = []
    for problem in dict.fromkeys(runs.problem for runs in groups):
        own = [runs for runs in groups if runs.problem == problem]
        rows += [_compared(a, b, "test_accuracy") for a, b in _claimed(own)]
        for severity in own[0].severities:
            rows += [_compared(a, b, shifted(severity)) for a in own for b in own if (a.name, b.name) in SHIFTED]
    rows = [row for row in rows if row["n"]]
    for clean in (True, False):
        kind = {str(i): row for i, row in enumerate(rows) if (row["measure"] == "test_accuracy") == clean}
        for p in ("p", "spread_p"):
            corrected = holm({i: row[p] for i, row in kind.items() if row[p] is not None})
            for i, row in kind.items():
                row[f"{p}_holm"] = corrected.get(i)
    return rows


def _claimed(own: Sequence[Runs]) -> list[tuple[Runs, Runs]]:
    """Return what the paper says is (better, worse): neighbours in its hierarchy, and every average of several, SAM."""
    there = [name for name in HIERARCHY if any(runs.name == name for runs in own)]
    names = [(better, worse) for worse, better in pairwise(there)]
    names += [(runs.name, "sam") for runs in own if runs.name.startswith("mp-")]
    return [
        (a, b)
        for better, worse in dict.fromkeys(names)
        for a in own
        for b in own
        if (a.name, b.name) == (better, worse)
    ]


def _compared(first: Runs, second: Runs, measure: str) -> Row:
    a, b = first.values(measure), second.values(measure)
    runs = sorted(a.keys() & b.keys())
    row: Row = {"kind": "comparison", "problem": first.problem, "measure": measure, "n": len(runs)}
    row |= {"first": first.method, "second": second.method}
    if not runs:
        return row
    x, y = [a[run] for run in runs], [b[run] for run in runs]
    c = compare_pairs(x, y)
    row |= {name: getattr(c, name) for name in ("difference", "low", "high", "p", "effect")}
    effect, std = detectable_effect(c.n), summarise([u - v for u, v in zip(x, y, strict=True)]).std
    row["detectable"] = effect * std if effect is not None and std else None
    spreads = compare_spreads(x, y) if measure == "test_accuracy" else None
    row["spread_ratio"], row["spread_p"] = spreads or (None, None)
    few = [run for run in runs if run < FIVE]
    five = compare_pairs([a[r] for r in few], [b[r] for r in few]) if few else None
    row["five_difference"], row["five_p"] = (five.difference, five.p) if five else (None, None)
    row["five_welch_p"] = welch(summarise([a[r] for r in few]), summarise([b[r] for r in few])) if few else None
    return row | _in_fives(a, b, runs)


def _in_fives(a: Mapping[int, float], b: Mapping[int, float], runs: Sequence[int]) -> Row:
    """Return how five runs alone would have judged, again and again: groups, and those that call the first better."""
    groups = [range(start, start + FIVE) for start in range(0, max(runs) + 1, FIVE)]
    whole = [([a[r] for r in group], [b[r] for r in group]) for group in groups if {*group} <= {*runs}]
    above = [(x, y) for x, y in whole if sum(x) > sum(y)]
    tested = [welch(summarise(x), summarise(y)) for x, y in above]
    found = sum(p is not None and p < SIGNIFICANT for p in tested)
    return {"fives": len(whole), "fives_above": len(above), "fives_significant": found}


def standing(difference: float, p: float | None) -> str:
    """Return what a corrected test says about the claim that a difference is above 0.

    >>> standing(0.01, 0.001), standing(-0.01, 0.001), standing(0.01, 0.2), standing(0.0, None)
    ('holds', 'contradicted', 'open', 'open')
    """
    if p is None or p >= SIGNIFICANT:
        return "open"
    return "holds" if difference > 0 else "contradicted"
