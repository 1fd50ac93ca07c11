"""Perturbations: the value that searches, baselines, studies and exports meet in.

Where they come from: `baselines.py`, `one_pixel_shortcut.py`, `ready.py`, a search. Where they go: `batch.py` (our
training loop), `torch_data.py` (a user's own), `export.py` (files).
"""

from mddes.poison.baselines import left_column, uniform
from mddes.poison.perturbation import Perturbation

__all__ = ["Perturbation", "left_column", "uniform"]
