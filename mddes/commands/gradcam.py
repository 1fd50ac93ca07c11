"""`mddes gradcam`: where a network looks that was trained on a poison, and where a clean one; a study of one poison."""

import sys
from pathlib import Path

from mddes.commands import study
from mddes.config_file import read_toml
from mddes.data import DATASETS
from mddes.errors import InputError
from mddes.poison.ready import find

USAGE = """usage: mddes gradcam RUN|perturbation.json|NAME [OPTIONS]

Where does a network look that was trained on a poison? Takes a search's folder, a perturbation's file or the name of a
ready-made one; data set and training size are the search's, unless options say otherwise. The options are those of
`mddes study gradcam`, which takes several poisons (--poisons) at once.

Example: mddes gradcam mnist-np1 --train-size 10000 --singles 0 1 2

"""


def run(rest: list[str], running: list[Path]) -> None:
    """Run the command."""
    if not rest or rest[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        if rest:
            study.run(["gradcam", "--help"], running)
        raise InputError("name a run's folder, a perturbation's file, or a ready-made poison")
    name, options = rest[0], rest[1:]
    if name.startswith("-"):
        raise InputError(f"name the poison first: mddes gradcam RUN|perturbation.json|NAME {' '.join(rest)}")
    if any(word.split("=")[0] == "--poisons" for word in options):
        raise InputError("mddes gradcam looks at the poison it names; for several: mddes study gradcam --poisons ...")
    study.run(["gradcam", "--poisons", _file_of(name), *_place_of(name, options), *options], running)


def _file_of(name: str) -> str:
    return str(Path(name) / "perturbation.json") if Path(name).is_dir() else name


def _place_of(name: str, options: list[str]) -> list[str]:
    """Return the options that say which images a poison was made for, as far as that is known and not said."""
    found = find(name)  # says what is wrong with it
    if any(word.split("=")[0] in ("--dataset", "--config", "--preset") for word in options):
        return []
    settings = Path(name) / "config.toml"
    if settings.is_file():
        known = read_toml(settings)
        chosen = {key: known.get(key) for key in ("dataset", "data_dir", "train_size")}
    else:
        dataset = (found.provenance or {}).get("dataset")
        searched = (found.provenance or {}).get("search")
        size = searched.get("train_size") if isinstance(searched, dict) else None
        chosen = {"dataset": dataset, "train_size": size} if dataset in DATASETS else {}
    given = {word.split("=")[0] for word in options}
    pairs = [(f"--{key.replace('_', '-')}", value) for key, value in chosen.items() if value is not None]
    return [str(part) for option, value in pairs if option not in given for part in (option, value)]
