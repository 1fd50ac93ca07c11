"""Ready-made poisons: perturbations that ship with the package, each with how it was found."""

from importlib import resources
from pathlib import Path

from mddes.errors import InputError, look_up
from mddes.poison.perturbation import Perturbation


def ready_made() -> dict[str, Path]:
    """Return the file of every ready-made poison by its name, such as "mnist-np1"."""
    folder = Path(str(resources.files("mddes.poison") / "ready_made"))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def load_poison(name: str) -> Perturbation:
    """Return a ready-made poison: a data set's name, then -np and the number of pixels per class.

    Its `provenance` says how it was found, and on how many images. See docs/responsible-use.md.

    Raises:
        InputError: unknown name.

    >>> load_poison("digits-np5")
    Perturbation(5 pixels x 10 classes, set, (1, 8, 8))
    """
    return Perturbation.load(look_up("ready-made poison", name, ready_made()))


def find(name: str) -> Perturbation:
    """Return the perturbation that a user means: a file, a run's folder, or the name of a ready-made one.

    Raises:
        InputError: it is none of these, or no valid perturbation.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / "perturbation.json").is_file():
            raise InputError(f"{path} holds no perturbation.json: has its search ended?")
        return Perturbation.load(path / "perturbation.json")
    if path.exists() or path.suffix == ".json" or len(path.parts) > 1:
        return Perturbation.load(path)
    return load_poison(name)
