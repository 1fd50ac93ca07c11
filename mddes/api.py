"""Whole runs: a configuration in, a folder and a result out. The command line is a thin layer over this.

`search` hands training and held-out images to the driver (`search/driver.py`), saves what it found, compares it on
test images (`studies/comparison.py`) and draws the figures. `resume` does the same over an existing folder.
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from mddes.config_file import read_config, save_config
from mddes.errors import InputError, look_up
from mddes.hypertext import paragraphs, table
from mddes.poison import Perturbation
from mddes.poison.perturbation_file import as_rows
from mddes.pools import device_of, make_pool
from mddes.preparation import Prepared, at_a_time, prepare
from mddes.report.scalars import scalars
from mddes.search.config import Changes, SearchConfig, identity
from mddes.search.driver import Outcome, run_search
from mddes.search.evaluation import check_ledger
from mddes.search.outputs import read_distribution, write_distribution
from mddes.search.progress import Progress
from mddes.search.winner import Finalist
from mddes.seeding import numpy_generator
from mddes.studies.comparison import Row, compare, sentence
from mddes.tasks import Ledger
from mddes.tasks.accounts import Accounts, account
from mddes.tasks.run_folder import create, lease, save_environment, write_json
from mddes.threads import one_thread
from mddes.version import __version__

log = logging.getLogger(__name__)

Watcher = Callable[[Progress], None]
# What a perturbation's provenance says of its search, beside its seed and data.
SEARCHED = (
    *("algorithm", "generations", "popsize", "mode", "value", "mismatch", "discriminator", "w_m", "w_d"),
    *("train_size", "model", "optimizer", "lr", "epochs", "batch_size", "precision"),
)
CONFIG, START, DISTRIBUTION = "config.toml", "start.json", "distribution.npz"


@dataclass(frozen=True)
class SearchResult:
    """What a search found and where it lies.

    Attributes:
        perturbation: the winner.
        fitness: its mean on fresh seeds (under the rule "paper": the single value it was chosen by).
        search_fitness: the single value that made it a finalist; None if it is the distribution's mean.
        finalists: the winner and its rivals, best first, with both values.
        run_dir: the run's folder.
        generations, evaluations: told to the strategy.
        stopped_by: the budget that ended the search: "generations", "evaluations" or "wall_clock".
        rows: clean test accuracy of networks trained on clean, uniformly poisoned and poisoned data.
        sentence: the finding in words.
        accounts: who trained how much, what failed, and what was lost with its worker.
    """

    perturbation: Perturbation
    fitness: float
    search_fitness: float | None
    finalists: list[Finalist]
    run_dir: Path
    generations: int
    evaluations: int
    stopped_by: str
    rows: list[Row]
    sentence: str
    accounts: Accounts

    def __repr__(self) -> str:
        return f"SearchResult({self.run_dir}: {self.sentence})"

    def _repr_html_(self) -> str:
        names = ("trained on", "clean test accuracy", "n")
        rows = [dict(zip(names, (row.name, str(row), str(len(row.accuracies))), strict=True)) for row in self.rows]
        told = [self.sentence, f"Folder: {self.run_dir}"]
        return paragraphs(told) + table(rows) + table(as_rows(self.perturbation.change()), repr(self.perturbation))

    def sample(self, n: int, *, seed: int = 0) -> list[Perturbation]:
        """Draw n perturbations from the final distribution (the paper maximises over it, not over one poison).

        Raises:
            InputError: it was a random search, which has none.
        """
        config = read_config(self.run_dir / CONFIG, SearchConfig)
        if config.algorithm == "random":
            raise InputError("a random search has no distribution to sample from: mddes.uniform draws as it does")
        encoding = config.encoding(self.perturbation.image_shape, self.perturbation.num_classes)
        vectors = read_distribution(self.run_dir / DISTRIBUTION).sample(n, numpy_generator(seed, "sample"))
        return [encoding.decode(x) for x in vectors]


def search(
    config: SearchConfig,
    *,
    on_progress: Watcher = lambda _: None,
    on_folder: Callable[[Path], None] = lambda _: None,
) -> SearchResult:
    """Run a search in a new folder.

    Args:
        config: the settings; what is left open is chosen by the data.
        on_progress: called after every training.
        on_folder: called with the run's folder as soon as it exists.

    Raises:
        InputError: settings or data that do not fit.
        RunStopped: too many trainings failed; the folder can be resumed.
        OSError: the folder cannot be written.
    """
    with one_thread():
        prepared = prepare(config)
        config = prepared.config
        start = Perturbation.load(config.start) if config.start else None
        if start:
            config.encoding(prepared.data.train.shape, prepared.data.train.num_classes).encode(start)  # does it fit?
        folder = create(Path(config.out), f"{prepared.dataset.name}-np{config.pixels}", config.seed)
        with lease(folder):
            save_config(dataclasses.asdict(config), folder / CONFIG)
            on_folder(folder)
            if start:
                start.save(folder / START)
            return _run(folder, prepared, start, on_progress)


def resume(run_dir: str | Path, *, on_progress: Watcher = lambda _: None, **changes: Unpack[Changes]) -> SearchResult:
    """Continue a run from its ledger; nothing that finished is computed again.

    Args:
        run_dir: the run's folder.
        on_progress: called after every training.
        changes: larger budgets (`generations`, `evaluations`, `wall_clock`) extend the run; `workers`, `device`,
            `data_dir`, `ray_address` and the other settings of `Changes` move it; None leaves one as it is. All else
            is the run's own.

    Raises:
        InputError: no run there, another driver runs it, or its data, configuration or ledger do not fit together.
        RunStopped: too many trainings failed.
        OSError: the folder cannot be written.
    """
    for name in changes:
        look_up("setting of a run that is continued", name, Changes.__annotations__)
    folder = Path(run_dir)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is no run folder: it has no {CONFIG}")
    with one_thread(), lease(folder):
        config = read_config(folder / CONFIG, SearchConfig)
        # The replacement is checked field by field like any other configuration.
        config = dataclasses.replace(config, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
        start = Perturbation.load(folder / START) if (folder / START).exists() else None
        return _run(folder, prepare(config), start, on_progress)


def _run(folder: Path, prepared: Prepared, start: Perturbation | None, watch: Watcher) -> SearchResult:
    config, data = prepared.config, prepared.data
    judged = {"train": prepared.dataset.train.digest(), "test": prepared.dataset.test.digest()}
    path = folder / "evaluations.jsonl"
    if (folder / "perturbation.json").exists() and not (path.exists() and path.stat().st_size):
        raise InputError(f"{path} is missing or empty, but the folder holds a result: restore it, or start a new run")
    with (
        Ledger(path, identity(config, data, start)) as ledger,
        Ledger(folder / "victims.jsonl", judged) as victims,  # the search's own holds nothing a test image touched
    ):
        check_ledger(path, ledger.records.values(), ledger.events("generation"))
        told = len(ledger.events("generation"))
        if config.generations < told:
            raise InputError(f"{folder} already has {told} generations: generations cannot be {config.generations}")
        save_config(dataclasses.asdict(config), folder / CONFIG)
        save_environment(folder, device_of(config))
        parts = (data.train, data.held_out, prepared.dataset.train, prepared.dataset.test)
        with (
            make_pool(config, folder / "logs", at_a_time=at_a_time(config), data=parts) as pool,
            scalars(folder, wanted=config.tensorboard) as tell,
        ):
            outcome = run_search(data, config, ledger, pool, start=start, on_progress=watch, on_generation=tell)
            winner = _save_outcome(folder, outcome, prepared)
            rows = compare(prepared.dataset, winner, config, victims, pool, watch)
        accounts = account([*ledger.records.values(), *victims.records.values()])
    result = _result(folder, outcome, winner, rows, prepared, accounts)
    _save_summary(folder / "summary.json", result)
    _draw(folder, winner, prepared)
    return result


def _result(
    folder: Path, outcome: Outcome, winner: Perturbation, rows: list[Row], prepared: Prepared, accounts: Accounts
) -> SearchResult:
    first = outcome.finalists[0]
    return SearchResult(
        perturbation=winner,
        fitness=first.fitness,
        search_fitness=first.search_fitness,
        finalists=outcome.finalists,
        run_dir=folder,
        generations=outcome.generations,
        evaluations=outcome.evaluations,
        stopped_by=outcome.stopped_by,
        rows=rows,
        sentence=sentence(rows, prepared.dataset, prepared.config),
        accounts=accounts,
    )


def _save_outcome(folder: Path, outcome: Outcome, prepared: Prepared) -> Perturbation:
    """Write distribution and winner; return the winner with its provenance."""
    if outcome.distribution:
        write_distribution(outcome.distribution, folder / DISTRIBUTION)
    first = outcome.finalists[0]
    provenance = {
        "method": "mdd-es" if prepared.config.algorithm == "cma-es" else "random-search",
        "mddes": __version__,
        "dataset": prepared.dataset.name,
        "data": prepared.data.digest(),
        "seed": prepared.config.seed,
        "evaluations": outcome.evaluations,
        "trainings": outcome.evaluations + sum(len(finalist.fresh) for finalist in outcome.finalists),
        "source": first.source,
        "search_fitness": first.search_fitness,
        "fitness_on_fresh_seeds": list(first.fresh),
        "search": {name: value for name in SEARCHED if (value := getattr(prepared.config, name)) is not None},
    }
    winner = dataclasses.replace(first.perturbation, provenance=provenance)
    winner.save(folder / "perturbation.json")
    return winner


def _save_summary(path: Path, result: SearchResult) -> None:
    finalists = [
        {"source": finalist.source, "search_fitness": finalist.search_fitness, "fresh": list(finalist.fresh)}
        for finalist in result.finalists
    ]
    rows = {row.name: {"mean": row.mean, "std": row.std, "accuracies": row.accuracies} for row in result.rows}
    write_json(
        path,
        {
            "sentence": result.sentence,
            "fitness": result.fitness,
            "search_fitness": result.search_fitness,
            "finalists": finalists,
            "clean_test_accuracy": rows,
            "generations": result.generations,
            "evaluations": result.evaluations,
            "stopped_by": result.stopped_by,
            "trainings": dataclasses.asdict(result.accounts),
        },
    )


def _draw(folder: Path, winner: Perturbation, prepared: Prepared) -> None:
    """Draw the figures; one that fails is a warning, never the end of a run."""
    from mddes.report import figures

    where = folder / "figures"
    where.mkdir(exist_ok=True)
    names = prepared.dataset.class_names
    drawings: dict[str, Callable[[], Any]] = {
        "learning_curve.png": lambda: figures.learning_curve(folder / "generations.csv"),
        "poison.png": lambda: figures.poison_examples(prepared.data.train, winner, names),
    }
    for name, draw in drawings.items():
        try:
            figures.save(draw(), where / name)
        except Exception as error:  # noqa: BLE001  whatever a drawing library raises, the numbers are safe already
            log.warning("could not draw %s: %s", name, error)
