"""The poisons of a study, by the names of its rows: none, drawn, constructed, searched for, shipped, or other people's.

What must be searched for is searched here, on training images only, with a ledger of its own in the study's folder.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mddes.data import ImageSet, split
from mddes.errors import InputError
from mddes.poison import Perturbation, left_column, uniform
from mddes.poison.one_pixel_shortcut import one_pixel_shortcut
from mddes.poison.peers import ENDINGS, load_peer
from mddes.poison.perturbation import check_pixels
from mddes.poison.ready import find, ready_made
from mddes.search.config import SearchConfig, identity, resolve
from mddes.search.driver import run_search
from mddes.seeding import derive
from mddes.settings import check_each_once
from mddes.studies.bench import Bench
from mddes.studies.settings import PoisonSettings
from mddes.tasks import Ledger

# Searched rows and what makes them differ from `mddes search`.
SEARCHED: dict[str, dict[str, Any]] = {
    "mdd-es": {},
    "mdd-es-mismatch": {"w_d": 0.0},
    "mdd-es-divergence": {"w_m": 0.0},
    "random-search": {"algorithm": "random"},
}
SHORTCUTS = {
    "one-pixel-shortcut": "reference",
    "one-pixel-shortcut-paper": "paper",
    "one-pixel-shortcut-art": "art",
}
PERTURBATION, EVALUATIONS = "perturbation.json", "evaluations.jsonl"  # in the folder of a search
EXPORTED = (PERTURBATION, "poisoned.npz", "perturbation.pt")  # what searches and exports call every file alike
KNOWN = ("clean", "uniform", "left-column", *SHORTCUTS, *SEARCHED)


@dataclass(frozen=True)
class PoisonRow:
    """One row of a study's tables.

    Attributes:
        name: as the user gave it.
        pixels: N_p; None for clean and for other people's images.
        mode: how it writes: "set", "add", "images" for other people's, None for clean.
        draw: from the number of a victim to its perturbation, None for clean and for images.
        images: other people's poisoned training images.
        evaluations: trainings that its search took.
        draws: how many searches, where there are several: a study may cross them with its networks.
    """

    name: str
    pixels: int | None
    mode: str | None
    draw: Callable[[int], Perturbation | None]
    images: ImageSet | None = None
    evaluations: int = 0
    draws: int | None = None

    @property
    def label(self) -> str:
        """Name and number of pixels: unique within a study."""
        return self.name if self.pixels is None else f"{self.name}, N_p = {self.pixels}"


def check_names(names: tuple[str, ...]) -> None:
    """Raise an `InputError` unless every row is known, shipped, or a file that is there; each once."""
    check_each_once("poisons", names)
    for name in names:
        if name in KNOWN or name in ready_made():
            continue
        if Path(name).is_dir():
            if not (Path(name) / PERTURBATION).is_file():
                raise InputError(f"the folder {name}, named as a poison, holds no {PERTURBATION}")
        elif Path(name).suffix in (".json", *ENDINGS):
            if not Path(name).is_file():
                raise InputError(f"no file {name}, named as a poison")
            if named_by(name) in (*KNOWN, *ready_made()):
                raise InputError(f"the row of {name} would be taken for another's: rename the file")
        else:
            known = ", ".join((*KNOWN, *ready_made()))
            files = "a search's folder, a .json, .npz or .pt file"
            raise InputError(f"unknown poison {name!r}; known: {known}; or {files}")


def named_by(file: str) -> str:
    """Return the row of a poison's file: its name, or, where all of a kind are called alike, its folder's.

    >>> named_by("mine/strong.json"), named_by("/runs/mnist-np1-s0/perturbation.json"), named_by("mnist-np1")
    ('strong', 'mnist-np1-s0', 'mnist-np1')
    >>> named_by("noise.pt"), named_by("exports/strong/poisoned.npz")
    ('noise.pt', 'strong')
    """
    path = Path(file)
    if path.name in EXPORTED and path.parent.name:
        return path.parent.name
    return path.name if path.suffix in ENDINGS else path.stem


def check_poisons(train: ImageSet, settings: PoisonSettings, seed: int) -> None:
    """Make every row that needs no search, and throw it away: what does not fit is said before a study begins.

    Raises:
        InputError: a poison that does not fit the training images.
    """
    check_each_once("pixels", settings.pixels)

    def unsearched(name: str, pixels: int) -> PoisonRow:
        search_config(train, settings, seed, name, pixels, 0)
        return PoisonRow(name, pixels, settings.mode, _never)

    for pixels in settings.pixels:
        check_pixels(pixels, train.shape)
    for row in poison_rows(train, settings, seed, unsearched):
        row.draw(0)


def searched_row(bench: Bench, settings: PoisonSettings, seed: int, name: str, pixels: int) -> PoisonRow:
    """Run the searches of a row, or find them done.

    Raises:
        RunStopped: a search stopped; it can be resumed.
    """
    found = [_searched(bench, settings, seed, name, pixels, j) for j in range(settings.searches)]
    evaluations = sum(trainings for _, trainings in found)
    draws = len(found) if len(found) > 1 else None
    return PoisonRow(
        name, pixels, settings.mode, lambda s: found[s % len(found)][0], evaluations=evaluations, draws=draws
    )


def poison_rows(
    train: ImageSet, settings: PoisonSettings, seed: int, search: Callable[[str, int], PoisonRow]
) -> list[PoisonRow]:
    """Return the rows, in the order in which they were named, each at every N_p.

    Args:
        train: the training images.
        settings: which rows.
        seed: root of what is drawn.
        search: makes a row (name, N_p) that must be searched for.

    Raises:
        InputError: a poison that does not fit the data, or two with the same row.
    """
    rows: list[PoisonRow] = []
    for name in settings.poisons:
        if name == "clean":
            rows.append(PoisonRow(name, None, None, _never))
        elif name in SEARCHED:
            rows += [search(name, pixels) for pixels in settings.pixels]
        elif name in KNOWN:
            rows += [_constructed(train, settings, seed, name, pixels) for pixels in settings.pixels]
        elif Path(name).suffix in ENDINGS:
            rows.append(PoisonRow(named_by(name), None, "images", _never, images=load_peer(name, train)))
        else:
            perturbation = find(name)
            try:
                perturbation.check_fits(train.shape, train.num_classes)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            cost = perturbation.provenance.get("trainings", perturbation.provenance.get("evaluations"))
            rows.append(
                PoisonRow(
                    named_by(name),
                    perturbation.pixels,
                    perturbation.mode,
                    _always(perturbation),
                    evaluations=cost if isinstance(cost, int) else 0,
                )
            )
    labels = [row.label for row in rows]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"two poisons would have the row {twice!r}: rename a file")
    return rows


def _never(_s: int) -> None:
    return None


def _always(perturbation: Perturbation) -> Callable[[int], Perturbation]:
    return lambda _: perturbation


def _constructed(train: ImageSet, settings: PoisonSettings, seed: int, name: str, pixels: int) -> PoisonRow:
    if name == "uniform":

        def drawn(s: int) -> Perturbation:
            own = derive(seed, "victims", s)
            return uniform(train, pixels=pixels, seed=own, mode=settings.mode, value=settings.value)

        return PoisonRow(name, pixels, settings.mode, drawn)
    if name == "left-column":
        return PoisonRow(name, pixels, "set", _always(left_column(train, pixels=pixels)))
    return PoisonRow(name, pixels, "set", _always(one_pixel_shortcut(train, pixels=pixels, score=SHORTCUTS[name])))


def search_config(
    train: ImageSet, settings: PoisonSettings, seed: int, name: str, pixels: int, number: int
) -> SearchConfig:
    """Return the resolved settings of one search of a row.

    Raises:
        InputError: they do not fit the images.
    """
    config = SearchConfig(
        pixels=pixels,
        mode=settings.mode,
        value=settings.value,
        generations=settings.generations,
        popsize=settings.popsize,
        epochs=settings.search_epochs,
        seed=derive(seed, "searches", number) % 2**31,
        **SEARCHED[name],
    )
    return resolve(config, split(train))


def _searched(
    bench: Bench, settings: PoisonSettings, seed: int, name: str, pixels: int, number: int
) -> tuple[Perturbation, int]:
    """Run one search, or find it done; return its winner and the trainings it took."""
    folder = bench.folder / "searches" / f"{name}-np{pixels}-s{number}"
    folder.mkdir(parents=True, exist_ok=True)
    data = split(bench.dataset.train)
    config = search_config(bench.dataset.train, settings, seed, name, pixels, number)
    told = {"method": name, "data": data.digest(), "seed": config.seed}
    if (folder / PERTURBATION).is_file() and not (folder / EVALUATIONS).is_file():
        winner = Perturbation.load(folder / PERTURBATION)  # of a study that was passed on without its searches' ledgers
        evaluations = winner.provenance.get("evaluations")
        if told.items() <= winner.provenance.items() and evaluations == config.generations * (config.popsize or 0):
            finalists = config.finalists + (config.algorithm == "cma-es")  # whose mean is one
            return winner, winner.provenance.get("trainings", evaluations + finalists * config.finalist_seeds)
    with Ledger(folder / EVALUATIONS, identity(config, data, None)) as ledger:
        outcome = run_search(data, config, ledger, bench.pool, on_progress=bench.on_progress)
        trainings = len(ledger.records)
    first = outcome.finalists[0]
    provenance = {
        **told,
        "dataset": bench.dataset.name,
        "evaluations": outcome.evaluations,
        "trainings": trainings,
        "source": first.source,
        "fitness_on_fresh_seeds": list(first.fresh),
    }
    winner = dataclasses.replace(first.perturbation, provenance=provenance)
    winner.save(folder / PERTURBATION)
    return winner, trainings
