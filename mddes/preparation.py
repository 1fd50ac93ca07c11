"""What a search needs before it can begin: the data split, the configuration resolved."""

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path

from mddes.data import DATASETS, Dataset, SearchData, load_dataset, split
from mddes.errors import InputError
from mddes.pools import check_place, device_of
from mddes.search.config import SearchConfig, resolve
from mddes.training.trial import try_out
from mddes.user_code import is_own


@dataclass(frozen=True)
class Prepared:
    """A resolved configuration with its data. Only `data` goes to the search; `dataset.test` judges at the end."""

    config: SearchConfig
    dataset: Dataset
    data: SearchData


def prepare(config: SearchConfig) -> Prepared:
    """Load and split the data, and make the choices that depend on it.

    Raises:
        InputError: data that cannot be read, or settings that do not fit them or this machine.
    """
    device_of(config)
    check_place(config)
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the tensorboard package: pip install 'mddes[tensorboard]'")
    data_dir = config.data_dir or os.environ.get("MDDES_DATA") or None
    config = replace(config, data_dir=_absolute(data_dir) if data_dir else None)
    if config.ray_address == "local":
        config = replace(config, ray_address=None)
    dataset = load_dataset(config.dataset, data_dir=config.data_dir, train_size=config.train_size)
    data = split(dataset.train, whole=config.fitness_data == "train")
    if config.dataset not in DATASETS and Path(config.dataset).expanduser().exists():
        config = replace(config, dataset=_absolute(config.dataset))  # so that the run resumes from anywhere
    config = resolve(config, data)
    if is_own(config.model) or is_own(config.optimizer):
        try_out(config.model, config.recipe(), data.train)
    return Prepared(config, dataset, data)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def at_a_time(config: SearchConfig) -> int:
    """Return how many trainings a search has at a time."""
    assert config.popsize is not None, "the configuration is resolved"
    return config.popsize * config.repeats
