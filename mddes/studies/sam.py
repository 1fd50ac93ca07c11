"""Does averaging several perturbations help? The three experiments of the paper "Multi-Perturbation SAM", with power.

A multilayer perceptron on synthetic vectors, as there, and on images laid flat; SGD with momentum 0.9 under every
method, the same learning rate, early stopping on the validation loss. Run s of every method has the same data, split,
initial weights and batch order, so methods are compared pair by pair. Read next: `training/tabular.py` (a training),
`sam_claims.py` (what is concluded).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mddes.compute import COMPUTE_AT_LEAST, COMPUTE_CHOICES, ComputeSettings, check_workers
from mddes.data import Dataset, shared_arrays
from mddes.errors import InputError, look_up
from mddes.optim import OPTIMIZERS
from mddes.pools import device_of
from mddes.seeding import derive
from mddes.settings import Ranges, check_each_once, check_settings
from mddes.studies.bench import Bench, check_records, failures
from mddes.studies.findings import Findings
from mddes.studies.sam_claims import HIERARCHY, Runs, comparisons_of, method_row
from mddes.studies.sam_tables import sentences, tables
from mddes.studies.settings import StudyData
from mddes.tasks import Task
from mddes.tasks.task import Shared, execute
from mddes.training import Recipe
from mddes.training.tabular import LEAST_OF_A_CLASS

TASK = "mddes.training.tabular:train_and_test"
METHODS = (*HIERARCHY, "mp-sam-gradient")
PROBLEMS = ("synthetic", "images")
TRIAL = (2, 8)  # epochs of the two trainings by which a plan judges
RECORD = {
    "test_accuracy": float,
    "train_accuracy": float,
    "generalization_gap": float,
    "shifted_accuracy": list,
    "kept_epoch": int,
    "epochs": int,
    "steps": int,
    "passes": int,
}


@dataclass(frozen=True, kw_only=True)
class SamProblems:
    """On what the networks are trained, and under what shift they are judged."""

    problems: tuple[str, ...] = ("synthetic", "images")
    """synthetic (vectors drawn anew for every run), images (those of --dataset laid flat, split anew 60/20/20)."""
    samples: int = 3000
    """Of synthetic: vectors, of training, validation and test together."""
    features: int = 20
    """Of synthetic: numbers in a vector."""
    informative: int = 10
    """Of synthetic: how many of them tell classes apart; of the others half are linear combinations, half noise."""
    classes: int = 2
    """Of synthetic."""
    separation: float = 1.0
    """Of synthetic: half the side of the hypercube at whose corners the classes lie."""
    severities: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Of the distribution shift, 0 (none) to 1: features are mixed with another each, and noise is added."""


@dataclass(frozen=True, kw_only=True)
class SamMethods:
    """Which optimizers, and how the networks are trained."""

    methods: tuple[str, ...] = ("momentum", "sam", "mp-sam-random/3", "mp-sam-mixed/5", "mp-sam-adaptive/5")
    """momentum, sam, mp-sam-gradient, mp-sam-random, mp-sam-mixed, mp-sam-adaptive; /K for K perturbations."""
    seeds: int = 30
    """Runs of each method; run s has the same data, split, initial weights and batches under every method."""
    seed: int = 0
    """Root of all randomness."""
    lr: float = 0.01
    """Learning rate of every method."""
    rho: float = 0.05
    """Radius of the perturbations."""
    weight_decay: float = 1e-4
    """Coupled L2."""
    hidden: tuple[int, ...] = (64, 32)
    """Units of each hidden layer."""
    epochs: int = 200
    """At most."""
    patience: int = 10
    """Epochs without a lower validation loss after which training ends; the best epoch's weights are kept."""
    batch_size: int = 64
    """Vectors per step."""


@dataclass(frozen=True, kw_only=True)
class SamConfig(ComputeSettings, SamMethods, SamProblems, StudyData):
    """The settings of the study.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __post_init__(self) -> None:
        check_settings(self, COMPUTE_CHOICES, RANGES)
        check_workers(self.workers)
        for name in self.problems:
            look_up("problem", name, dict.fromkeys(PROBLEMS))
        check_each_once("problems", self.problems)
        check_each_once("methods", [named(method) for method in self.methods])
        check_each_once("severities", self.severities)
        if self.features < self.informative:
            raise InputError(f"informative must be at most features ({self.features}), not {self.informative}")
        if 2 * self.classes > 2**self.informative:
            raise InputError(f"{self.classes} classes of two clusters need more than {self.informative} informative")
        if self.samples < 20 * self.classes:
            raise InputError(f"samples must be at least 20 for each class ({20 * self.classes}), not {self.samples}")
        for method in self.methods:
            self.recipe(method)

    def recipe(self, method: str) -> Recipe:
        """Return how a method trains."""
        name, _, k = named(method).partition("/")
        return Recipe(
            optimizer=name,
            lr=self.lr,
            weight_decay=self.weight_decay,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rho=None if name == "momentum" else self.rho,
            perturbations=int(k) if k else None,
        )


RANGES = Ranges(
    at_least={
        "train_size": 1,
        "test_size": 1,
        "informative": 1,
        "classes": 2,
        "severities": 0,
        "seeds": 1,
        "seed": 0,
        "rho": 0,
        "weight_decay": 0,
        "hidden": 1,
        "epochs": 1,
        "patience": 1,
        "batch_size": 1,
        **COMPUTE_AT_LEAST,
    },
    at_most={"severities": 1},
    above_zero=("lr", "separation"),
)
PRESETS: dict[str, dict[str, Any]] = {
    # Every table in a minute.
    "smoke": {"samples": 400, "train_size": 300, "test_size": 100, "epochs": 10, "seeds": 3},
    # What the paper did: one synthetic problem, five runs.
    "paper": {"problems": ("synthetic",), "seeds": 5},
}


def named(method: str) -> str:
    """Return a method with its number of perturbations, if it may have several.

    >>> named("mp-sam-mixed"), named("mp-sam-random/3"), named("sam")
    ('mp-sam-mixed/5', 'mp-sam-random/3', 'sam')

    Raises:
        InputError: no such method.
    """
    name, slash, k = method.partition("/")
    look_up("method", name, dict.fromkeys(METHODS))
    if not name.startswith("mp-"):
        if slash:
            raise InputError(f"{name} has no number of perturbations: {name}, not {method}")
        return name
    own = OPTIMIZERS[name].sam
    assert own is not None
    k = k if slash else str(own["n_perturbations"])
    if not (k.isascii() and k.isdigit() and int(k) >= 1):
        raise InputError(f"the perturbations of {name} must be a whole number, at least 1: {name}/5, not {method}")
    return f"{name}/{int(k)}"


def trainings(config: SamConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many trainings a study takes.

    Raises:
        InputError: a class has too few images to be split.
    """
    if "images" in config.problems:
        counts = dataset.train.class_counts() + dataset.test.class_counts()
        if counts.min() < LEAST_OF_A_CLASS:
            k = int(counts.argmin())
            raise InputError(f"class {k} has {counts[k]} images; 60/20/20 needs at least {LEAST_OF_A_CLASS} of every")
    total = config.seeds * len(config.problems) * len(config.methods)
    return total, total


def costs(config: SamConfig, dataset: Dataset) -> dict[str, tuple[int, float]]:
    """Return how many trainings of each kind there are, and the seconds of one that runs through all its epochs."""
    shared = _shared(dataset)
    found = {}
    for problem in config.problems:
        for method in map(named, config.methods):
            task, took = task_of(config, dataset, problem, method, 0), []
            for epochs in TRIAL:
                spec = {**task.spec, "recipe": {**task.spec["recipe"], "epochs": epochs}, "patience": epochs}
                started = time.perf_counter()
                execute(Task(TASK, spec), shared, device_of(config))
                took.append(time.perf_counter() - started)
            epoch = max(0.0, took[1] - took[0]) / (TRIAL[1] - TRIAL[0])
            found[f"{task.labels['problem']}, {method}"] = (config.seeds, took[0] + epoch * (config.epochs - TRIAL[0]))
    return found


def task_of(config: SamConfig, dataset: Dataset, problem: str, method: str, run: int) -> Task:
    """Return the training of one run of a method on a problem."""
    names = ("samples", "features", "informative", "classes", "separation")
    own = problem == "synthetic"
    spec = {
        "synthetic": {name: getattr(config, name) for name in names} if own else None,
        "recipe": config.recipe(method).spec(),
        "hidden": list(config.hidden),
        "patience": config.patience,
        "severities": list(config.severities),
        "seed": derive(config.seed, "sam", run),
    }
    digest = "" if own else dataset.train.digest() + dataset.test.digest()
    labels = {"problem": problem if own else dataset.name, "method": method, "run": run, "seed": spec["seed"]}
    return Task(TASK, spec, digest, labels)


def run_sam(bench: Bench, config: SamConfig) -> Findings:
    """Train the networks of the study, or find them trained, and return what they say."""
    methods = [named(method) for method in config.methods]
    tasks = [  # the methods of a run one after the other: their times are compared
        task_of(config, bench.dataset, problem, method, run)
        for run in range(config.seeds)
        for problem in config.problems
        for method in methods
    ]
    records = bench.run(tasks, _shared(bench.dataset))
    check_records(bench.ledger.path, records, RECORD)
    groups: dict[tuple[str, str], Runs] = {}
    for task, record in zip(tasks, records, strict=True):
        key = (task.labels["problem"], task.labels["method"])
        groups.setdefault(key, Runs(*key, severities=config.severities)).add(task.labels["run"], record)
    rows = [
        method_row(runs, [groups[key] for name in ("momentum", "sam") if (key := (runs.problem, name)) in groups])
        for runs in groups.values()
    ]
    compared = comparisons_of(list(groups.values()))
    return Findings(
        study="sam",
        protocol=_protocol(bench, config),
        rows=[{**row, "lr": config.lr, "rho": config.rho} for row in rows] + compared,
        tables=tables(rows, compared, config.severities),
        sentences=sentences(list(groups.values()), rows, compared) + failures(records),
    )


def _shared(dataset: Dataset) -> Shared:
    return shared_arrays(train=dataset.train, test=dataset.test)


def _protocol(bench: Bench, config: SamConfig) -> Mapping[str, Any]:
    first = task_of(config, bench.dataset, "synthetic", "momentum", 0).spec
    data = bench.dataset.train.digest() + bench.dataset.test.digest()
    return {**{k: v for k, v in first.items() if k != "seed"}, "study": "sam", "data": data, "rho": config.rho}
