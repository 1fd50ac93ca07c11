"""What studies have in common: which victims, which poisons, how many of each."""

from dataclasses import dataclass
from typing import Any, Literal

from mddes.data import Dataset
from mddes.errors import look_up
from mddes.models import MODELS
from mddes.settings import Ranges, check_each_once
from mddes.training import Recipe, default_schedule
from mddes.training.augment import check_augmentation
from mddes.user_code import is_own, pin

FLIPPED = ("cifar10", "fashion-mnist")  # elsewhere a mirrored picture may be another class, or none


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """Which images."""

    dataset: str = "digits"
    """A name (see `mddes datasets`), an .npz file, or a folder with train/<class>/ and test/<class>/."""
    data_dir: str | None = None
    """Folder with data already there; default $MDDES_DATA, else ~/.cache/mddes (download)."""
    train_size: int | None = None
    """Use only the first so many training images."""
    test_size: int | None = None
    """Judge on the first so many test images only."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which networks are trained, and how, but for the optimizer."""

    models: tuple[str, ...] = ("auto",)
    """Networks: graynet, colornet, resnet20, resnet32, densenet40, resnet18, or your own package.module:builder."""
    seeds: int = 3
    """Networks of each kind for each poison; network s has the same initial weights and batches under every poison."""
    seed: int = 0
    """Root of all randomness."""
    weight_decay: float = 0.0
    """Coupled L2; decoupled for adamw."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Of the learning rate: constant, cosine to 0, or a tenth after one half and three quarters."""
    epochs: int | None = None
    """Epochs; default 3 (gray) or 5 (colour), more on small data so that training takes at least 300 steps."""
    batch_size: int | None = None
    """Images per step; default 128, smaller on small data for the same reason."""
    augmentation: tuple[str, ...] = ()
    """After the poison: standard (crop with padding 4, and flip for cifar10 and fashion-mnist), or any of crop, flip,
    cutout, randaugment, mixup, cutmix, in this order."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: faster where the processor has it, other last digits."""


@dataclass(frozen=True, kw_only=True)
class VictimSettings(NetworkSettings):
    """Which networks are trained, and how."""

    optimizer: str = "adam"
    """sgd, momentum (sgd with 0.9), adam, adamw, rmsprop, adabound, sam, sam-adam, asam, mp-sam-gradient,
    mp-sam-random, mp-sam-mixed, mp-sam-adaptive, or your own package.module:builder."""
    lr: float | None = None
    """Learning rate; default the optimizer's."""


@dataclass(frozen=True, kw_only=True)
class PoisonSettings:
    """Which poisons, and how they are found where they must be searched for."""

    poisons: tuple[str, ...] = ("clean", "uniform", "left-column", "one-pixel-shortcut", "random-search", "mdd-es")
    """Rows: clean, uniform, left-column, one-pixel-shortcut, one-pixel-shortcut-paper, one-pixel-shortcut-art,
    random-search, mdd-es, mdd-es-mismatch (F_m only), mdd-es-divergence (F_d only); the name of a ready-made poison;
    or a file: a perturbation (.json), or a poisoned training set (.npz, .pt)."""
    pixels: tuple[int, ...] = (1,)
    """N_p, pixels changed per class; several make several rows."""
    mode: Literal["set", "add"] = "set"
    """How uniform and searched poisons write: set the pixel, or add to it and clip."""
    value: int | None = None
    """Uniform and searched poisons write this value everywhere; default free values."""
    searches: int = 1
    """Independent searches for each searched row. `transfer` trains every network on what each of them found;
    elsewhere network s is trained on what search s modulo this number found."""
    generations: int = 20
    """Of each search."""
    popsize: int | None = None
    """lambda of each search; default 4 + floor(3 ln n)."""
    search_epochs: int | None = None
    """Epochs of a training in the search; default as for `mddes search`."""


VICTIM_CHOICES: dict[str, dict[str, Any]] = {
    "schedule": dict.fromkeys(("constant", "cosine", "step")),
    "mode": dict.fromkeys(("set", "add")),
    "precision": dict.fromkeys(("fp32", "bf16")),
}
STUDY_RANGES = Ranges(
    at_least={
        "train_size": 1,
        "test_size": 1,
        "seeds": 1,
        "seed": 0,
        "weight_decay": 0,
        "epochs": 1,
        "batch_size": 1,
        "pixels": 1,
        "searches": 1,
        "generations": 1,
        "popsize": 2,
        "search_epochs": 1,
    },
)


def check_models(models: tuple[str, ...]) -> None:
    """Raise an `InputError` unless these are names of networks, each once; a user's own are not loaded."""
    check_each_once("models", models)
    for name in models:
        if not is_own(name):
            look_up("model", name, {"auto": None, **MODELS})


def resolve_models(models: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """Return the models with `auto` replaced, and a user's own pinned.

    Raises:
        InputError: none, one twice, or an unknown name.
    """
    auto = "graynet" if channels == 1 else "colornet"
    named = tuple(auto if name == "auto" else name for name in models)
    check_models(named)
    return tuple(pin("model", name) if is_own(name) else name for name in named)


def augmentation_for(names: tuple[str, ...], dataset: str) -> tuple[str, ...]:
    """Return the names of the parts, "standard" replaced by what suits the data set."""
    standard = ("crop", "flip") if dataset in FLIPPED else ("crop",)
    parts = tuple(part for name in names for part in (standard if name == "standard" else (name,)))
    check_augmentation(parts)
    return parts


def recipe_for(settings: NetworkSettings, dataset: Dataset) -> Recipe:
    """Return the victims' recipe, with what depends on the data chosen; where no optimizer is set, it is Adam."""
    train = dataset.train
    epochs, batch_size = default_schedule(len(train), train.shape[0], settings.epochs, settings.batch_size)
    optimizer, lr = "adam", None
    if isinstance(settings, VictimSettings):
        optimizer, lr = settings.optimizer, settings.lr
    return Recipe(
        optimizer=pin("optimizer", optimizer) if is_own(optimizer) else optimizer,
        lr=lr,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        epochs=epochs,
        batch_size=batch_size,
        augmentation=augmentation_for(settings.augmentation, dataset.name),
        precision=settings.precision,
    )
