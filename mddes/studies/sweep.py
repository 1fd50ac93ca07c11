"""A sweep of learning rates: what is chosen of it, and where it goes on when that lies at its end.

A rate chosen at the end of a sweep says nothing about the rates beyond it; an optimizer that was tuned so may have lost
to its sweep and not to its rival. `beyond` names the next rate there, until the choice lies inside or patience ends.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mddes.tasks import Record

Sweep = Mapping[float, Sequence[Record]]


def choose(sweep: Sweep, field: str) -> float | None:
    """Return the learning rate with the highest mean of a field, of equals the one with the lower poisoned loss.

    A rate of which a training failed (diverged) is not chosen; None if none is left.
    """
    whole = {lr: own for lr, own in sweep.items() if all(record["status"] == "done" for record in own)}

    def worth(lr: float) -> tuple[float, float]:
        own = whole[lr]
        return (
            float(np.mean([record[field] for record in own])),
            -float(np.mean([record["held_out_poisoned_loss"] for record in own])),
        )

    return max(whole, key=worth) if whole else None


def at_an_end(rates: Iterable[float], chosen: float | None) -> bool:
    """Return whether a choice is the lowest or the highest of several rates."""
    known = sorted(rates)
    return len(known) > 1 and chosen in (known[0], known[-1])


def beyond(rates: Iterable[float], chosen: float | None) -> list[float]:
    """Return the next rate past the end of a sweep at which the choice lies; none elsewhere, nor of a single rate.

    The step is as wide, in ratio, as the last but one before that end, or the only one: half decades go on as such.

    >>> beyond([0.1, 0.3, 1, 3, 10], 10), beyond([0.03, 0.1, 0.3, 1], 0.03), beyond([0.1, 0.3, 1], 0.3)
    ([30.0], [0.01], [])
    >>> beyond([1, 2], 2), beyond([0.1], 0.1), beyond([0.1, 1], None)
    ([4.0], [], [])
    """
    known = sorted(rates)
    if not at_an_end(known, chosen):
        return []
    inward = known if chosen == known[0] else known[::-1]
    near, far = inward[:3][-2:]
    rate = float(f"{inward[0] * near / far:.6g}")
    return [rate] if 0 < rate < known[0] or known[-1] < rate < math.inf else []
