"""Recipes, and the loop that trains one network."""

from mddes.training.loop import train
from mddes.training.predict import accuracy, logits
from mddes.training.recipe import Recipe, default_schedule

__all__ = ["Recipe", "accuracy", "default_schedule", "logits", "train"]
