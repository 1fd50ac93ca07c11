"""What can a victim do? Every poison against every defence, and poisons that reach only a share of each class.

A defence is something that a victim does without knowing the poison: an augmentation on top of the study's own, a fixed
transformation of the training images (made once; the test images stay as they are, as in APBench), or adversarial
training. Network s has the same initial weights and batch order everywhere, so a defence is compared with none pair by
pair. Partial poisoning: the rule of `poison.partial`, without a defence.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mddes.data import Dataset
from mddes.errors import InputError, look_up
from mddes.settings import Ranges, check_each_once
from mddes.studies.base import PoisonStudyConfig, levels, poisons_of, protocol_of, rows_on, victim_of
from mddes.studies.bench import Bench, Victim, failures, stuck
from mddes.studies.findings import Findings, limits, percent, slashed
from mddes.studies.poisons import PoisonRow
from mddes.studies.settings import FLIPPED, PoisonSettings, recipe_for, resolve_models
from mddes.studies.statistics import Comparison, compare_pairs, holm, summarise
from mddes.tasks import Record
from mddes.training import Recipe
from mddes.training.adversary import STEPS
from mddes.training.augment import MIXING


@dataclass(frozen=True)
class Defense:
    """What a victim does: parts of augmentation, a squeeze of `data.squeeze`, a radius of adversarial training."""

    augmentation: tuple[str, ...] = ()
    squeeze: str | None = None
    adversarial: float = 0.0


DEFENSES = {
    "none": Defense(),
    "crop": Defense(augmentation=("crop",)),
    "crop-flip": Defense(augmentation=("crop", "flip")),
    "cutout": Defense(augmentation=("cutout",)),
    "mixup": Defense(augmentation=("mixup",)),
    "cutmix": Defense(augmentation=("cutmix",)),
    "randaugment": Defense(augmentation=("randaugment",)),
    "grayscale": Defense(squeeze="grayscale"),
    "bit-depth": Defense(squeeze="bit-depth"),
    "jpeg": Defense(squeeze="jpeg"),
    "median": Defense(squeeze="median"),
    "blur": Defense(squeeze="blur"),
    "adversarial": Defense(adversarial=8 / 255),
}


@dataclass(frozen=True, kw_only=True)
class DefendedPoisons(PoisonSettings):
    """Which poisons, which defences, and how the poisons are found where they must be searched for."""

    poisons: tuple[str, ...] = ("clean", "uniform", "one-pixel-shortcut", "mdd-es")
    """Rows, as for `mddes study transfer`."""
    defenses: tuple[str, ...] = ("all",)
    """all (those that suit the data), or any of: none, crop, crop-flip, cutout, mixup, cutmix, randaugment, grayscale,
    bit-depth, jpeg, median, blur, adversarial (PGD-7, 8/255)."""
    shares: tuple[float, ...] = (0.2, 0.5, 0.8, 0.9)
    """Shares of each class that are poisoned, without a defence; 1 is in the table already, and 0 if clean is a row."""


@dataclass(frozen=True, kw_only=True)
class DefensesConfig(DefendedPoisons, PoisonStudyConfig):
    """The settings of a study of defences."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each_once("defenses", self.defenses)
        if self.shares:
            check_each_once("shares", self.shares)
        for name in self.defenses:
            look_up("defence", name, {"all": None, **DEFENSES})

    def ranges(self) -> Ranges:
        """Return what the numbers may be."""
        usual = super().ranges()
        return Ranges({**usual.at_least, "shares": 0}, {"shares": 1})


PRESETS: dict[str, dict[str, Any]] = {
    # Every defence and the statistics in minutes on two cores.
    "smoke": {"pixels": (4,), "poisons": ("clean", "uniform", "one-pixel-shortcut"), "shares": (0.5,)},
    # The protocol of the One-Pixel Shortcut paper (ResNet-18, SGD 0.1 with momentum, weight decay 5e-4); their code has
    # batches of 256.
    "paper": {
        "dataset": "cifar10",
        "models": ("resnet18",),
        "optimizer": "momentum",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "schedule": "step",
        "epochs": 200,
        "batch_size": 128,
        "augmentation": ("standard",),
    },
}


def suitable(dataset: Dataset) -> list[str]:
    """Return the defences that suit a data set: no grayscale of gray images, no flips where they change the class."""
    unsuitable = {"grayscale"} if dataset.train.shape[0] == 1 else set()
    unsuitable |= set() if dataset.name in FLIPPED else {"crop-flip"}
    return [name for name in DEFENSES if name not in unsuitable]


def chosen_defenses(config: DefensesConfig, dataset: Dataset) -> list[str]:
    """Return the defences of a study, "none" first.

    Raises:
        InputError: grayscale of gray images, or what the victims do without a defence.
    """
    named = suitable(dataset) if "all" in config.defenses else list(config.defenses)
    if "grayscale" in named and dataset.train.shape[0] == 1:
        raise InputError(f"grayscale is no defence for {dataset.name}: its images are gray")
    own = recipe_for(config, dataset)
    idle = [name for name in named if name != "none" and _changes_nothing(DEFENSES[name], own)]
    if idle and "all" not in config.defenses:
        raise InputError(f"{idle[0]} is no defence here: the victims' own augmentation does it already")
    return list(dict.fromkeys(("none", *(name for name in named if name not in idle))))


def _changes_nothing(defense: Defense, own: Recipe) -> bool:
    return defense.squeeze is None and defended(own, defense) == own


def victims_a_model(config: DefensesConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many victims of each kind a study will train, and how many plain trainings they cost."""
    rows = poisons_of(config)
    shares = sum(0 < share < 1 for share in config.shares)
    names = chosen_defenses(config, dataset)
    victims = config.seeds * (rows * len(names) + (rows - ("clean" in config.poisons)) * shares)
    return victims, victims + config.seeds * rows * STEPS * ("adversarial" in names)


def defended(recipe: Recipe, defense: Defense) -> Recipe:
    """Return a recipe with a defence on top of its own augmentation.

    What mixes images stays last; Mixup and CutMix take each other's place.
    """
    parts = list(dict.fromkeys((*recipe.augmentation, *defense.augmentation)))
    mixing = [name for name in parts if name in MIXING]
    ordered = [name for name in parts if name not in MIXING] + mixing[-1:]
    return dataclasses.replace(recipe, augmentation=tuple(ordered), adversarial=defense.adversarial)


def run_defenses(bench: Bench, config: DefensesConfig) -> Findings:
    """Train the victims of the study, or find them trained, and return what they say."""
    names = chosen_defenses(config, bench.dataset)
    models = resolve_models(config.models, bench.dataset.train.shape[0])
    recipe = recipe_for(config, bench.dataset)
    rows = rows_on(bench, config)
    victims: list[Victim] = []
    for row in rows:
        for model in models:
            for s in range(config.seeds):
                victims += [_victim(row, model, recipe, config.seed, s, name) for name in names]
                if row.pixels is not None:
                    victims += [
                        victim_of(row, model, recipe, config.seed, s, {"share": share})
                        for share in config.shares
                        if 0 < share < 1
                    ]
    groups: dict[tuple[str, str, str, float], dict[int, Record]] = defaultdict(dict)
    rows_by_label = {row.label: row for row in rows}
    records = bench.train(victims)
    for victim, record in zip(victims, records, strict=True):
        labels = victim.labels
        key = (victim.model, labels["row"], labels.get("defense", "none"), labels.get("share", 1.0))
        groups[key][labels["victim"]] = record
    floor = levels(bench.dataset)
    cells = [_cell(rows_by_label[key[1]], key, groups, bench.dataset.name, floor) for key in groups]
    corrected = holm({str(i): cell["vs_none_p"] for i, cell in enumerate(cells) if cell["vs_none_p"] is not None})
    for i, cell in enumerate(cells):
        cell["vs_none_p_holm"] = corrected.get(str(i))
    tables = {}
    for model in dict.fromkeys(cell["model"] for cell in cells):
        own = [cell for cell in cells if cell["model"] == model]
        tables[f"Clean test accuracy with a defence, {model}"] = _table(own, "defense", lambda c: c["share"] == 1)
        tables[f"Clean test accuracy by poisoned share, {model}"] = _shares(own)
    return Findings(
        study="defenses",
        protocol=protocol_of("defenses", bench, recipe),
        rows=cells,
        tables=tables,
        sentences=_sentences(cells, bench.dataset)
        + _whole_only(rows, config)
        + stuck(_places(victims), records, bench.dataset)
        + failures(records),
    )


def _whole_only(rows: Sequence[PoisonRow], config: DefensesConfig) -> list[str]:
    """Say which poisons are there as whole images, of which no share can be left clean."""
    whole = [row.label for row in rows if row.images is not None]
    return [f"Not poisoned in part, being others' images: {', '.join(whole)}."] if whole and config.shares else []


def _places(victims: Sequence[Victim]) -> list[str]:
    """Return where each victim belongs, in words."""
    found = []
    for victim in victims:
        labels = victim.labels
        share = f", {100 * labels['share']:g} % poisoned" if "share" in labels else ""
        found.append(f"{victim.model}, {labels['row']}, {labels.get('defense', 'none')}{share}")
    return found


def _victim(row: PoisonRow, model: str, recipe: Recipe, root: int, s: int, name: str) -> Victim:
    defense = DEFENSES[name]
    more = {"squeeze": defense.squeeze} if defense.squeeze else {}
    victim = victim_of(row, model, defended(recipe, defense), root, s, more)
    return dataclasses.replace(victim, labels={**victim.labels, "defense": name})


def _cell(
    row: PoisonRow,
    key: tuple[str, str, str, float],
    groups: Mapping[tuple[str, str, str, float], Mapping[int, Record]],
    dataset: str,
    floor: Mapping[str, float],
) -> dict[str, Any]:
    model, label, defense, share = key
    records = groups[key]
    accuracies = _accuracies(records)
    spread = limits(summarise(list(accuracies.values())) if accuracies else None)
    without = _accuracies(groups[model, label, "none", 1.0])
    pairs = sorted(accuracies.keys() & without.keys()) if (defense, share) != ("none", 1.0) else []
    comparison = compare_pairs([accuracies[s] for s in pairs], [without[s] for s in pairs]) if pairs else None
    squeezed = [r["squeezed_test_accuracy"] for r in records.values() if r.get("squeezed_test_accuracy") is not None]
    return {
        "dataset": dataset,
        "poison": row.name,
        "pixels": row.pixels,
        "mode": row.mode,
        "row": label,
        "defense": defense,
        "share": share,
        "model": model,
        **{f"clean_test_accuracy_{name}" if name != "n" else "n": value for name, value in spread.items()},
        "failed": len(records) - len(accuracies),
        "squeezed_test_accuracy": sum(squeezed) / len(squeezed) if squeezed else None,
        **floor,
        **_flat(comparison),
        "accuracies": list(accuracies.values()),
    }


def _accuracies(records: Mapping[int, Record]) -> dict[int, float]:
    return {s: record["clean_test_accuracy"] for s, record in records.items() if record["status"] == "done"}


def _flat(comparison: Comparison | None) -> dict[str, Any]:
    names = ("difference", "low", "high", "p", "effect")
    return {f"vs_none_{name}": getattr(comparison, name) if comparison else None for name in names}


def _text(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    return percent(summarise(cell["accuracies"]) if cell["accuracies"] else None, cell["failed"])


def _table(cells: Sequence[Mapping[str, Any]], name: str, wanted: Any) -> list[dict[str, str]]:
    """Return a row for each value of `name`, a column for each poison."""
    own = [cell for cell in cells if wanted(cell)]
    found = {(cell[name], cell["row"]): cell for cell in own}
    labels = list(dict.fromkeys(cell["row"] for cell in own))
    titles = {label: _titled(label, next(cell for cell in own if cell["row"] == label)["mode"]) for label in labels}
    return [
        {name: str(value), "n": slashed(cell["n"] for cell in own if cell[name] == value)}
        | {titles[label]: _text(found.get((value, label))) for label in labels}
        for value in dict.fromkeys(cell[name] for cell in own)
    ]


def _titled(label: str, mode: str | None) -> str:
    return f"{label} ({mode})" if mode else label


def _shares(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a row for each poisoned share, from none to all, a column for each poison."""
    clean = next((cell for cell in cells if cell["poison"] == "clean" and cell["defense"] == "none"), None)
    own = [cell for cell in cells if cell["pixels"] is not None and cell["defense"] == "none"]
    labels = list(dict.fromkeys(cell["row"] for cell in own))
    found = {(cell["share"], cell["row"]): cell for cell in own}
    shares = sorted({cell["share"] for cell in own})
    table = [
        {"share": f"{100 * share:g} %", **{label: _text(found.get((share, label))) for label in labels}}
        for share in shares
    ]
    return [{"share": "0 %", **dict.fromkeys(labels, _text(clean))}, *table] if clean and labels else table


def _sentences(cells: Sequence[Mapping[str, Any]], dataset: Dataset) -> list[str]:
    """Return, for each poison, how well a victim does without a defence and with the best."""
    sentences = []
    places = dict.fromkeys((cell["model"], cell["row"]) for cell in cells)
    for model, label in sorted(places, key=lambda place: place[1] == "clean"):  # what helps comes first
        own = [cell for cell in cells if (cell["model"], cell["row"], cell["share"]) == (model, label, 1.0)]
        done = [cell for cell in own if cell["accuracies"]]
        plain = next((cell for cell in done if cell["defense"] == "none"), None)
        others = [cell for cell in done if cell["defense"] != "none"]
        if plain is None or not others:
            continue
        best = max(others, key=lambda cell: cell["clean_test_accuracy_mean"])
        p, apart = best["vs_none_p_holm"], best["vs_none_difference"]
        told = "no test" if p is None else f"p = {p:.2g} after Holm's correction"
        points = "no pair left" if apart is None else f"{100 * apart:+.1f} points, {told}"
        sentences.append(
            f"{dataset.name}, {model}, {label}: {_text(plain)} without a defence, {_text(best)} with the best of "
            f"{len(others)}, {best['defense']} ({points}; n = {best['n']})."
        )
    return sentences
