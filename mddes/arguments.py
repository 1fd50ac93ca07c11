"""The arguments of every command, and how they are parsed: tyro reads the settings' own declarations.

The groups of `search/config.py` become the groups of `mddes search --help`. A TOML file or a preset gives defaults,
options override them. What is wrong is said in one line.
"""

import argparse
import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.conf import OmitArgPrefixes, Positional
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mddes.errors import InputError, look_up
from mddes.search.config import (
    PRESETS,
    ComputeSettings,
    DataSettings,
    EvolutionSettings,
    FitnessSettings,
    PoisonSettings,
    SearchConfig,
    TrainingSettings,
    WinnerSettings,
)
from mddes.search.config_file import read_settings

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
    compute: OmitArgPrefixes[ComputeSettings]
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


@dataclass(frozen=True, kw_only=True)
class ResumeCommand:
    """Continue, extend or move a search; nothing that finished is computed again.

    Example: mddes resume runs/digits-np1-20261120-101500-s0 --generations 40
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    generations: int | None = None
    """Extend the search to so many generations."""
    evaluations: int | None = None
    """New limit on trained candidates."""
    wall_clock: float | None = None
    """New limit on the seconds that all generations together take."""
    workers: Literal["auto"] | int | None = None
    """Worker processes from now on; 0 runs in this process."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """Where networks are trained from now on."""
    data_dir: str | None = None
    """Where the data are now; they must be the same, by hash."""
    ray_address: str | None = None
    """A running Ray cluster: auto, or host:port; local is Ray on this machine."""
    cpus_per_worker: float | None = None
    """Cores that Ray reserves for a worker."""
    gpus_per_worker: float | None = None
    """Share of a GPU that Ray reserves for a worker."""
    placement: Literal["spread", "pack"] | None = None
    """Spread the workers over a cluster's nodes, or pack them on few."""
    object_store: int | None = None
    """MB of shared memory for the images, when Ray is started here."""
    time_limit: float | None = None
    """Seconds after which a training's worker is taken for hung and replaced; 0 is never."""
    stragglers: float | None = None
    """Cancel the last quarter of a generation's trainings when they take so many times the median; 0 is never."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write all generations to RUN/tensorboard too, from now on."""


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Say how far a run is, who is training, and what failed; it may be running in another terminal, or elsewhere.

    Example: mddes status runs/digits-np1-20261120-101500-s0
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as JSON, for scripts."""


@dataclass(frozen=True, kw_only=True)
class DatasetsCommand:
    """List the named data sets, and where each is read from or downloaded to."""

    data_dir: str | None = None
    """Folder with data already there; default $MDDES_DATA."""


def parse_search(arguments: Sequence[str]) -> tuple[SearchConfig, bool]:
    """Return the configuration of `mddes search`, and whether only its plan is wanted.

    Raises:
        InputError: arguments, preset or configuration file are wrong.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config")
    early.add_argument("--preset")
    settings: dict[str, Any] = {}
    with contextlib.suppress(argparse.ArgumentError):  # a missing value is for the real parser to report
        first, _ = early.parse_known_args(arguments)
        if first.preset:
            settings |= look_up("preset", first.preset, PRESETS)
        if first.config:
            settings |= read_settings(first.config)
    SearchConfig(**settings)  # a mistake in the file is said in the file's words
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
        compute=group(ComputeSettings),
    )


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _words_and_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Show `int | None` as INT and `Literal["auto"] | int` as auto|INT: an option is left out to mean none."""
    parts = [part for part in get_args(info.type) if part is not NoneType]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    kinds = [part for part in parts if get_origin(part) is not Literal]
    if get_origin(info.type) not in (Union, UnionType) or len(kinds) > 1 or {*kinds} - {int, float, str}:
        return None

    def read(given: list[str]) -> Any:
        if given[0] in words:
            return given[0]
        for kind in kinds:
            try:
                return kind(given[0])
            except ValueError:
                break
        numbers = {int: "a whole number", float: "a number", str: "a text"}
        raise ValueError(f"it is {' or '.join([*words, *(numbers[kind] for kind in kinds)])}, not {given[0]!r}")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([*words, *(kind.__name__.upper() for kind in kinds)]),
        instance_from_str=read,
        is_instance=lambda value: value is None or value in words or isinstance(value, tuple(kinds)),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def parse(kind: type[T], program: str, arguments: Sequence[str], default: T | None = None) -> T:
    """Parse with tyro; its framed error message becomes one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            if default is None:
                return tyro.cli(kind, prog=program, args=arguments, registry=REGISTRY)
            return tyro.cli(kind, prog=program, args=arguments, default=default, registry=REGISTRY)
    except SystemExit as stop:
        if not stop.code:
            raise
        text = _first_paragraph(errors.getvalue())
        raise InputError(f"{text} (see {program} --help)") from None


def _first_paragraph(framed: str) -> str:
    """Return what tyro says first under a message's title: the frame is drawn with lines, or with - where it must."""
    _, *lines = (line.strip("│╭╮╰╯ ") for line in framed.strip().splitlines())
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if re.fullmatch("[─-]+", line):
            paragraphs.append([])
        elif line:
            paragraphs[-1].append(line)
    return " ".join(next(filter(None, paragraphs), [framed.strip()]))
