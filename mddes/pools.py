"""From settings to workers: the device, whether there can be such workers, and the pool."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import torch

from mddes.compute import ComputeSettings
from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.tasks import Pool, SerialPool

CONNECT_SECONDS = 10.0


def device_of(config: ComputeSettings) -> str:
    """Return "cpu" or "cuda".

    Raises:
        InputError: cuda was asked for and this machine has none.
    """
    here = torch.cuda.is_available()
    if config.device == "cuda" and not here and config.ray_address is None:
        raise InputError("device is cuda, but torch finds no CUDA GPU here: use --device cpu or auto")
    return ("cuda" if here else "cpu") if config.device == "auto" else config.device


def check_place(config: ComputeSettings) -> None:
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


def local_workers(config: ComputeSettings, at_a_time: int) -> int:
    """Return how many workers this machine runs: one per GPU on cuda, else per core, never more than can be busy."""
    if config.workers != "auto":
        return config.workers
    if device_of(config) == "cuda":
        room = int(torch.cuda.device_count() / (config.gpus_per_worker or 1))
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        room = int(cores / (config.cpus_per_worker or 1))
    return max(1, min(room, at_a_time))


def make_pool(config: ComputeSettings, logs: Path, *, at_a_time: int, data: Iterable[ImageSet]) -> Pool:
    """Return the pool that the settings ask for. Ray is imported only if it is needed.

    Args:
        config: the settings.
        logs: folder for the logs of workers that were lost.
        at_a_time: how many trainings there are at a time; more workers are of no use.
        data: all images that the workers will share.
    """
    if config.workers == 0:
        return SerialPool(device_of(config))
    from mddes.tasks.ray_pool import RayPool

    on_cluster = config.ray_address is not None and config.workers == "auto"
    return RayPool(
        None if on_cluster else local_workers(config, at_a_time),
        useful=at_a_time,
        device=device_of(config),
        address=config.ray_address,
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        placement=config.placement,
        store_bytes=None if config.object_store is None else config.object_store * 2**20,
        time_limit=config.time_limit or None,
        logs=logs,
        data_bytes=sum(part.images.nbytes + part.labels.nbytes for part in data),
    )
