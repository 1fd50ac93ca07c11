"""mddes: evolutionary data poisoning by maximum domain divergence (MDD-ES).

    import mddes
    data = mddes.load_dataset("digits")
    result = mddes.search(mddes.SearchConfig(dataset="digits", workers=0))
    poisoned = result.perturbation.apply(data.train)

Shapes, everywhere: P candidates, R repeats, K classes, N images, B batch, C H W image, D search dimension, N_p pixels
per class. Images are stored uint8 (N, C, H, W) and computed on as float in [0, 1].

Importing this imports neither ray nor matplotlib.
"""

from mddes import attacks as attacks
from mddes import measures as measures
from mddes import optim as optim
from mddes.api import SearchResult, resume, search
from mddes.data import Dataset, ImageSet, load_dataset
from mddes.errors import InputError, RunStopped
from mddes.plan import Plan, plan
from mddes.poison import Perturbation, left_column, uniform
from mddes.poison.export import export, read_export
from mddes.poison.one_pixel_shortcut import one_pixel_shortcut
from mddes.poison.ready import load_poison
from mddes.poison.torch_data import PoisonedDataset
from mddes.search.config import SearchConfig
from mddes.status import Status, status
from mddes.training import Recipe, accuracy, train
from mddes.version import __version__

__all__ = [
    "Dataset",
    "ImageSet",
    "InputError",
    "Perturbation",
    "Plan",
    "PoisonedDataset",
    "Recipe",
    "RunStopped",
    "SearchConfig",
    "SearchResult",
    "Status",
    "__version__",
    "accuracy",
    "export",
    "left_column",
    "load_dataset",
    "load_poison",
    "one_pixel_shortcut",
    "plan",
    "read_export",
    "resume",
    "search",
    "status",
    "train",
    "uniform",
]
