"""The configuration of a search: frozen, checked, and split into what defines a run and what merely carries it out.

`SearchConfig` is one flat set of settings, written in groups. `resolve` fills in what depends on the data, so that
the file in the run folder says everything. `identity` is what a run and its continuation must agree on; budgets,
workers, paths and devices may change.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from mddes.compute import COMPUTE_AT_LEAST, COMPUTE_CHOICES, ComputeSettings, check_workers
from mddes.data import SearchData
from mddes.errors import InputError
from mddes.models import MODELS
from mddes.poison.perturbation import MODES, Perturbation
from mddes.search.divergence import DISCRIMINATORS
from mddes.search.encoding import COLLISIONS, Encoding
from mddes.search.fitness import MISMATCHES
from mddes.search.strategy import DIAGONAL_FROM, default_popsize
from mddes.settings import Ranges, check_settings
from mddes.tasks.task import PROTOCOL
from mddes.training import Recipe, default_schedule
from mddes.user_code import is_own, pin


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images."""

    dataset: str = "digits"
    """A name (see `mddes datasets`), an .npz file, or a folder with train/<class>/ and test/<class>/."""
    data_dir: str | None = None
    """Folder with data already there, in torchvision's layout; default $MDDES_DATA, else ~/.cache/mddes (download)."""
    train_size: int | None = None
    """Use only the first so many training images (search-training and held-out parts together)."""


@dataclass(frozen=True, kw_only=True)
class PoisonSettings:
    """What a perturbation may be."""

    pixels: int = 5
    """N_p, pixels changed per class."""
    mode: Literal["set", "add"] = "set"
    """Set the pixel to the value, or add the value to it and clip to 0..255."""
    value: int | None = None
    """Write this one value everywhere (255: full brightness) and search places only; default: search values too."""
    collisions: Literal["repair", "allow"] = "repair"
    """Two classes with the same pixel and value: repair moves one of them, allow keeps both."""


@dataclass(frozen=True, kw_only=True)
class EvolutionSettings:
    """How the search goes on, and when it stops."""

    algorithm: Literal["cma-es", "random"] = "cma-es"
    """CMA-ES; or its rival, uniform draws at the same number of trainings (sigma0 and covariance mean nothing then)."""
    generations: int = 20
    """Stop after so many generations. The first budget that is spent ends the search."""
    popsize: int | None = None
    """lambda, candidates per generation; default 4 + floor(3 ln n) for n search dimensions."""
    evaluations: int | None = None
    """Stop before the generation that would exceed so many trained candidates."""
    wall_clock: float | None = None
    """Stop after the generation in which all generations together have taken so many seconds."""
    seed: int = 0
    """Root of all randomness."""
    sigma0: float = 1 / 3
    """Initial step size, in units of the search cube [0, 1]."""
    start: str | None = None
    """A perturbation file to start from; default the middle of the cube, close to uniform sampling."""
    covariance: Literal["auto", "full", "diagonal"] = "auto"
    """Shape of C; auto is full below 100 dimensions and diagonal from there."""


@dataclass(frozen=True, kw_only=True)
class FitnessSettings:
    """What is maximised: F = w_m F_m + w_d F_d."""

    mismatch: Literal["gap", "mismatch", "clean_ce"] = "gap"
    """F_m, a cross-entropy: clean minus poisoned copies, clean copies against poisoned predictions, or clean copies."""
    w_m: float = 1.0
    """Weight of F_m, the semantic mismatch."""
    w_d: float = 1.0
    """Weight of F_d = 1 - 2 eps, the domain divergence; 0 leaves the discriminator out."""
    discriminator: Literal["linear", "cnn"] = "linear"
    """What tells clean from poisoned images: logistic regression on pixels, or a small network."""
    fitness_data: Literal["held-out", "train"] = "held-out"
    """Where the fitness is measured: on a held-out slice of the training set, or on the training images."""
    repeats: int = 1
    """Trainings per candidate, each with its own seed; the fitness is their mean."""
    max_failures: float = 0.3
    """Stop, resumable, when more than this share of a generation's trainings failed."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How every candidate's network is trained."""

    model: str = "auto"
    """graynet, colornet, graynet-bn, colornet-bn, or your own package.module:builder; auto is graynet for one channel,
    colornet for three."""
    optimizer: str = "adam"
    """adam, sgd, momentum (sgd with 0.9), adamw, rmsprop, adabound, sam and its kin, or your own
    package.module:builder."""
    lr: float | None = None
    """Learning rate; default the optimizer's: adam 0.001, sgd 0.05, momentum 0.01, rmsprop 0.001, ..."""
    epochs: int | None = None
    """Epochs; default 3 (gray) or 5 (colour), more on small data so that training takes at least 300 steps."""
    batch_size: int | None = None
    """Images per step; default 128, smaller on small data for the same reason."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: faster where the processor has it, other last digits."""


@dataclass(frozen=True, kw_only=True)
class WinnerSettings:
    """Which candidate is named, and how it is judged at the end."""

    winner: Literal["reevaluated", "paper"] = "reevaluated"
    """The best mean of the finalists on fresh seeds, or (paper) the best single value."""
    finalists: int = 5
    """Best candidates that are trained again; the distribution's mean joins them."""
    finalist_seeds: int = 4
    """Fresh seeds for each finalist."""
    victim_seeds: int = 5
    """Networks per row of the final comparison on test images (clean, uniform, found); 0 leaves it out."""


@dataclass(frozen=True, kw_only=True)
class SearchComputeSettings(ComputeSettings):
    """Where it runs. Of this the device changes the result, in its last digits; and what is given up for being late."""

    stragglers: float = 0.0
    """Cancel the last quarter of a generation's trainings when they take so many times the median; 0 is never."""
    tensorboard: bool = False
    """Write the generations to RUN/tensorboard too (needs the extra: pip install 'mddes[tensorboard]')."""


BUDGETS = ("generations", "evaluations", "wall_clock")
CIRCUMSTANCES = ("data_dir", *(field.name for field in dataclasses.fields(SearchComputeSettings)))

CHOICES: dict[str, dict[str, Any]] = {
    "algorithm": dict.fromkeys(("cma-es", "random")),
    "mode": dict(MODES),
    "collisions": dict.fromkeys(COLLISIONS),
    "covariance": dict.fromkeys(("auto", "full", "diagonal")),
    "mismatch": dict(MISMATCHES),
    "discriminator": dict(DISCRIMINATORS),
    "fitness_data": dict.fromkeys(("held-out", "train")),
    "model": {"auto": None, **MODELS},
    "winner": dict.fromkeys(("reevaluated", "paper")),
    **COMPUTE_CHOICES,
}
RANGES = Ranges(
    at_least={
        "train_size": 1,
        "seed": 0,
        "pixels": 1,
        "generations": 1,
        "popsize": 2,
        "evaluations": 1,
        "w_m": 0,
        "w_d": 0,
        "repeats": 1,
        "max_failures": 0,
        "epochs": 1,
        "batch_size": 1,
        "finalists": 1,
        "finalist_seeds": 1,
        "victim_seeds": 0,
        "stragglers": 0,
        **COMPUTE_AT_LEAST,
    },
    at_most={"sigma0": 1, "max_failures": 1},
    above_zero=("sigma0", "wall_clock"),
)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(
    SearchComputeSettings,
    WinnerSettings,
    TrainingSettings,
    FitnessSettings,
    EvolutionSettings,
    PoisonSettings,
    DataSettings,
):
    """All settings of a search; each is described where it is declared, and by `mddes search --help`.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __post_init__(self) -> None:
        own = {name for name in ("model",) if is_own(str(self.model))}
        check_settings(self, {name: known for name, known in CHOICES.items() if name not in own}, RANGES)
        check_workers(self.workers)
        if self.algorithm == "random" and self.start is not None:
            raise InputError("a random search starts nowhere: leave start out")
        if self.w_m == 0 and self.w_d == 0:
            raise InputError("w_m and w_d are both 0: there is nothing to maximise")
        self.recipe()

    def recipe(self) -> Recipe:
        """Return the training recipe (with the defaults of `Recipe` where the schedule is still open)."""
        schedule = {name: getattr(self, name) for name in ("epochs", "batch_size") if getattr(self, name) is not None}
        return Recipe(optimizer=self.optimizer, lr=self.lr, precision=self.precision, **schedule)

    def encoding(self, image_shape: tuple[int, int, int], num_classes: int) -> Encoding:
        """Return the encoding for images of that shape (C, H, W) and so many classes."""
        return Encoding(
            image_shape=image_shape,
            num_classes=num_classes,
            pixels=self.pixels,
            mode=self.mode,
            value=self.value,
            collisions=self.collisions,
        )

    def last_generation(self) -> int:
        """Return how many generations the budgets of generations and evaluations allow (resolved settings)."""
        assert self.popsize is not None
        if self.evaluations is None:
            return self.generations
        return min(self.generations, self.evaluations // self.popsize)

    def fitness_settings(self) -> dict[str, Any]:
        """Return what every evaluation of the search has in common: part of the spec of `fitness.evaluate`."""
        names = ("model", "mismatch", "w_m", "w_d", "discriminator")
        return {"recipe": self.recipe().spec(), **{name: getattr(self, name) for name in names}}


class Changes(TypedDict, total=False):
    """What may be another when a run is continued: its budgets, and where and how it is carried out."""

    generations: int | None
    evaluations: int | None
    wall_clock: float | None
    data_dir: str | None
    workers: Literal["auto"] | int | None
    device: Literal["auto", "cpu", "cuda"] | None
    ray_address: str | None
    cpus_per_worker: float | None
    gpus_per_worker: float | None
    placement: Literal["spread", "pack"] | None
    object_store: int | None
    time_limit: float | None
    stragglers: float | None
    tensorboard: bool | None


PRESETS: dict[str, dict[str, Any]] = {
    # A look at the machinery in seconds; too little training to find anything.
    "smoke": {
        "generations": 2,
        "popsize": 4,
        "epochs": 1,
        "finalists": 1,
        "finalist_seeds": 1,
        "victim_seeds": 2,
    },
    # The paper's literal reading where the defaults depart from it (docs/method.md, "Readings").
    "paper": {"collisions": "allow", "fitness_data": "train", "winner": "paper", "precision": "fp32"},
}


def resolve(config: SearchConfig, data: SearchData) -> SearchConfig:
    """Return the configuration with every choice made that depends on the data.

    Raises:
        InputError: a setting that does not fit the data, such as more pixels than the image has; a network or an
            optimizer of one's own that cannot be loaded, or is not what it was.
    """
    channels = data.train.shape[0]
    model = config.model if config.model != "auto" else "graynet" if channels == 1 else "colornet"
    encoding = config.encoding(data.train.shape, data.train.num_classes)
    epochs, batch_size = default_schedule(len(data.train), channels, config.epochs, config.batch_size)
    covariance = config.covariance
    if covariance == "auto":
        covariance = "full" if encoding.dimension < DIAGONAL_FROM else "diagonal"
    popsize = config.popsize or default_popsize(encoding.dimension)
    if config.evaluations is not None and config.evaluations < popsize:
        raise InputError(f"evaluations must be at least one generation of {popsize}, not {config.evaluations}")
    return dataclasses.replace(
        config,
        model=pin("model", model) if is_own(model) else model,
        optimizer=pin("optimizer", config.optimizer) if is_own(config.optimizer) else config.optimizer,
        popsize=popsize,
        covariance=covariance,
        lr=config.recipe().lr,
        epochs=epochs,
        batch_size=batch_size,
    )


def identity(config: SearchConfig, data: SearchData, start: Perturbation | None) -> dict[str, Any]:
    """Return what defines a run: the resolved settings that shape its course, its images by hash, its start."""
    loose = {*BUDGETS, *CIRCUMSTANCES, "dataset", "train_size", "start", "victim_seeds"}
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in loose}
    poison = start.change() if start else None
    return {**settings, "protocol": PROTOCOL, "data": data.digest(), "start": poison}
