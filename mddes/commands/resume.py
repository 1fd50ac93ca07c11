"""`mddes resume`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from mddes.api import CONFIG as SEARCH
from mddes.api import resume
from mddes.arguments import parse
from mddes.bar import Bar
from mddes.commands.result import print_result
from mddes.commands.study import print_findings
from mddes.errors import InputError
from mddes.study import CONFIG, resume_study

ONLY_SEARCHES = ("evaluations", "wall_clock", "tensorboard", "stragglers")


Names = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="STR [STR ...]")]
Counts = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]")]
Shares = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT [FLOAT ...]")]


@dataclass(frozen=True, kw_only=True)
class StudyExtent:
    """How much of it a study has. Lists are whole: the rows of before that are to stay, and the new ones."""

    seeds: int | None = None
    """Networks of each kind, or runs, in a row of the results."""
    poisons: Names = None
    """All poisons."""
    pixels: Counts = None
    """All N_p."""
    models: Names = None
    """All networks."""
    optimizers: Names = None
    """Of a study of optimizers: all of them."""
    reference: str | None = None
    """Of a study of optimizers: the one that all others are tested against."""
    extend: int | None = None
    """Of a study of optimizers: further learning rates, at most, where the best lies at the end of its sweep."""
    untuned: bool | None = None
    """Of a study of optimizers: train at default learning rates as well."""
    defenses: Names = None
    """Of a study of defences: all of them."""
    shares: Shares = None
    """Of a study of defences: all shares of each class that are poisoned."""
    candidates: int | None = None
    """Of a learning curve: candidates whose target error is set against their logged A-distance."""
    methods: Names = None
    """Of the study of SAM: all methods."""
    problems: Names = None
    """Of the study of SAM: all problems."""
    searches: int | None = None
    """Independent searches for each searched row."""


@dataclass(frozen=True, kw_only=True)
class ResumeCommand:
    """Continue, extend or move a search or a study; nothing that finished is computed again.

    Example: mddes resume runs/digits-np1-20261120-101500-s0 --generations 40
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    generations: int | None = None
    """Extend the search, or each search of a study, to so many generations."""
    study: tyro.conf.OmitArgPrefixes[StudyExtent] = dataclasses.field(default_factory=StudyExtent)
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


def run(rest: list[str], running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(ResumeCommand, "mddes resume", rest)
    extent = dataclasses.asdict(parsed.study)
    changes = {k: v for k, v in dataclasses.asdict(parsed).items() if k not in ("run", "study")} | extent
    changes["tensorboard"] = parsed.tensorboard or None  # left out, it stays as it was
    running.append(Path(parsed.run))
    is_study = (Path(parsed.run) / CONFIG).is_file()
    is_search = (Path(parsed.run) / SEARCH).is_file()
    for name in ONLY_SEARCHES if is_study else extent:
        if changes.pop(name) is not None and (is_study or is_search):
            raise InputError(f"--{name.replace('_', '-')} means nothing for a {'study' if is_study else 'search'}")
    with Bar() as bar:
        if is_study:
            print_findings(resume_study(parsed.run, **changes, on_progress=bar))
        else:
            print_result(resume(parsed.run, **changes, on_progress=bar))
