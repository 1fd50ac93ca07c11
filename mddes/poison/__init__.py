"""Perturbations: the value that searches, baselines, studies and exports meet in."""

from mddes.poison.baselines import uniform
from mddes.poison.perturbation import Perturbation

__all__ = ["Perturbation", "uniform"]
