"""Which optimizer resists a poison: Fig. 3 of Chaudhury & Yamasaki (2020), with every optimizer tuned first.

Every optimizer gets its own sweep of learning rates under every poison, on networks of their own. A victim chooses by
what it can see, the accuracy on held-out images that are poisoned like the rest; the second answer is an oracle's, who
chooses by the clean copies of the same images. Each of the two goes on beyond the end of its sweep where its choice
lies there (`sweep.py`), and chooses from rates of its own: what an oracle saw is not the victim's to use. Only then
fresh networks are trained at the chosen rates and judged on test images. Network s has the same initial weights and
batch order under every optimizer and poison.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mddes.data import Dataset, split
from mddes.errors import InputError, look_up
from mddes.optim import OPTIMIZERS, STRATEGIES
from mddes.settings import Ranges, check_each_once
from mddes.studies.base import PoisonedNetworks, levels, poisons_of, protocol_of, rows_on, victim_of
from mddes.studies.bench import Bench, Victim, failures
from mddes.studies.findings import Findings, limits
from mddes.studies.optimizers_text import DEFAULT, answer, sentences, tables
from mddes.studies.poisons import PoisonRow
from mddes.studies.settings import PoisonSettings, recipe_for, resolve_models
from mddes.studies.statistics import compare_pairs, holm, summarise
from mddes.studies.sweep import at_an_end, beyond, choose
from mddes.tasks import Record
from mddes.training import Recipe
from mddes.user_code import is_own

SELECTIONS = {"poisoned": "held_out_poisoned_accuracy", "clean": "held_out_clean_accuracy"}
COMPARED = ("n", "difference", "low", "high", "p", "effect")
Place = tuple[PoisonRow, str, str]  # row, network, optimizer
Key = tuple[str, str, str]  # by their names
Trained = dict[float, list[Record]]  # networks by learning rate


@dataclass(frozen=True, kw_only=True)
class SweptOptimizers(PoisonSettings):
    """Which poisons and optimizers, and how these are tuned."""

    poisons: tuple[str, ...] = ("clean", "uniform", "one-pixel-shortcut", "mdd-es")
    """Rows, as for `mddes study transfer`."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adam", "rmsprop", "adabound", "sam", "asam", "mp-sam-mixed")
    """Of sgd, momentum (0.9), adam, adamw, rmsprop, adabound, sam, sam-adam, asam, mp-sam-gradient, mp-sam-random,
    mp-sam-mixed, mp-sam-adaptive, or your own package.module:builder; the sam family steps with momentum 0.9."""
    reference: str = "adam"
    """The optimizer that all others are tested against."""
    factors: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """The sweep: multiples of each optimizer's default learning rate."""
    rates: tuple[float, ...] = ()
    """The sweep, as learning rates, the same for every optimizer; an optimizer of your own needs them."""
    sweep_seeds: int = 2
    """Networks at each learning rate of the sweep."""
    extend: int = 3
    """Where a choice lies at an end of its sweep, so many further rates for it at most, one after the other."""
    untuned: bool = False
    """Train the fresh networks at every optimizer's default learning rate as well, as one who tunes nothing."""
    checkpoints: tuple[int, ...] = ()
    """Epochs after which networks are judged too, besides the last; with a constant schedule this is what as many
    epochs give."""
    rho: float | None = None
    """Radius for all of the sam family; default 0.05, for asam 0.5."""


@dataclass(frozen=True, kw_only=True)
class OptimizersConfig(SweptOptimizers, PoisonedNetworks):
    """The settings of a study of optimizers."""

    seeds: int = 5
    """Fresh networks of each kind at each chosen learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each_once("optimizers", self.optimizers)
        check_each_once("rates" if self.rates else "factors", self.rates or self.factors)
        for name in self.optimizers:
            if not is_own(name):
                look_up("optimizer", name, OPTIMIZERS)
            elif not self.rates:
                raise InputError(f"{name} has no default learning rate: name those of the sweep (--rates)")
        if not is_own(self.reference):
            look_up("reference", self.reference, OPTIMIZERS)
        if len(self.optimizers) > 1 and self.reference not in self.optimizers:
            raise InputError(f"reference {self.reference!r} is none of the optimizers: {', '.join(self.optimizers)}")
        if self.rho is not None and not any(passes(name) > 1 for name in self.optimizers):
            raise InputError(
                f"rho {self.rho:g} is for the sam family, and none of {', '.join(self.optimizers)} is of it"
            )
        if self.epochs is not None and self.checkpoints and max(self.checkpoints) > self.epochs:
            raise InputError(f"a checkpoint lies after the last epoch: {max(self.checkpoints)} > {self.epochs}")

    def ranges(self) -> Ranges:
        """Return what the numbers may be."""
        least = {"sweep_seeds": 1, "extend": 0, "checkpoints": 1, "rho": 0}
        return Ranges({**super().ranges().at_least, **least}, {}, ("factors", "rates"))


PRESETS: dict[str, dict[str, Any]] = {
    # Three optimizers, tuned and compared, in minutes on two cores.
    "smoke": {
        "optimizers": ("sgd", "adam", "sam"),
        "poisons": ("clean", "uniform", "one-pixel-shortcut"),
        "pixels": (4,),
        "factors": (0.3, 1.0, 3.0),
        "sweep_seeds": 1,
        "extend": 1,
        "seeds": 3,
    },
    # Fig. 3: its optimizers and repeats; the sweep is ours (the paper names no learning rates).
    "paper": {
        "dataset": "mnist",
        "optimizers": ("sgd", "adam", "rmsprop", "adabound"),
        "poisons": ("clean", "uniform", "one-pixel-shortcut", "mdd-es"),
    },
}


def recipes(config: OptimizersConfig, dataset: Dataset) -> list[Recipe]:
    """Return the recipe of every optimizer, at the first rate of its sweep."""
    return [recipe_at(config, dataset, name, sweep_of(config, name)[0]) for name in config.optimizers]


def sweep_of(config: OptimizersConfig, optimizer: str) -> list[float]:
    """Return the learning rates of an optimizer's sweep, ascending."""
    if config.rates:
        return sorted(config.rates)
    default = OPTIMIZERS[optimizer].default_lr
    assert default is not None
    return sorted(float(f"{default * factor:.6g}") for factor in config.factors)


def recipe_at(config: OptimizersConfig, dataset: Dataset, optimizer: str, lr: float) -> Recipe:
    """Return the victims' recipe with an optimizer at a learning rate."""
    sam = not is_own(optimizer) and OPTIMIZERS[optimizer].sam is not None
    usual = recipe_for(config, dataset)
    return dataclasses.replace(usual, optimizer=optimizer, lr=lr, rho=config.rho if sam else None)


def victims_a_model(config: OptimizersConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many victims of each kind a study will train, and how many plain trainings they cost.

    With sweeps as they begin (`further_victims`), and at most: where choices fall on one rate, its networks are trained
    once.

    Raises:
        InputError: a checkpoint after the last epoch.
    """
    last = recipe_for(config, dataset).epochs
    if config.checkpoints and max(config.checkpoints) > last:
        raise InputError(f"a checkpoint lies after the last epoch: {max(config.checkpoints)} > {last}")
    rows = poisons_of(config)
    count = cost = 0
    for name in config.optimizers:
        fresh = (len(SELECTIONS) + (config.untuned and not is_own(name))) * config.seeds
        victims = rows * (config.sweep_seeds * len(sweep_of(config, name)) + fresh)
        count, cost = count + victims, cost + victims * passes(name)
    return count, cost


def further_victims(config: OptimizersConfig) -> int:
    """Return by how many victims of each kind the sweeps can grow: by `extend` rates at either end."""
    growing = sum(len(sweep_of(config, name)) > 1 for name in config.optimizers)
    return poisons_of(config) * growing * 2 * config.extend * config.sweep_seeds


def passes(optimizer: str) -> int:
    """Return how many forward and backward passes a step takes."""
    sam = None if is_own(optimizer) else OPTIMIZERS[optimizer].sam
    if sam is None:
        return 1
    k = int(sam["n_perturbations"])
    return k + (STRATEGIES[sam["strategy"]](k) > 0 or bool(sam.get("adaptive")))


def run_optimizers(bench: Bench, config: OptimizersConfig) -> Findings:
    """Sweep, choose, train fresh networks, and return what they say."""
    models = resolve_models(config.models, bench.dataset.train.shape[0])
    rows = rows_on(bench, config)
    places = [(row, model, name) for row in rows for model in models for name in config.optimizers]
    sweep, rates = _sweeps(bench, config, places)
    swept = [record for own in sweep.values() for records in own.values() for record in records]
    chosen = {key: {way: _choice(own, rates[key, way], way) for way in SELECTIONS} for key, own in sweep.items()}
    for key, ways in chosen.items():
        if config.untuned and not is_own(key[2]):
            ways[DEFAULT] = OPTIMIZERS[key[2]].default_lr
    fresh = [
        (place, lr, config.sweep_seeds + s)
        for place in places
        for lr in sorted({rate for rate in chosen[_key(place)].values() if rate is not None})
        for s in range(config.seeds)
    ]
    trained = bench.train([_victim(bench.dataset, config, *place, lr, s) for place, lr, s in fresh]) if fresh else []
    groups: dict[tuple[Key, float], dict[int, Record]] = defaultdict(dict)
    for (place, lr, s), record in zip(fresh, trained, strict=True):
        groups[_key(place), lr][s] = record
    cells: list[dict[str, Any]] = []
    by_label = {row.label: row for row in rows}
    trained_on = split(bench.dataset.train).train
    largest = float(trained_on.class_counts().max() / len(trained_on))
    epochs = recipe_for(config, bench.dataset).epochs
    floor = {"dataset": bench.dataset.name, **levels(bench.dataset), "train_majority": largest, "epochs": epochs}
    for key, own in sweep.items():
        start = {**floor, **_named(by_label[key[0]], key)}
        cells += [_swept(start, lr, records) for lr, records in own.items()]
        for way, rate in chosen[key].items():
            records = {} if rate is None else groups[key, rate]
            edge = way in SELECTIONS and at_an_end(rates[key, way], rate)
            cells += _chosen({**start, "selection": way, "lr": rate, "edge": edge}, records)
    _compare(cells, config.reference)
    return Findings(
        study="optimizers",
        protocol=protocol_of("optimizers", bench, recipe_for(config, bench.dataset)),
        rows=cells,
        tables=tables(cells, config.optimizers, config.reference),
        sentences=sentences(cells, config.reference) + failures([*swept, *trained]),
        answer=answer(cells, config.reference),
    )


def _sweeps(
    bench: Bench, config: OptimizersConfig, places: Sequence[Place]
) -> tuple[dict[Key, Trained], dict[tuple[Key, str], list[float]]]:
    """Train the sweeps, and what lies beyond those at whose end a choice is.

    Returns:
        The networks of every place at every rate, rates ascending; and the rates that each way to choose has to choose
        from: those of the sweep, and what lay beyond its own choices.
    """
    found: dict[Key, Trained] = {_key(place): {} for place in places}
    rates = {(key, way): sweep_of(config, key[2]) for key in found for way in SELECTIONS}
    _train_at(bench, config, places, found, rates)
    for _ in range(config.extend):
        further = {(key, way): beyond(own, _choice(found[key], own, way)) for (key, way), own in rates.items()}
        if not any(further.values()):
            break
        rates = {which: [*own, *further[which]] for which, own in rates.items()}
        _train_at(bench, config, places, found, rates)
    return {key: dict(sorted(trained.items())) for key, trained in found.items()}, rates


def _train_at(
    bench: Bench,
    config: OptimizersConfig,
    places: Sequence[Place],
    found: Mapping[Key, Trained],
    rates: Mapping[tuple[Key, str], Sequence[float]],
) -> None:
    """Add the networks at those rates that `found` does not have yet."""
    trials = [
        (place, lr, s)
        for place in places
        for lr in sorted({lr for way in SELECTIONS for lr in rates[_key(place), way]} - found[_key(place)].keys())
        for s in range(config.sweep_seeds)
    ]
    if not trials:
        return
    records = bench.train([_victim(bench.dataset, config, *place, lr, s) for place, lr, s in trials])
    for (place, lr, _), record in zip(trials, records, strict=True):
        found[_key(place)].setdefault(lr, []).append(record)


def _key(place: Place) -> Key:
    row, model, name = place
    return row.label, model, name


def _choice(trained: Trained, rates: Sequence[float], way: str) -> float | None:
    return choose({rate: trained[rate] for rate in sorted(rates)}, SELECTIONS[way])


def _victim(
    dataset: Dataset, config: OptimizersConfig, row: PoisonRow, model: str, name: str, lr: float, s: int
) -> Victim:
    more: dict[str, Any] = {"held_out": True}
    if config.checkpoints:
        more["checkpoints"] = list(config.checkpoints)
    victim = victim_of(row, model, recipe_at(config, dataset, name, lr), config.seed, s, more)
    return dataclasses.replace(victim, labels={**victim.labels, "optimizer": name, "lr": lr})


def _named(row: PoisonRow, key: Key) -> dict[str, Any]:
    label, model, optimizer = key
    return {
        "poison": row.name,
        "pixels": row.pixels,
        "mode": row.mode,
        "row": label,
        "model": model,
        "optimizer": optimizer,
    }


def _swept(start: Mapping[str, Any], lr: float, records: Sequence[Record]) -> dict[str, Any]:
    """Return the row of a learning rate of a sweep."""
    return {**start, "kind": "sweep", "lr": lr, **_measured(dict(enumerate(records)), start["train_majority"])}


def _chosen(start: Mapping[str, Any], records: Mapping[int, Record]) -> list[dict[str, Any]]:
    """Return the row of a chosen learning rate, and one for each checkpoint."""
    final = {**start, "kind": "chosen", "epoch": None, **_measured(records, start["train_majority"])}
    done = {s: record for s, record in records.items() if record["status"] == "done"}
    epochs = [point["epoch"] for record in done.values() for point in record.get("by_epoch", ())]
    earlier = []
    for epoch in sorted({*epochs}):
        at = {
            s: {"status": "done", **next(point for point in record["by_epoch"] if point["epoch"] == epoch)}
            for s, record in done.items()
        }
        earlier.append({**start, "kind": "epoch", "epoch": epoch, **_measured(at, start["train_majority"])})
    return [final, *earlier]


def _measured(records: Mapping[int, Record], constant: float) -> dict[str, Any]:
    """Return what networks say together; `constant` is the accuracy of naming the largest class for every image."""
    done = {s: record for s, record in records.items() if record["status"] == "done"}
    accuracies = {s: record["clean_test_accuracy"] for s, record in done.items()}
    spread = limits(summarise(list(accuracies.values())) if accuracies else None)

    def mean(name: str) -> float | None:
        values = [record[name] for record in done.values() if record.get(name) is not None]
        return float(np.mean(values)) if values else None

    return {
        **{f"clean_test_accuracy_{name}" if name != "n" else "n": value for name, value in spread.items()},
        "failed": len(records) - len(done),
        "learned_nothing": sum(record["poisoned_train_accuracy"] <= constant for record in done.values()),
        **{name: mean(name) for name in ("pixel_follow_rate", "poisoned_train_accuracy", "poisoned_train_loss")},
        **{name: mean(name) for name in (*SELECTIONS.values(), "held_out_poisoned_loss")},
        "accuracies": list(accuracies.values()),
        "victims": list(accuracies),
    }


def _compare(cells: Sequence[dict[str, Any]], reference: str) -> None:
    """Add, to every chosen row, the paired comparison with the reference; all of a selection corrected together."""
    final = [cell for cell in cells if cell["kind"] == "chosen"]
    for way in dict.fromkeys(cell["selection"] for cell in final):
        own = [cell for cell in final if cell["selection"] == way]
        ps: dict[str, float] = {}
        for i, cell in enumerate(own):
            rival = next((c for c in own if c["optimizer"] == reference and _place(c) == _place(cell)), None)
            if rival is None or rival is cell:
                continue
            first, second = (dict(zip(c["victims"], c["accuracies"], strict=True)) for c in (cell, rival))
            if pairs := sorted(first.keys() & second.keys()):
                found = compare_pairs([first[s] for s in pairs], [second[s] for s in pairs])
                cell |= {f"vs_reference_{k}": v for k, v in dataclasses.asdict(found).items() if k in COMPARED}
                if found.p is not None:
                    ps[str(i)] = found.p
        for place, p in holm(ps).items():
            own[int(place)]["vs_reference_p_holm"] = p


def _place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return cell["row"], cell["model"]
