"""Data sets: uint8 images and labels, where they come from, and the split that a search sees."""

from mddes.data.images import Dataset, ImageSet, SearchData, shared_arrays, split
from mddes.data.sources import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "ImageSet", "SearchData", "load_dataset", "shared_arrays", "split"]
