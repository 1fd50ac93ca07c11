"""`mddes status`."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from mddes.arguments import parse
from mddes.status import status
from mddes.studies.standing import standing
from mddes.study import CONFIG, LEDGER


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Say how far a run is, who is training, and what failed; it may be running in another terminal, or elsewhere.

    Example: mddes status runs/digits-np1-20261120-101500-s0
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as JSON, for scripts."""


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(StatusCommand, "mddes status", rest)
    folder = Path(parsed.run)
    now = standing(folder, LEDGER) if (folder / CONFIG).is_file() else status(folder)
    sys.stdout.write(json.dumps(dataclasses.asdict(now), indent=1) + "\n" if parsed.json else f"{now}\n")
