"""What does one pixel per class do to MNIST? Clean, uniform and found poisons, under Adam and SGD.

Six MDD-ES searches of about 300 evaluations on the first 10,000 training images (values free, and fixed at full
brightness; three search seeds each), then victims on all 10,000 test images: GrayNet with the search's recipe, four
seeds for each poison and optimizer, the same four for all. It takes about an hour and a half on two cores, and goes
on where it stopped:

    python benchmarks/mnist_one_pixel.py --data-dir DIR --work runs/mnist-one-pixel

The result goes to benchmarks/results/mnist_one_pixel.json, with its table on standard output.
"""

import argparse
import dataclasses
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import mddes
from mddes.data import shared_arrays
from mddes.seeding import derive
from mddes.tasks import Ledger, Task, complete
from mddes.tasks.ray_pool import RayPool
from mddes.tasks.run_folder import environment, write_json

RESULTS = Path(__file__).parent / "results"
SEARCHES: dict[str, dict[str, Any]] = {  # 308 and 300 evaluations: whole generations of lambda = 14 and 12
    "free": {"value": None, "generations": 22},
    "full": {"value": 255, "generations": 25},
}
OPTIMIZERS = {"adam": 1e-3, "sgd": 0.05}

Poison = tuple[str, int, mddes.Perturbation | None]  # family, index within it, what it is (None: clean)


def search(kind: str, seed: int, data_dir: str, work: Path, workers: int) -> mddes.Perturbation:
    """Run one search, or finish the one that is there."""
    out = work / f"search-{kind}-{seed}"
    for folder in out.glob("*/config.toml"):
        return mddes.resume(folder.parent, workers=workers, data_dir=data_dir).perturbation
    config = mddes.SearchConfig(
        dataset="mnist",
        train_size=10_000,
        data_dir=data_dir,
        pixels=1,
        seed=seed,
        victim_seeds=0,
        workers=workers,
        out=str(out),
        **SEARCHES[kind],
    )
    return mddes.search(config).perturbation


def victims(data: mddes.Dataset, poisons: list[Poison], seeds: int, work: Path, workers: int) -> list[dict[str, Any]]:
    """Return one record per poison, optimizer and seed."""
    digest = data.train.digest() + data.test.digest()
    tasks = []
    for optimizer, lr in OPTIMIZERS.items():
        recipe = dataclasses.asdict(mddes.Recipe(optimizer=optimizer, lr=lr, epochs=3, batch_size=64))
        for family, index, poison in poisons:
            for s in range(seeds):
                change = poison.change() if poison else None
                spec = {"model": "graynet", "recipe": recipe, "seed": derive(0, "victims", s), "num_classes": 10}
                labels = {"family": family, "index": index, "optimizer": optimizer, "victim": s, "perturbation": change}
                task = Task("mddes.training.victim:train_and_test", {**spec, "perturbation": change}, digest, labels)
                tasks.append(task)
    shared = shared_arrays(train=data.train, test=data.test)
    size = sum(array.nbytes for array in shared.values())
    with RayPool(workers, data_bytes=size) as pool, Ledger(work / "victims.jsonl", {"data": digest}) as ledger:
        records = complete(tasks, shared, pool, ledger)
    if failed := [record["reason"] for record in records if record["status"] == "failed"]:
        raise SystemExit(f"{len(failed)} victims failed, the first of: {failed[0]}; run this again")
    return records


def table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per family and optimizer, clean test accuracy in percent.

    The spread between poisons (draws, or searches) is the sd of their means over seeds, its n the number of poisons;
    the spread between networks is the sd over seeds within a poison, pooled. They are never mixed into one sd.
    """
    rows = []
    for family in dict.fromkeys(record["family"] for record in records):
        for optimizer in OPTIMIZERS:
            own = [r for r in records if (r["family"], r["optimizer"]) == (family, optimizer)]
            values = np.array(
                [
                    [100 * r["clean_test_accuracy"] for r in own if r["index"] == index]
                    for index in sorted({r["index"] for r in own})
                ]
            )
            means = values.mean(axis=1)
            rows.append(
                {
                    "family": family,
                    "optimizer": optimizer,
                    "mean": float(means.mean()),
                    "poisons": len(means),
                    "sd_between_poisons": float(means.std(ddof=1)) if len(means) > 1 else None,
                    "networks_per_poison": values.shape[1],
                    "sd_between_networks": float(np.sqrt(values.var(axis=1, ddof=1).mean())),
                    "means": means.round(2).tolist(),
                }
            )
    return rows


def main() -> None:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/mnist-one-pixel"))
    parser.add_argument("--searches", type=int, default=3, help="search seeds for each kind")
    parser.add_argument("--draws", type=int, default=5, help="uniform perturbations of each kind")
    parser.add_argument("--seeds", type=int, default=4, help="victims for each poison and optimizer")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    data = mddes.load_dataset("mnist", data_dir=given.data_dir, train_size=10_000)
    poisons: list[Poison] = [("clean", 0, None)]
    for kind, settings in SEARCHES.items():
        for draw in range(given.draws):
            one = mddes.uniform(data.train, pixels=1, seed=draw, value=settings["value"])
            poisons.append((f"uniform, {kind}", draw, one))
    for seed in range(given.searches):
        for kind in SEARCHES:
            found = search(kind, seed, given.data_dir, given.work, given.workers)
            poisons.append((f"found, {kind}", seed, found))
            sys.stderr.write(f"search {kind} {seed} done\n")
    records = victims(data, poisons, given.seeds, given.work, given.workers)
    rows = table(records)
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "mnist_one_pixel.json", {"environment": where, "rows": rows})
    slim = [{k: v for k, v in r.items() if k not in {"worker", "traceback"}} for r in records]
    text = "".join(json.dumps(record) + "\n" for record in slim)
    (RESULTS / "mnist_one_pixel_victims.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    for row in rows:
        between = "" if row["sd_between_poisons"] is None else f", sd between poisons {row['sd_between_poisons']:.1f}"
        print(
            f"{row['family']:15} {row['optimizer']:5} {row['mean']:5.1f}  ({row['poisons']} poisons x "
            f"{row['networks_per_poison']} networks; sd between networks {row['sd_between_networks']:.1f}{between})"
        )


if __name__ == "__main__":
    main()
