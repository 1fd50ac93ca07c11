"""Perturbations: the value that searches, baselines, studies and exports meet in."""

from mddes.poison.baselines import left_column, uniform
from mddes.poison.one_pixel_shortcut import one_pixel_shortcut
from mddes.poison.perturbation import Perturbation

__all__ = ["Perturbation", "left_column", "one_pixel_shortcut", "uniform"]
