"""What every run needs before it can begin: the data split, the configuration resolved, workers chosen."""

import importlib.util
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mddes.data import DATASETS, Dataset, SearchData, load_dataset, split
from mddes.errors import InputError
from mddes.search.config import SearchConfig, resolve
from mddes.tasks import Pool, SerialPool
from mddes.training.trial import try_out
from mddes.user_code import is_own

CONNECT_SECONDS = 10.0


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
    _check_workers(config)
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


def device_of(config: SearchConfig) -> str:
    """Return "cpu" or "cuda".

    Raises:
        InputError: cuda was asked for and this machine has none.
    """
    here = torch.cuda.is_available()
    if config.device == "cuda" and not here and config.ray_address is None:
        raise InputError("device is cuda, but torch finds no CUDA GPU here: use --device cpu or auto")
    return ("cuda" if here else "cpu") if config.device == "auto" else config.device


def _check_workers(config: SearchConfig) -> None:
    """Refuse, before anything is written, workers that there cannot be."""
    address = config.ray_address
    gpus = torch.cuda.device_count()
    if address in (None, "local") and config.workers != 0 and (config.gpus_per_worker or 0) > gpus:
        raise InputError(f"a worker is to have {config.gpus_per_worker:g} GPUs, and this machine has {gpus}")
    if address is None or address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in address:
        raise InputError(f"ray_address must be auto, local or host:port, not {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {error}") from error


def local_workers(config: SearchConfig) -> int:
    """Return how many workers this machine runs: one per GPU on cuda, else per core, never more than can be busy."""
    if config.workers != "auto":
        return config.workers
    if device_of(config) == "cuda":
        room = int(torch.cuda.device_count() / (config.gpus_per_worker or 1))
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        room = int(cores / (config.cpus_per_worker or 1))
    return max(1, min(room, _at_a_time(config)))


def _at_a_time(config: SearchConfig) -> int:
    """Return how many trainings a search has at a time."""
    assert config.popsize is not None, "the configuration is resolved"
    return config.popsize * config.repeats


def make_pool(prepared: Prepared, logs: Path) -> Pool:
    """Return the pool that the configuration asks for, with a folder for the logs of workers that were lost.

    Ray is imported only if it is needed.
    """
    config = prepared.config
    if config.workers == 0:
        return SerialPool(device_of(config))
    from mddes.tasks.ray_pool import RayPool

    on_cluster = config.ray_address is not None and config.workers == "auto"
    parts = (prepared.data.train, prepared.data.held_out, prepared.dataset.train, prepared.dataset.test)
    return RayPool(
        None if on_cluster else local_workers(config),
        useful=_at_a_time(config),
        device=device_of(config),
        address=config.ray_address,
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        placement=config.placement,
        store_bytes=None if config.object_store is None else config.object_store * 2**20,
        time_limit=config.time_limit or None,
        logs=logs,
        data_bytes=sum(part.images.nbytes + part.labels.nbytes for part in parts),
    )
