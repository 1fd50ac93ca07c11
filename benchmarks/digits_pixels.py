"""How many pixels per class does a poison of 8 x 8 digits need? The default search at N_p = 1, 2, 3 and 5.

Three search seeds each, everything else the default, its comparison included (five networks each on clean, uniform and
found). Twelve searches of about two minutes on two cores; one that is done is not run again:

    python benchmarks/digits_pixels.py --work runs/digits-pixels

The result goes to benchmarks/results/digits_pixels.json, with its table on standard output.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import mddes
from mddes.tasks.run_folder import environment, write_json

RESULTS = Path(__file__).parent / "results"
PIXELS = (1, 2, 3, 5)


def search(pixels: int, seed: int, work: Path, workers: int) -> mddes.SearchResult:
    """Run one search, or finish the one that is there."""
    out = work / f"np{pixels}-seed{seed}"
    for folder in out.glob("*/config.toml"):
        return mddes.resume(folder.parent, workers=workers)
    return mddes.search(mddes.SearchConfig(pixels=pixels, seed=seed, workers=workers, out=str(out)))


def row(pixels: int, results: list[mddes.SearchResult]) -> dict[str, Any]:
    """Return the mean clean test accuracy, in percent, of each search's five networks, by training set."""
    accuracies: dict[str, list[float]] = {}
    for result in results:
        for found in result.rows:
            accuracies.setdefault(found.name, []).append(100 * found.mean)
    return {"pixels": pixels, "evaluations": [r.evaluations for r in results], "means": accuracies}


def main() -> None:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/digits-pixels"))
    parser.add_argument("--searches", type=int, default=3, help="search seeds for each number of pixels")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    rows = []
    for pixels in PIXELS:
        results = [search(pixels, seed, given.work, given.workers) for seed in range(given.searches)]
        rows.append(row(pixels, results))
        cells = (
            f"{name} {statistics.mean(means):.1f} (sd between searches {statistics.stdev(means):.1f})"
            if len(means) > 1
            else f"{name} {means[0]:.1f}"
            for name, means in rows[-1]["means"].items()
        )
        print(f"N_p = {pixels}: " + ", ".join(cells) + f"; n = {given.searches} searches x 5 networks", flush=True)
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "digits_pixels.json", {"environment": where, "rows": rows})


if __name__ == "__main__":
    main()
