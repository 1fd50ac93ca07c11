"""What a search bought: the target error of its best-so-far poison over generations, seen by nobody while it ran.

Three questions, answered on test images after the search (Chaudhury & Yamasaki 2020, Fig. 2c and 2d, sections 3.1 and
4.1): does the best-so-far perturbation of later generations hurt new networks more; does a victim's clean test accuracy
drop while it is trained on the poison; and does the proxy A-distance that the search logged go with the target error of
networks trained on the candidates?
"""

import dataclasses
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mddes.compute import COMPUTE_AT_LEAST, COMPUTE_CHOICES, ComputeSettings, check_workers
from mddes.config_file import read_config
from mddes.data import Dataset, split
from mddes.errors import InputError
from mddes.poison import Perturbation, uniform
from mddes.search.candidate import Candidate
from mddes.search.config import SearchConfig
from mddes.seeding import derive
from mddes.settings import Ranges, check_settings
from mddes.studies.base import levels, protocol_of
from mddes.studies.bench import Bench, Victim, failures
from mddes.studies.findings import Findings, percent
from mddes.studies.settings import (
    STUDY_RANGES,
    VICTIM_CHOICES,
    StudyData,
    VictimSettings,
    augmentation_for,
    check_models,
    recipe_for,
    resolve_models,
)
from mddes.studies.statistics import summarise
from mddes.tasks import Record
from mddes.tasks.ledger import read
from mddes.training import Recipe

OWN_RANGES = ("train_size", "test_size", "seeds", "seed", "weight_decay", "epochs", "batch_size")


@dataclass(frozen=True, kw_only=True)
class SearchedRun:
    """Which search."""

    run: str = ""
    """The folder of a finished search."""
    candidates: int = 20
    """Candidates, evenly spaced over the search, on which a network each is trained, to relate the logged proxy
    A-distance to the target error."""


@dataclass(frozen=True, kw_only=True)
class LearningCurveConfig(ComputeSettings, SearchedRun, VictimSettings, StudyData):
    """The settings of a learning-curve study. Data set and training size are those of the search.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __post_init__(self) -> None:
        least = {name: STUDY_RANGES.at_least[name] for name in OWN_RANGES}
        ranges = Ranges({**least, **COMPUTE_AT_LEAST, "candidates": 0})
        check_settings(self, {**VICTIM_CHOICES, **COMPUTE_CHOICES}, ranges)
        check_workers(self.workers)
        check_models(self.models)
        augmentation_for(self.augmentation, self.dataset)
        Recipe(optimizer=self.optimizer, lr=self.lr, weight_decay=self.weight_decay)


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"candidates": 5},
    "paper": {"models": ("resnet20",), "epochs": 30, "batch_size": 128, "augmentation": ("standard",)},
}


def of_search(config: LearningCurveConfig) -> LearningCurveConfig:
    """Return the settings with data set, training size and path of the search that they name.

    Raises:
        InputError: no search there.
    """
    folder = Path(config.run).expanduser()
    if not config.run or not (folder / "config.toml").is_file():
        raise InputError(f"{config.run or 'nothing'} is no search's folder: it has no config.toml")
    searched = read_config(folder / "config.toml", SearchConfig)
    if config.dataset != StudyData.dataset and Path(config.dataset).name != Path(searched.dataset).name:  # it may move
        raise InputError(f"the search was on {searched.dataset}, and so is its learning curve, not on {config.dataset}")
    if config.train_size not in (None, searched.train_size):
        raise InputError(
            f"the search was on {searched.train_size or 'all'} training images, and so is its learning curve, "
            f"not on {config.train_size}"
        )
    return dataclasses.replace(
        config,
        run=str(folder.resolve()),
        dataset=searched.dataset,
        data_dir=config.data_dir or searched.data_dir,
        train_size=searched.train_size,
    )


@dataclass(frozen=True)
class Step:
    """The best perturbation up to a generation, by the fitness that the search saw."""

    generation: int
    evaluations: int
    best: Candidate


def steps_of(records: Sequence[Record]) -> list[Step]:
    """Return the best-so-far candidate after every generation."""
    groups: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["generation"], record["candidate"]].append(record)
    best: Candidate | None = None
    highest = -math.inf
    steps: list[Step] = []
    trained = 0
    for generation in sorted({generation for generation, _ in groups}):
        own = [Candidate(groups[place]) for place in sorted(groups) if place[0] == generation]  # all repeats, or none
        trained += len(own)
        for candidate in own:
            if candidate.fitness is not None and candidate.fitness > highest:
                best, highest = candidate, candidate.fitness
        if best is not None:
            steps.append(Step(generation, trained, best))
    return steps


def searched_run(config: LearningCurveConfig, dataset: Dataset) -> tuple[SearchConfig, list[Record]]:
    """Return settings and evaluations of the search.

    Raises:
        InputError: it was searched on other images, or nothing was trained yet.
    """
    searched = read_config(Path(config.run) / "config.toml", SearchConfig)
    content = read(Path(config.run) / "evaluations.jsonl")
    data = split(dataset.train, whole=searched.fitness_data == "train")
    if content.identity is None or content.identity.get("data") != data.digest():
        raise InputError(f"{config.run} was searched on other images than {dataset.name} has here")
    records = [record for record in content.records.values() if record["phase"] == "search"]
    if not any(record["status"] == "done" for record in records):
        raise InputError(f"{config.run} has no finished training yet")
    return searched, records


def run_learning_curve(bench: Bench, config: LearningCurveConfig) -> Findings:
    """Train the victims of the study, or find them trained, and return what they say."""
    searched, records = searched_run(config, bench.dataset)
    steps = steps_of(records)
    models = resolve_models(config.models, bench.dataset.train.shape[0])
    recipe = recipe_for(config, bench.dataset)
    sample = _spaced([record for record in records if record["status"] == "done"], config.candidates)
    victims = _victims(bench, config, searched, steps, sample, models, recipe)
    trained: dict[tuple[Any, ...], dict[int, Record]] = defaultdict(dict)
    landed = bench.train(victims)
    for victim, record in zip(victims, landed, strict=True):
        if record["status"] == "done":
            trained[victim.model, victim.labels["row"]][victim.labels["victim"]] = record
    rows: list[dict[str, Any]] = []
    for model in models:
        rows += _generation_rows(steps, model, trained)
        if errors := _errors(trained[model, "winner"]):
            rows.append({"kind": "winner", "model": model, "n": len(errors), "errors": errors})
        rows += _epoch_rows(model, trained)
        rows += _candidate_rows(sample, model, trained)
    named = [{**row, "dataset": bench.dataset.name, **levels(bench.dataset)} for row in rows]
    return Findings(
        study="learning-curve",
        protocol={**protocol_of("learning-curve", bench, recipe), "search": searched.seed},
        rows=named,
        tables={"Target error of the best-so-far perturbation": _table(named)},
        sentences=[
            *(text for model in models for text in _sentences(named, model, bench.dataset.name)),
            *failures(landed),
        ],
    )


def victims_a_model(config: LearningCurveConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many victims of each kind a study will train, and how many plain trainings they cost."""
    _, records = searched_run(config, dataset)
    victims = config.seeds * (3 + len(_distinct(steps_of(records)))) + config.candidates
    return victims, victims


def _spaced(unordered: Sequence[Record], count: int) -> list[Record]:
    """Return so many records, evenly spaced over the search."""
    records = sorted(unordered, key=lambda record: (record["generation"], record["candidate"], record["repeat"]))
    places = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int))
    return [records[i] for i in places] if count else []


def _victims(
    bench: Bench,
    config: LearningCurveConfig,
    searched: SearchConfig,
    steps: Sequence[Step],
    sample: Sequence[Record],
    models: Sequence[str],
    recipe: Recipe,
) -> list[Victim]:
    """Return every victim: of the distinct best-so-far poisons, of the sample, and clean and uniform with curves."""
    train = bench.dataset.train
    last, winner = steps[-1].best.records[0]["perturbation"], _winner(config)
    wanted: list[tuple[str, Any, int, bool]] = []
    for s in range(config.seeds):
        drawn = uniform(
            train,
            pixels=searched.pixels,
            seed=derive(config.seed, "victims", s),
            mode=searched.mode,
            value=searched.value,
        )
        wanted += [("clean", None, s, True), ("uniform", drawn.change(), s, True)]
        if winner is not None:
            wanted.append(("winner", winner.change(), s, True))
        for name, change in _distinct(steps).items():
            wanted.append((name, change, s, change == last))
    wanted += [(_name(record), record["perturbation"], 0, False) for record in sample]
    return [
        Victim(
            model=model,
            recipe=recipe,
            seed=derive(config.seed, "victims", s),
            labels={"row": name, "model": model, "victim": s},
            perturbation=change,
            more={"curve": True} if curve else {},
        )
        for model in models
        for name, change, s, curve in wanted
    ]


def _winner(config: LearningCurveConfig) -> Perturbation | None:
    """Return the perturbation that the search named in the end, on fresh seeds; None if it has not ended."""
    path = Path(config.run) / "perturbation.json"
    return Perturbation.load(path) if path.exists() else None


def _distinct(steps: Sequence[Step]) -> dict[str, Mapping[str, Any]]:
    return {_best_name(step): step.best.records[0]["perturbation"] for step in steps}


def _name(record: Record) -> str:
    return f"candidate {record['generation']}.{record['candidate']}.{record['repeat']}"


def _best_name(step: Step) -> str:
    first = step.best.records[0]
    return f"best {first['generation']}.{first['candidate']}"


def _errors(records: Mapping[int, Record]) -> list[float]:
    return [1 - record["clean_test_accuracy"] for record in records.values()]


def _generation_rows(steps: Sequence[Step], model: str, trained: Mapping[Any, Any]) -> list[dict[str, Any]]:
    rows = []
    for step in steps:
        errors = _errors(trained[model, _best_name(step)])
        summary = dataclasses.asdict(summarise(errors)) if errors else {}
        rows.append(
            {
                "kind": "generation",
                "model": model,
                "generation": step.generation,
                "candidates_so_far": step.evaluations,
                "fitness": step.best.fitness,
                "source": _best_name(step),
                **{f"error_{name}" if name != "n" else "n": value for name, value in summary.items()},
                "errors": errors,
            }
        )
    return rows


def _epoch_rows(model: str, trained: Mapping[Any, Any]) -> list[dict[str, Any]]:
    rows = []
    for (other, name), records in trained.items():
        curves = [r["clean_test_accuracy_by_epoch"] for r in records.values() if "clean_test_accuracy_by_epoch" in r]
        if other != model or not curves:
            continue
        for epoch, values in enumerate(zip(*curves, strict=True), start=1):
            s = summarise(values)
            row = {"kind": "epoch", "model": model, "row": name.partition(" ")[0], "epoch": epoch}
            rows.append({**row, "n": s.n, "accuracy_mean": s.mean, "accuracy_std": s.std, "accuracies": list(values)})
    return rows


def _candidate_rows(sample: Sequence[Record], model: str, trained: Mapping[Any, Any]) -> list[dict[str, Any]]:
    rows = []
    for record in sample:
        for error in _errors(trained[model, _name(record)]):
            row = {"kind": "candidate", "model": model, "source": _name(record)}
            logged = {name: record[name] for name in ("proxy_a_distance", "fitness", "clean_accuracy")}
            rows.append({**row, **logged, "error": error})
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "model": row["model"],
            "generation": str(row["generation"]),
            "candidates so far": str(row["candidates_so_far"]),
            "fitness in the search": f"{row['fitness']:.3f}",
            "test error (%)": percent(summarise(row["errors"])) if row["errors"] else "failed",
            "n": str(len(row["errors"])),
        }
        for row in rows
        if row["kind"] == "generation"
    ]


def _sentences(rows: Sequence[Mapping[str, Any]], model: str, dataset: str) -> list[str]:
    own = [row for row in rows if row["model"] == model]
    generations = [row for row in own if row["kind"] == "generation" and row["errors"]]
    sentences = []
    if generations:
        first, last = generations[0], generations[-1]
        text = (
            f"{dataset}, {model}: the test error of the best-so-far perturbation goes from "
            f"{percent(summarise(first['errors']))} % after generation {first['generation']} to "
            f"{percent(summarise(last['errors']))} % after generation {last['generation']} (n = {len(last['errors'])})."
        )
        sentences.append(text)
    for row in own:
        if row["kind"] == "winner":
            error = percent(summarise(row["errors"]))
            sentences.append(
                f"{dataset}, {model}: the winner, chosen by its mean on fresh seeds and not by its best single value, "
                f"has a test error of {error} % (n = {row['n']})."
            )
    for name in ("clean", "uniform", "best", "winner"):
        curve = [row for row in own if row["kind"] == "epoch" and row["row"] == name]
        if curve:
            peak = max(curve, key=lambda row: row["accuracy_mean"])
            end = curve[-1]
            sentences.append(
                f"{dataset}, {model}, trained on {name}: clean test accuracy is highest after epoch {peak['epoch']} "
                f"({100 * peak['accuracy_mean']:.1f} %) and {100 * end['accuracy_mean']:.1f} % after the last, "
                f"{end['epoch']} (n = {end['n']})."
            )
    pairs = [row for row in own if row["kind"] == "candidate" and row["proxy_a_distance"] is not None]
    return [*sentences, *_correlation(pairs, f"{dataset}, {model}")]


def _correlation(pairs: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """Return how proxy A-distance and target error go together, if there are enough candidates that differ."""
    distance, error = ([row[name] for row in pairs] for name in ("proxy_a_distance", "error"))
    if len(pairs) < 4 or len({*distance}) < 2 or len({*error}) < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        rank = stats.spearmanr(distance, error)
        linear = stats.pearsonr(distance, error)
        interval = linear.confidence_interval(0.95)
    text = (
        f"{where}: logged proxy A-distance against target error over {len(pairs)} candidates: Spearman's rho "
        f"{rank.statistic:+.2f} (p = {rank.pvalue:.2g}), Pearson's r {linear.statistic:+.2f} "
        f"(95 % interval {interval.low:+.2f} to {interval.high:+.2f})."
    )
    return [text]
