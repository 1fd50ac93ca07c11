"""Whole studies: a configuration in, a folder and findings out. The command line is a thin layer over this.

`STUDIES` names them. A study's folder has the same parts as a search's: settings, environment, a ledger of trainings
that is its checkpoint, results, figures. To continue one is to run it again over its ledger.
"""

import dataclasses
import importlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mddes.compute import ComputeSettings
from mddes.config_file import read_toml, save_config
from mddes.data import Dataset, load_dataset
from mddes.errors import InputError, look_up
from mddes.pools import check_place, device_of, make_pool
from mddes.preparation import absolute, located
from mddes.search.progress import Progress
from mddes.studies import defenses, gradcam, interpolation, learning_curve, optimizers, sam, transfer
from mddes.studies.bench import STANDING, Bench
from mddes.studies.findings import Findings
from mddes.studies.poisons import PERTURBATION, check_poisons
from mddes.studies.settings import NetworkSettings, PoisonSettings, StudyData, recipe_for, resolve_models
from mddes.tasks import Ledger
from mddes.tasks.run_folder import create, lease, read_json, save_environment, write_json
from mddes.tasks.task import PROTOCOL
from mddes.threads import one_thread
from mddes.training import Recipe
from mddes.training.trial import try_out
from mddes.user_code import is_own, pin

log = logging.getLogger(__name__)

LEAST_AT_A_TIME = 22  # candidates of a generation of a large search
CONFIG, LEDGER = "study.toml", "trainings.jsonl"
# What may be another when a study is continued: how much of it there is, and where it is carried out.
EXTENT = (
    *("models", "poisons", "pixels", "seeds", "searches", "generations"),
    *("defenses", "shares", "candidates", "optimizers", "reference", "extend", "untuned", "methods", "problems"),
)
CIRCUMSTANCES = ("run", "dataset", "data_dir", *(field.name for field in dataclasses.fields(ComputeSettings)))
LARGER_ONLY = ("seeds", "searches", "generations", "candidates")


@dataclass(frozen=True)
class Study:
    """One kind of study.

    Attributes:
        config: its settings, a frozen dataclass.
        presets: settings by name.
        run: carries it out on a bench.
        count: victims of each kind of network, and how many plain trainings they cost.
        figures: "module:function" of `mddes.report`, from its rows to figures by file name (imported to be drawn);
            the module's PANELS are what can be drawn on a given axis.
        costs: of a study of other trainings than victims': how many of each kind, and the seconds of one at most.
    """

    config: type[Any]
    presets: Mapping[str, Mapping[str, Any]]
    run: Callable[[Bench, Any], Findings]
    count: Callable[[Any, Dataset], tuple[int, int]]
    figures: str
    costs: Callable[[Any, Dataset], Mapping[str, tuple[int, float]]] | None = None


def _study(module: Any, config: type[Any], run: Callable[[Bench, Any], Findings], figures: str) -> Study:
    return Study(config, module.PRESETS, run, module.victims_a_model, figures)


STUDIES = {
    "transfer": _study(transfer, transfer.TransferConfig, transfer.run_transfer, "transfer:transfer_figures"),
    "defenses": _study(defenses, defenses.DefensesConfig, defenses.run_defenses, "defenses:defenses_figures"),
    "learning-curve": _study(
        learning_curve,
        learning_curve.LearningCurveConfig,
        learning_curve.run_learning_curve,
        "learning_curve:learning_curve_figures",
    ),
    "optimizers": _study(
        optimizers, optimizers.OptimizersConfig, optimizers.run_optimizers, "optimizers:optimizers_figures"
    ),
    "gradcam": _study(gradcam, gradcam.GradcamConfig, gradcam.run_gradcam, "gradcam:gradcam_figures"),
    "interpolation": _study(
        interpolation,
        interpolation.InterpolationConfig,
        interpolation.run_interpolation,
        "interpolation:interpolation_figures",
    ),
    "sam": Study(sam.SamConfig, sam.PRESETS, sam.run_sam, sam.trainings, "sam:sam_figures", sam.costs),
}


def study(
    name: str,
    config: Any,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_folder: Callable[[Path], None] = lambda _: None,
) -> Findings:
    """Run a study in a new folder.

    Args:
        name: of `STUDIES`.
        config: its settings.
        on_progress: called after every training.
        on_folder: called with the folder as soon as it exists.

    Raises:
        InputError: settings or data that do not fit.
        RunStopped: a search within the study stopped; the folder can be resumed.
        OSError: the folder cannot be written.
    """
    kind = look_up("study", name, STUDIES)
    if not isinstance(config, kind.config):
        raise InputError(f"the study {name} takes a {kind.config.__name__}, not a {type(config).__name__}")
    with one_thread():
        config, dataset = prepared_study(config)
        check_study(name, config, dataset)
        folder = create(Path(config.out), f"{name}-{dataset.name}", config.seed)
        with lease(folder):
            on_folder(folder)
            return _run(name, folder, config, dataset, on_progress)


def resume_study(
    run_dir: str | Path, *, on_progress: Callable[[Progress], None] = lambda _: None, **changes: Any
) -> Findings:
    """Continue a study from its ledger; what was trained is not trained again.

    Args:
        run_dir: the study's folder.
        on_progress: called after every training.
        changes: `EXTENT` says how much of it there is (seeds, searches and generations only more), `CIRCUMSTANCES`
            where it is carried out; None leaves one as it is. All else is the study's own.

    Raises:
        InputError: no study there, another driver runs it, or data, settings and ledger do not fit together.
        RunStopped, OSError: as `study`.
    """
    for name in changes:
        look_up("setting of a study that is continued", name, dict.fromkeys((*EXTENT, *CIRCUMSTANCES)))
    folder = Path(run_dir)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is no study's folder: it has no {CONFIG}")
    with one_thread(), lease(folder):
        changes = {key: value for key, value in changes.items() if value is not None}
        name, config = read_study(folder, {**changes, **_pinned(changes)})
        config, dataset = prepared_study(config)
        check_study(name, config, dataset)
        return _run(name, folder, config, dataset, on_progress)


def read_study(folder: Path, changes: Mapping[str, Any] | None = None) -> tuple[str, Any]:
    """Return name and settings of the study in a folder, with changes; what they replace is not looked at.

    Raises:
        InputError: its settings cannot be read, or the changes mean nothing for it or make it smaller.
    """
    path, changes = folder / CONFIG, changes or {}
    settings = read_toml(path)
    try:
        name = str(settings.pop("study"))
        kind = look_up("study", name, STUDIES).config
        usual = {field.name: field.default for field in dataclasses.fields(kind)}
        for key in settings:
            look_up("key", key, usual)
    except KeyError as error:
        raise InputError(f"{path}: it does not name its study") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if strange := [key for key in changes if key not in usual]:
        raise InputError(f"--{strange[0].replace('_', '-')} means nothing for the study {name}")
    for key in LARGER_ONLY:
        if key in changes and changes[key] < settings.get(key, usual[key]):
            raise InputError(f"a study cannot be made smaller: {folder} has {key} {settings.get(key, usual[key])}")
    try:
        return name, kind(**{**settings, **changes})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_study(name: str, config: Any, dataset: Dataset) -> tuple[int, int]:
    """Return what the study's `count` does, once nothing is left that can be found wrong without training.

    Raises:
        InputError: settings, poisons or data that do not fit.
    """
    counted = STUDIES[name].count(config, dataset)
    if isinstance(config, PoisonSettings) and isinstance(config, NetworkSettings):
        check_poisons(dataset.train, config, config.seed)
    return counted


def _named(poison: str) -> str:
    """Return a poison's name; of a file, or of a search's folder, its whole path."""
    path = Path(poison) / PERTURBATION if Path(poison).is_dir() else Path(poison)
    return absolute(str(path)) if path.is_file() else poison


def prepared_study(config: Any) -> tuple[Any, Dataset]:
    """Return the settings with absolute paths, so that the study can be continued from anywhere, and the images."""
    device_of(config)
    check_place(config)
    if isinstance(config, learning_curve.LearningCurveConfig):
        config = learning_curve.of_search(config)
    assert isinstance(config, StudyData)
    assert isinstance(config, ComputeSettings)
    changes = located(config.dataset, config.data_dir, config.ray_address)
    dataset = load_dataset(config.dataset, data_dir=changes["data_dir"], train_size=config.train_size)
    if config.test_size is not None:
        if config.test_size > len(dataset.test):
            raise InputError(f"{dataset.name} has {len(dataset.test)} test images, not {config.test_size}")
        dataset = dataclasses.replace(dataset, test=dataset.test.subset(range(config.test_size)))
    if hasattr(config, "poisons"):
        changes["poisons"] = tuple(_named(name) for name in config.poisons)
    changes |= _pinned(vars(config))
    config = dataclasses.replace(config, **changes)
    if isinstance(config, sam.SamConfig):
        return config, dataset
    recipes = _recipes(config, dataset)
    for model in resolve_models(config.models, dataset.train.shape[0]):
        for recipe in recipes:
            if is_own(model) or is_own(recipe.optimizer):
                try_out(model, recipe, dataset.train)
    return config, dataset


def _recipes(config: Any, dataset: Dataset) -> list[Recipe]:
    if hasattr(config, "optimizers"):
        return optimizers.recipes(config, dataset)
    if isinstance(config, interpolation.InterpolationConfig):
        return config.recipes(dataset)
    return [recipe_for(config, dataset)]


def _pinned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that name a user's own networks and optimizers, with the digests of their files."""
    changes: dict[str, Any] = {}
    for what, setting in (("model", "models"), ("optimizer", "optimizers"), ("optimizer", "pair")):
        if (names := settings.get(setting)) is not None:
            changes[setting] = tuple(pin(what, name) if is_own(name) else name for name in names)
    for setting in ("reference", "optimizer"):
        if is_own(settings.get(setting) or ""):
            changes[setting] = pin("optimizer", settings[setting])
    return changes


def _at_a_time(config: Any) -> int:
    """Return about how many trainings a study has at a time; more workers would be of no use."""
    parts = (
        getattr(config, "models", ()),
        getattr(config, "methods", ()),
        getattr(config, "poisons", ()),
        getattr(config, "pixels", ()),
    )
    return int(max(LEAST_AT_A_TIME, math.prod(max(1, len(part)) for part in parts) * config.seeds))


def _run(name: str, folder: Path, config: Any, dataset: Dataset, on_progress: Callable[[Progress], None]) -> Findings:
    loose = {*EXTENT, *CIRCUMSTANCES, "train_size", "test_size"}
    usual = {field.name: field.default for field in dataclasses.fields(config)}
    chosen = {key: value for key, value in dataclasses.asdict(config).items() if key not in loose}
    # As the ledger will have them (lists, not tuples); without defaults, so that a new setting refuses no old study.
    settings = json.loads(json.dumps({key: value for key, value in chosen.items() if value != usual[key]}))
    data = dataset.train.digest() + dataset.test.digest()
    identity = {"study": name, "protocol": PROTOCOL, "data": data, **settings}
    with Ledger(folder / LEDGER, identity) as ledger:
        save_config({"study": name, **dataclasses.asdict(config)}, folder / CONFIG)
        save_environment(folder, device_of(config))
        _unfinished(folder / STANDING)
        shared = (dataset.train, dataset.test, dataset.train)  # searches split the training images anew
        with make_pool(config, folder / "logs", at_a_time=_at_a_time(config), data=shared) as pool:
            bench = Bench(dataset, folder, ledger, pool, on_progress)
            findings = dataclasses.replace(STUDIES[name].run(bench, config), run_dir=folder)
            bench.finish()
    findings.save(folder)
    _draw(folder, STUDIES[name].figures, findings)
    return findings


def _unfinished(path: Path) -> None:
    """Note that a study that is continued has not ended again yet."""
    standing = read_json(path)
    if isinstance(standing, dict) and standing.get("finished"):
        write_json(path, {**standing, "finished": False})


def _draw(folder: Path, drawing: str, findings: Findings) -> None:
    """Draw the figures; one that fails is a warning, never the end of a study."""
    from mddes.report import figures

    module, _, function = drawing.partition(":")
    (folder / "figures").mkdir(exist_ok=True)
    try:
        drawn = getattr(importlib.import_module(f"mddes.report.{module}"), function)(findings.rows)
    except Exception as error:  # noqa: BLE001  whatever a drawing library raises, the numbers are safe already
        log.warning("could not draw the figures of %s: %s", folder, error)
        return
    named = {Path(file).stem for file in drawn}
    for path in (folder / "figures").iterdir():
        if path.suffix in (".png", ".svg") and path.stem not in named:
            path.unlink()  # of rows that the study has no more
    for file, figure in drawn.items():
        try:
            figures.save(figure, folder / "figures" / file)
        except Exception as error:  # noqa: BLE001  as above; one figure takes no other with it
            log.warning("could not draw %s of %s: %s", file, folder, error)
