"""The tables and sentences of `studies.sam`: the paper's three experiments, its claims, and what became of them."""

from collections.abc import Sequence
from itertools import pairwise
from math import factorial
from typing import Any

from mddes.studies.findings import slashed
from mddes.studies.sam_claims import FIVE, HIERARCHY, PUBLISHED, Row, Runs, shifted, standing
from mddes.studies.statistics import welch


def tables(
    rows: Sequence[Row], compared: Sequence[Row], severities: Sequence[float]
) -> dict[str, list[dict[str, str]]]:
    """Return the study's tables by title, from its rows."""
    accuracy = [row for row in compared if row["measure"] == "test_accuracy"]
    under_shift = [row for row in compared if row["measure"] != "test_accuracy"]
    n = slashed(row["n"] for row in rows)
    return {
        "Test accuracy in percent, a single run": _by_problem(rows, lambda r: _percent(r["first_run"])),
        "Test accuracy in percent, the first five runs (mean ± sd)": _by_problem(
            rows, lambda r: _percent(r["five_mean"], r["five_std"])
        ),
        "The first five runs, tested (uncorrected)": [_five(row) for row in accuracy],
        f"Test accuracy in percent, all runs (mean ± sd; n = {n})": _by_problem(
            rows, lambda r: _percent(r["test_accuracy_mean"], r["test_accuracy_std"])
        ),
        "All runs, tested pair by pair": [_all(row) for row in accuracy],
        "Spread between runs (Pitman-Morgan)": [_spread(row) for row in accuracy if row["spread_p"] is not None],
        "Accuracy in percent under distribution shift (mean ± sd)": [_shift(row, severities) for row in rows],
        "Distribution shift, tested pair by pair": [_all(row) for row in under_shift],
        "Cost": [_cost(row) for row in rows],
    }


def _by_problem(rows: Sequence[Row], text: Any) -> list[dict[str, str]]:
    problems = dict.fromkeys(row["problem"] for row in rows)
    found = {(row["problem"], row["method"]): text(row) for row in rows}
    methods = dict.fromkeys(row["method"] for row in rows)
    return [{"method": m, **{p: found.get((p, m), "") for p in problems}} for m in methods]


def _percent(mean: float | None, std: float | None = None) -> str:
    if mean is None:
        return "failed"
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def _points(value: float | None) -> str:
    return "" if value is None else f"{round(100 * value, 2) + 0.0:+.2f}"  # no -0.00


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _head(row: Row) -> dict[str, str]:
    shift = {} if row["measure"] == "test_accuracy" else {"severity": row["measure"].rpartition("_")[2]}
    return {"problem": row["problem"], **shift, "method": row["first"], "minus": row["second"]}


def _five(row: Row) -> dict[str, str]:
    return {
        **_head(row),
        "points": _points(row["five_difference"]),
        "p (Welch)": _p(row["five_welch_p"]),
        "p (paired)": _p(row["five_p"]),
    }


def _all(row: Row) -> dict[str, str]:
    interval = "" if row["effect"] is None else f"{_points(row['low'])} to {_points(row['high'])}"
    return {
        **_head(row),
        "points": _points(row["difference"]),
        "95 % interval, uncorrected": interval,
        "p (Holm)": _p(row["p_holm"]),
        "d_z": "" if row["effect"] is None else f"{round(row['effect'], 2) + 0.0:+.2f}",
        "pairs": str(row["n"]),
        "80 % power from": "" if row["detectable"] is None else f"{100 * row['detectable']:.2f}",
        "claim": standing(row["difference"], row["p_holm"]),
    }


def _spread(row: Row) -> dict[str, str]:
    return {**_head(row), "sd ratio": f"{row['spread_ratio']:.2f}", "p (Holm)": _p(row["spread_p_holm"])}


def _shift(row: Row, severities: Sequence[float]) -> dict[str, str]:
    """Return the line of a method; a gap is training accuracy less accuracy under the shift, in points."""
    cells = {"none": _percent(row["test_accuracy_mean"], row["test_accuracy_std"])}
    gaps = {"gap without shift": _percent(row["generalization_gap_mean"])}
    train = row["train_accuracy_mean"]
    for t in severities:
        mean = row[f"{shifted(t)}_mean"]
        cells[f"{t:g}"] = _percent(mean, row[f"{shifted(t)}_std"])
        gaps[f"gap at {t:g}"] = _percent(None if None in (train, mean) else train - mean)
    return {"problem": row["problem"], "method": row["method"], **cells, "train": _percent(train), **gaps}


def _cost(row: Row) -> dict[str, str]:
    passes = row["passes_per_step"]
    return {
        "problem": row["problem"],
        "method": row["method"],
        "passes a step": "" if passes is None else f"{passes:g}",
        "time of an epoch over momentum's (median, range)": _ratio(row, "seconds_over_momentum"),
        "over sam's": _ratio(row, "seconds_over_sam"),
        "epochs (median)": "" if row["epochs"] is None else f"{row['epochs']:g}",
    }


def _ratio(row: Row, name: str) -> str:
    if row.get(name) is None:
        return ""
    return f"{row[name]:.1f} ({row[f'{name}_least']:.1f} to {row[f'{name}_most']:.1f})"


def sentences(groups: Sequence[Runs], rows: Sequence[Row], compared: Sequence[Row]) -> list[str]:
    """Return, for each claim of the paper, whether it holds here, with the numbers."""
    said = [_steps([row for row in compared if row["problem"] == p]) for p in dict.fromkeys(r["problem"] for r in rows)]
    said = [sentence for sentence in said if sentence] + [_published()]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        own = [row for row in compared if row["problem"] == problem]
        clean = [row for row in own if row["measure"] == "test_accuracy"]
        said += [_claim(row) for row in clean]
        said += _single([runs for runs in groups if runs.problem == problem])
        said += _variance(clean)
        said += _robustness([row for row in own if row["measure"] != "test_accuracy"])
    return said + _passes(rows)


def _steps(own: Sequence[Row]) -> str:
    """Return the paper's order, step by step, in one sentence."""
    clean = [row for row in own if row["measure"] == "test_accuracy"]
    rank = {name: i for i, name in enumerate(HIERARCHY)}
    steps = [row for row in clean if rank.get(_bare(row["first"]), 0) - rank[_bare(row["second"])] == 1]
    if not steps:
        return ""
    words = [
        f"{row['first']} above {row['second']} {standing(row['difference'], row['p_holm'])} "
        f"({_points(row['difference'])} points)"
        for row in steps
    ]
    return f"{own[0]['problem']}, the paper's order step by step: {', '.join(words)} (n = {steps[0]['n']} pairs)."


def _bare(method: str) -> str:
    return method.partition("/")[0]


def _published() -> str:
    tested = {name: welch(PUBLISHED[name], PUBLISHED["sam"]) for name in ("mp-sam-mixed", "mp-sam-adaptive")}
    words = ", ".join(f"{p:.2g} for {name}" for name, p in tested.items())
    return f"The paper calls both significant over SAM in {FIVE} runs; Welch's test of its own table has p = {words}."


def _claim(row: Row) -> str:
    text = f"{row['problem']}, {row['first']} above {row['second']}: {standing(row['difference'], row['p_holm'])}; "
    if row["effect"] is None:
        return f"{text}{_points(row['difference'])} points in every pair (n = {row['n']})."
    told = "no test" if row["p_holm"] is None else f"p = {row['p_holm']:.2g} after Holm's correction"
    text += (
        f"{_points(row['difference'])} points, 95 % interval {_points(row['low'])} to {_points(row['high'])}, {told}"
    )
    name, rival = _bare(row["first"]), row["second"]
    if rival == "sam" and name in PUBLISHED:
        published = (PUBLISHED[name].mean - PUBLISHED["sam"].mean) / 100
        inside = "inside" if row["low"] <= published <= row["high"] else "outside"
        text += f"; the paper's {_points(published)} lies {inside}"
    if row["fives"]:
        text += f"; of {row['fives']} groups of five runs {row['fives_significant']} would call it significant (Welch)"
    least = "" if row["detectable"] is None else f", 80 % power from {100 * row['detectable']:.2f} points"
    return f"{text} (n = {row['n']} pairs{least})."


def _single(groups: Sequence[Runs]) -> list[str]:
    """Return in how many single runs the paper's order appears, where there is one method of each name of it."""
    order = [[runs for runs in groups if runs.name == name] for name in HIERARCHY]
    if any(len(found) != 1 for found in order):
        return []
    values = [found[0].values("test_accuracy") for found in order]
    runs = sorted(set.intersection(*(set(found) for found in values)))
    if not runs:
        return []
    rising = sum(all(a[r] < b[r] for a, b in pairwise(values)) for r in runs)
    best = sum(all(values[-1][r] > other[r] for other in values[:-1]) for r in runs)
    ties = sum(len({found[r] for found in values}) == 1 for r in runs)
    chance = len(runs) / factorial(len(HIERARCHY))
    said = (
        f"{groups[0].problem}, the order of a single run: the paper's appears in {rising} of {len(runs)} runs (of a "
        f"random order: {chance:.2g}); {order[-1][0].method} alone is best in {best}, and all are equal in {ties}."
    )
    return [said]


def _variance(clean: Sequence[Row]) -> list[str]:
    own = [row for row in clean if row["second"] == "sam" and row["spread_p_holm"] is not None]
    parts = [
        f"{row['first']} has {row['spread_ratio']:.2f} times its sd "
        f"({standing(1 - row['spread_ratio'], row['spread_p_holm'])}, p = {row['spread_p_holm']:.2g})"
        for row in own
        if row["first"].startswith("mp-")
    ]
    return [f"{own[0]['problem']}, less variance than SAM: {'; '.join(parts)} (n = {own[0]['n']})."] if parts else []


def _robustness(shift: Sequence[Row]) -> list[str]:
    parts: dict[str, list[str]] = {}
    for row in shift:
        told = "no test" if row["p_holm"] is None else f"p = {row['p_holm']:.2g}"
        verdict = standing(row["difference"], row["p_holm"])
        said = f"{_points(row['difference'])} at {row['measure'].rpartition('_')[2]} ({verdict}, {told})"
        parts.setdefault(f"{row['first']} above {row['second']}", []).append(said)
    return [f"{shift[0]['problem']}, under shift, {pair}: {', '.join(said)}." for pair, said in parts.items()]


def _passes(rows: Sequence[Row]) -> list[str]:
    """Return what a step costs over SAM's; the paper says 3 to 6 times."""
    sam = next((row for row in rows if row["method"] == "sam" and row["passes_per_step"]), None)
    found = {r["method"]: r["passes_per_step"] for r in rows if r["method"].startswith("mp-") and r["passes_per_step"]}
    if sam is None or not found:
        return []
    words = ", ".join(f"{name} {passes / sam['passes_per_step']:g}" for name, passes in found.items())
    return [f"Passes a step over SAM's (the paper: 3 to 6 times): {words}."]
