"""What settings of optimizers may be; NumPy's numbers count as Python's, truth values and tensors do not as numbers."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from mddes.errors import InputError


def at_least_zero(name: str, value: Any) -> float:
    """Return a finite number that is not negative, as a float."""
    if not (_is_number(value) and value >= 0):
        raise InputError(f"{name} must be finite, 0 or more, not {value!r}")
    return float(value)


def above_zero(name: str, value: Any) -> float:
    """Return a finite number above zero, as a float."""
    if not (_is_number(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, not {value!r}")
    return float(value)


def count(name: str, value: Any) -> int:
    """Return a whole number of at least one, as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be a whole number, at least 1, not {value!r}")
    return int(value)


def truth(name: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
