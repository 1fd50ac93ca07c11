"""Numbers of a trained network on given images, by name: how sharp the minimum is that it ended in.

    mddes.measures.MEASURES["hessian_trace"](model, data.test)        # the number
    mddes.measures.estimate("hessian_trace", model, data.test)        # value, standard_error, reason

A measure that does not apply is NaN, with a reason, never a silent number. Beside them, what compares two solutions:
`interpolation.py` (the line between them) and `surface.py` (slices of the loss around one); and where a network looks:
`attention.py`. Read next: `measure.py`.
"""

from typing import Any

from torch import nn

from mddes.data import ImageSet
from mddes.errors import look_up
from mddes.measures.curvature import hessian_top_eigenvalue, hessian_trace
from mddes.measures.measure import Estimate, Measure
from mddes.measures.sharpness import average_sharpness_l2

__all__ = ["MEASURES", "Estimate", "Measure", "estimate"]

MEASURES: dict[str, Measure] = {
    "hessian_top_eigenvalue": Measure(hessian_top_eigenvalue, -1, "nats per squared weight"),
    "hessian_trace": Measure(hessian_trace, -1, "nats per squared weight"),
    "average_sharpness_l2": Measure(average_sharpness_l2, -1, "nats"),
}


def estimate(name: str, model: nn.Module, images: ImageSet, **settings: Any) -> Estimate:
    """Return value, standard error and, where there is no value, the reason; arguments as for `Measure.estimate`.

    Raises:
        InputError: unknown name.
    """
    return look_up("measure", name, MEASURES).estimate(model, images, **settings)
