"""What is printed at the end of a search."""

import statistics
import sys
from collections.abc import Sequence

from mddes.api import SearchResult
from mddes.commands.speaking import resume_command


def print_result(result: SearchResult) -> None:
    """Write the finding, its figures, and where it lies."""
    write = sys.stdout.write
    ended = {"generations": "generations", "evaluations": "trained candidates", "wall_clock": "time"}[result.stopped_by]
    write(f"\n{result.evaluations} candidates in {result.generations} generations (the budget of {ended} is spent)\n\n")
    write("finalists (fitness)               in the search   on fresh seeds, mean ± sd\n")
    for finalist in result.finalists:
        single = "-" if finalist.search_fitness is None else f"{finalist.search_fitness:.3f}"
        write(f"  {finalist.source:30}  {single:>13}   {_spread(finalist.fresh)}\n")
    write(f"the winner is the first: {result.finalists[0].source}\n\n")
    if result.rows:
        write("trained on    clean test accuracy\n")
        for row in result.rows:
            write(f"  {row.name:10}  {row!s:14} (n = {len(row.accuracies)})\n")
        write("\n")
    write(f"{result.sentence}\n\n")
    write(f"trainings     {result.accounts}\n")
    write(f"perturbation  {result.run_dir / 'perturbation.json'}\n")
    write(f"figures       {result.run_dir / 'figures'}\n")
    larger = {"generations": 2 * result.generations, "evaluations": 2 * result.evaluations, "wall_clock": "SECONDS"}
    option = f"--{result.stopped_by.replace('_', '-')} {larger[result.stopped_by]}"
    write(f"to extend     {resume_command(result.run_dir)} {option}\n")


def _spread(values: Sequence[float]) -> str:
    """Return mean ± sd (n) of some values."""
    if len(values) < 2:
        return f"{values[0]:.3f} (n = 1)" if values else "not trained again"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} (n = {len(values)})"
