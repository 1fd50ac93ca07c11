"""Learning rates over a training, by name; torch's own schedules, stepped once for each optimizer step."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, MultiStepLR

SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": lambda optimizer, _steps: ConstantLR(optimizer, factor=1.0, total_iters=0),
    "cosine": CosineAnnealingLR,
    "step": lambda optimizer, steps: MultiStepLR(optimizer, [steps // 2, 3 * steps // 4]),  # a tenth, as He et al. 2016
}
