"""`mddes study`: trains victims, and says what they show."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes

from mddes.arguments import given_first, parse
from mddes.bar import Bar, duration
from mddes.commands.speaking import resume_command, say
from mddes.compute import ComputeSettings
from mddes.errors import InputError, look_up
from mddes.studies.defenses import DefendedPoisons
from mddes.studies.findings import Findings
from mddes.studies.gradcam import LookedAtPoisons
from mddes.studies.interpolation import InterpolatedPair
from mddes.studies.learning_curve import SearchedRun
from mddes.studies.optimizers import SweptOptimizers
from mddes.studies.sam import SamMethods, SamProblems
from mddes.studies.settings import NetworkSettings, PoisonSettings, StudyData, VictimSettings
from mddes.study import STUDIES, study
from mddes.study_plan import plan_study

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AnyStudyCommand:
    """What every study takes."""

    data: OmitArgPrefixes[StudyData]
    compute: OmitArgPrefixes[ComputeSettings]
    config: str | None = None
    """A TOML file of settings, under the names of these options with _ for -; options override it."""
    preset: Literal["smoke", "paper"] | None = None
    """smoke: the whole study, small, in minutes; paper: the published protocol. --config and options override it."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print how many trainings it takes, and about how long, from a few timed steps; run nothing."""


@dataclass(frozen=True, kw_only=True)
class StudyCommand(AnyStudyCommand):
    """What every study takes whose victims have one optimizer."""

    victims: OmitArgPrefixes[VictimSettings]


@dataclass(frozen=True, kw_only=True)
class TransferCommand(StudyCommand):
    """Does a poison carry over to other networks? Poisons x N_p x networks x seeds, judged on clean test images.

    Every network is trained from scratch under every poison; network s has the same initial weights and batches in
    every row. Poisons that must be searched for are searched first. The folder can be continued: `mddes resume FOLDER`.
    The preset paper is the protocol of Table 1 of the MDD-ES paper.

    Example: mddes study transfer --dataset mnist --train-size 10000 --models graynet resnet20 --pixels 1 5
    """

    poison: OmitArgPrefixes[PoisonSettings]


@dataclass(frozen=True, kw_only=True)
class DefensesCommand(StudyCommand):
    """What can a victim do? Every poison against every defence, and poisons that reach a share of each class only.

    Defences: crop and flip, Cutout, Mixup, CutMix, RandAugment, grayscale, bit-depth reduction, JPEG-10, 3 x 3 median,
    Gaussian blur, adversarial training; each on top of the victims' own augmentation. The preset paper is the protocol
    of the One-Pixel Shortcut paper.

    Example: mddes study defenses --dataset mnist --train-size 10000 --poisons clean one-pixel-shortcut mnist-np1
    """

    poison: OmitArgPrefixes[DefendedPoisons]


@dataclass(frozen=True, kw_only=True)
class LearningCurveCommand(StudyCommand):
    """What did a search buy? The test error of its best-so-far poison over generations, seen by nobody while it ran.

    Also the clean test accuracy of victims over their epochs, and how the proxy A-distance that the search logged goes
    with the test error of networks trained on its candidates. Data set and training size are those of the search.

    Example: mddes study learning-curve --run runs/digits-np5-20261120-101500-s0
    """

    search: OmitArgPrefixes[SearchedRun]


@dataclass(frozen=True, kw_only=True)
class OptimizersCommand(AnyStudyCommand):
    """Which optimizer resists? Every one tuned on its own under every poison, then compared on fresh networks.

    Learning rates are chosen twice: on held-out images that are poisoned as the victim's are, and by an oracle on their
    clean copies. Then `--seeds` fresh networks are trained at the chosen rates and judged on clean test images; network
    s has the same initial weights and batches under every optimizer: pairs are compared, with those of --reference.

    Example: mddes study optimizers --dataset mnist --train-size 10000 --poisons clean uniform mnist-np1
    """

    poison: OmitArgPrefixes[SweptOptimizers]
    victims: OmitArgPrefixes[NetworkSettings]


@dataclass(frozen=True, kw_only=True)
class GradcamCommand(StudyCommand):
    """Where does a poisoned network look? Grad-CAM of clean and poisoned networks from the same initial weights.

    The last convolution, the true class, the mean over 100 test images of each class, clean and poisoned copies; and
    numbers: how much of the maps lies near the class's own poison, near random places, and on the border. The preset
    paper is Fig. 2b of the MDD-ES paper.

    Example: mddes study gradcam --dataset mnist --train-size 10000 --poisons uniform mnist-np1
    """

    poison: OmitArgPrefixes[LookedAtPoisons]


@dataclass(frozen=True, kw_only=True)
class InterpolationCommand(AnyStudyCommand):
    """Which solution is sharper? Loss and accuracy on the line between two optimizers' solutions, and around both.

    Both train from the same initial weights on the same batches. Along the line w_a = (1 - a) w_0 + a w_1: training and
    test loss and accuracy, BatchNorm recalibrated and raw, the barrier. At both ends: top Hessian eigenvalue, trace,
    average-case sharpness, and slices of the loss in random directions scaled to the filters.

    Example: mddes study interpolation --dataset mnist --train-size 10000 --poisons clean uniform mnist-np1 --seeds 5
    """

    poison: OmitArgPrefixes[InterpolatedPair]
    victims: OmitArgPrefixes[NetworkSettings]


@dataclass(frozen=True, kw_only=True)
class SamCommand(AnyStudyCommand):
    """Does SAM gain by several perturbations? The three experiments of the multi-perturbation SAM paper, with power.

    A multilayer perceptron on synthetic vectors and on images laid flat, SGD with momentum under every method, early
    stopping. Run s has the same data, split, initial weights and batches under every method: pairs are compared. The
    preset paper is one synthetic problem and five runs.

    Example: mddes study sam --methods momentum sam mp-sam-mixed/3 mp-sam-mixed/7 --plan
    """

    methods: OmitArgPrefixes[SamMethods]
    problems: OmitArgPrefixes[SamProblems]


COMMANDS: dict[str, type[Any]] = {
    "transfer": TransferCommand,
    "defenses": DefensesCommand,
    "learning-curve": LearningCurveCommand,
    "optimizers": OptimizersCommand,
    "gradcam": GradcamCommand,
    "interpolation": InterpolationCommand,
    "sam": SamCommand,
}


def run(rest: list[str], running: list[Path]) -> None:
    """Run the command."""
    if not rest or rest[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        if not rest:
            raise InputError(f"name a study: {', '.join(COMMANDS)}")
        return
    name = rest[0]
    command = look_up("study", name, COMMANDS)
    config, only_plan = parse_study(name, command, rest[1:])
    if only_plan:
        sys.stdout.write(plan_study(name, config).text(duration))
        return

    def started(folder: Path) -> None:
        running.append(folder)
        say(f"run folder: {folder}")

    with Bar() as bar:
        findings = study(name, config, on_progress=bar, on_folder=started)
    print_findings(findings)


def parse_study(name: str, command: type[Any], arguments: Sequence[str]) -> tuple[Any, bool]:
    """Return the configuration of `mddes study NAME`, and whether only its plan is wanted.

    Raises:
        InputError: arguments, preset or configuration file are wrong.
    """
    kind = STUDIES[name]
    settings = dataclasses.asdict(kind.config(**given_first(arguments, kind.presets, kind.config)))
    groups = {f.name: f.type for f in dataclasses.fields(command) if dataclasses.is_dataclass(_group(f.type))}
    defaults = command(**{name: _filled(_group(hint), settings) for name, hint in groups.items()})
    parsed = parse(command, f"mddes study {name}", arguments, defaults)
    given = {k: v for name in groups for k, v in dataclasses.asdict(getattr(parsed, name)).items()}
    return kind.config(**given), parsed.plan


def _group(hint: Any) -> Any:
    return getattr(hint, "__origin__", hint)  # OmitArgPrefixes[X] is Annotated[X, ...]


def _filled(kind: Any, settings: dict[str, Any]) -> Any:
    return kind(**{field.name: settings[field.name] for field in dataclasses.fields(kind)})


def print_findings(findings: Findings) -> None:
    """Write what a study found, and where it lies."""
    sys.stdout.write(f"\n{findings.markdown()}\nresults       {findings.run_dir}\n")
    sys.stdout.write(f"to extend     {resume_command(findings.run_dir)} --seeds N\n")


def _overview() -> str:
    first = {name: (kind.__doc__ or "").partition("?")[0] + "?" for name, kind in COMMANDS.items()}
    rows = "".join(f"  mddes study {name:16} {summary}\n" for name, summary in first.items())
    return (
        f"Studies train networks under poisons, and measure them:\n\n{rows}\n`mddes study NAME --help` explains one.\n"
    )
