"""How long does the One-Pixel Shortcut of a CIFAR-size training set take, against the plain way, and do both agree?

50,000 colour images of 32 x 32 in ten classes. The plain way is the published one: place after place and colour after
colour, mean and standard deviation of the distances of all images of the class. Both see the same images in the same
run, in turn, three times. About three minutes on one core:

    python benchmarks/one_pixel_shortcut.py --data cifar10_20k.npz

Without --data the images are smooth random ones. The result goes to benchmarks/results/one_pixel_shortcut.json.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

import mddes
from mddes.poison.one_pixel_shortcut import EPSILON
from mddes.tasks.run_folder import environment, write_json
from mddes.threads import one_thread

RESULTS = Path(__file__).parent / "results"
IMAGES, ROUNDS = 50_000, 3


def training_set(path: str | None) -> mddes.ImageSet:
    """Return 50,000 images: a data set's, repeated as often as needed, or smooth random ones."""
    if path:
        train = mddes.load_dataset(path).train
        return train.subset(np.arange(IMAGES) % len(train))
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((1000, 3, 32, 32))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 3, 3))
    pixels = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return mddes.ImageSet(pixels[np.arange(IMAGES) % 1000], np.arange(IMAGES) % 10, 10)


def plain(images: mddes.ImageSet) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return each class's best (row, col, colour), candidate after candidate (score "reference")."""
    channels, height, width = images.shape
    taken: set[tuple[int, int, tuple[int, ...]]] = set()
    chosen = []
    for k in range(images.num_classes):
        own = images.images[images.labels == k] / 255
        best, found = -np.inf, (0, 0, (0,) * channels)
        for row, col in itertools.product(range(height), range(width)):
            values = own[:, :, row, col]
            for colour in itertools.product((0, 1), repeat=channels):
                distance = np.abs(values - np.array(colour))
                score = distance.mean() / (distance.std() + EPSILON)
                if score > best and (row, col, colour) not in taken:
                    best, found = score, (row, col, colour)
        taken.add(found)
        chosen.append(found)
    return chosen


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz data set of colour images")
    given = parser.parse_args()
    images = training_set(given.data)
    seconds: list[tuple[float, float]] = []
    agree = []
    with one_thread():
        for _ in range(ROUNDS):
            started = time.perf_counter()
            ours = mddes.one_pixel_shortcut(images)
            between = time.perf_counter()
            theirs = plain(images)
            seconds.append((between - started, time.perf_counter() - between))
            picks = [
                (int(ours.rows[k, 0]), int(ours.cols[k, 0]), tuple((ours.values[k, 0] // 255).tolist()))
                for k in range(images.num_classes)
            ]
            agree.append(picks == theirs)
            print(f"ours {seconds[-1][0]:.2f} s, plain {seconds[-1][1]:.1f} s, the same picks: {agree[-1]}", flush=True)
    ratios = [slow / fast for fast, slow in seconds]
    result = {
        "images": f"{len(images)} of {(given.data and Path(given.data).name) or 'smooth noise'}",
        "seconds_ours_plain": seconds,
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
        "same_picks": all(agree),
    }
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "one_pixel_shortcut.json", {"environment": where, **result})
    print(f"{result['ratio_median']:.0f} times as fast")


if __name__ == "__main__":
    main()
