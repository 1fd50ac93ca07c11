"""`mddes search`.

The groups of `search/config.py` become the groups of `mddes search --help`. A TOML file or a preset gives defaults,
options override them.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes

from mddes.api import search
from mddes.arguments import given_first, parse
from mddes.bar import Bar, duration
from mddes.commands.result import print_result
from mddes.commands.speaking import say
from mddes.plan import Plan, plan
from mddes.search.config import (
    PRESETS,
    DataSettings,
    EvolutionSettings,
    FitnessSettings,
    PoisonSettings,
    SearchComputeSettings,
    SearchConfig,
    TrainingSettings,
    WinnerSettings,
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """Find the class-wise pixels that mislead a network most (MDD-ES).

    Workers train a network on each perturbation that CMA-ES samples; the fitness is how much worse the network does on
    clean than on poisoned images, plus how well a discriminator tells the two apart. The run's folder holds
    everything; `mddes resume FOLDER` continues it.

    Example: mddes search --dataset mnist --pixels 1 --train-size 10000 --data-dir DIR
    """

    data: OmitArgPrefixes[DataSettings]
    poison: OmitArgPrefixes[PoisonSettings]
    evolution: OmitArgPrefixes[EvolutionSettings]
    fitness: OmitArgPrefixes[FitnessSettings]
    training: OmitArgPrefixes[TrainingSettings]
    judgement: OmitArgPrefixes[WinnerSettings]
    compute: OmitArgPrefixes[SearchComputeSettings]
    config: str | None = None
    """A TOML file of settings, under the names of these options with _ for -; options override it."""
    preset: Literal["smoke", "paper"] | None = None
    """smoke: the machinery in seconds; paper: its literal reading. --config and options override it."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what the search would cost, from two timed trainings, and run nothing."""

    def settings(self) -> dict[str, Any]:
        """Return the groups' settings in one dictionary."""
        groups = [value for f in dataclasses.fields(self) if dataclasses.is_dataclass(value := getattr(self, f.name))]
        return {name: value for group in groups for name, value in dataclasses.asdict(group).items()}  # type: ignore[arg-type]


def parse_search(arguments: Sequence[str]) -> tuple[SearchConfig, bool]:
    """Return the configuration of `mddes search`, and whether only its plan is wanted.

    Raises:
        InputError: arguments, preset or configuration file are wrong.
    """
    settings = given_first(arguments, PRESETS, SearchConfig)
    command = parse(SearchCommand, "mddes search", arguments, _defaults(settings))
    return SearchConfig(**command.settings()), command.plan


def _defaults(settings: dict[str, Any]) -> SearchCommand:
    def group(kind: type[T]) -> T:
        names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        return kind(**{name: value for name, value in settings.items() if name in names})

    return SearchCommand(
        data=group(DataSettings),
        poison=group(PoisonSettings),
        evolution=group(EvolutionSettings),
        fitness=group(FitnessSettings),
        training=group(TrainingSettings),
        judgement=group(WinnerSettings),
        compute=group(SearchComputeSettings),
    )


def run(rest: list[str], running: list[Path]) -> None:
    """Run the command."""
    config, only_plan = parse_search(rest)
    if only_plan:
        _print_plan(plan(config))
        return

    def started(folder: Path) -> None:
        running.append(folder)
        say(f"run folder: {folder}")

    with Bar() as bar:
        result = search(config, on_progress=bar, on_folder=started)
    print_result(result)


def _print_plan(it: Plan) -> None:
    total = it.search_trainings + it.finalist_trainings + it.victim_trainings
    sys.stdout.write(
        f"search dimension   {it.dimension}\n"
        f"lambda             {it.popsize} candidates a generation\n"
        f"trainings          {total}: {it.search_trainings} in the search, {it.finalist_trainings} of finalists, "
        f"{it.victim_trainings} for the comparison on test images\n"
        f"steps a training   {it.steps}\n"
        f"seconds a training {min(it.timed):.2f} (timed twice: {it.timed[0]:.2f}, {it.timed[1]:.2f})\n"
        f"memory             about {it.megabytes} MB a worker, {it.megabytes * it.workers} MB for {it.workers}\n"
        f"time               about {duration(it.seconds)} on {it.workers} worker(s), after they have started\n"
    )
