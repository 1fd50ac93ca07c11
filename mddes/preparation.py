"""What a search needs before it can begin: the data split, the configuration resolved."""

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    where = located(config.dataset, config.data_dir, config.ray_address)
    dataset = load_dataset(config.dataset, data_dir=where["data_dir"], train_size=config.train_size)
    data = split(dataset.train, whole=config.fitness_data == "train")
    config = resolve(replace(config, **where), data)
    if is_own(config.model) or is_own(config.optimizer):
        try_out(config.model, config.recipe(), data.train)
    return Prepared(config, dataset, data)


def located(dataset: str, data_dir: str | None, ray_address: str | None) -> dict[str, Any]:
    """Return data set, data folder and cluster as a run saves them, so that it can be continued from anywhere."""
    folder = data_dir or os.environ.get("MDDES_DATA") or None
    is_path = dataset not in DATASETS and Path(dataset).expanduser().exists()
    return {
        "dataset": absolute(dataset) if is_path else dataset,
        "data_dir": absolute(folder) if folder else None,
        "ray_address": None if ray_address == "local" else ray_address,
    }


def absolute(path: str) -> str:
    """Return an absolute path."""
    return str(Path(path).expanduser().resolve())


def at_a_time(config: SearchConfig) -> int:
    """Return how many trainings a search has at a time."""
    assert config.popsize is not None, "the configuration is resolved"
    return config.popsize * config.repeats
