"""Several passes of one closure, in step with the world as if there were one.

All see the same random numbers of torch (dropout), and only the first moves the running statistics of normalisation
layers. Read next: `sam.py`, which moves the weights between the passes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

from mddes.errors import InputError

Closure = Callable[[], Tensor]
Maybe = list[Tensor | None]  # a tensor for each parameter, or none


class Passes:
    """The passes of one optimizer step."""

    def __init__(self, closure: Closure, params: Sequence[Tensor]) -> None:
        self.closure, self.params = closure, params
        self.gpus = sorted({p.get_device() for p in params if p.is_cuda})
        self.start = self._random()
        self.after: list[Tensor] | None = None

    def run(self) -> tuple[Tensor, Maybe]:
        """Return loss and gradients at the weights of now; a parameter that the loss does not reach has None.

        Raises:
            InputError: the closure returned no loss, or left no gradients or sparse ones.
        """
        torch.clear_autocast_cache()  # or an autocast around the step reuses old weights
        self._set_random(self.start)
        for p in self.params:
            p.grad = None
        with torch.enable_grad():
            if self.after is None:
                loss = self.closure()
                self.after = self._random()
            else:
                with _running_statistics_kept():
                    loss = self.closure()
        if not torch.is_tensor(loss):
            raise InputError(f"the closure must return the loss, a tensor, not {type(loss).__name__}")
        # copies: a closure may write the gradients of every pass into the same place
        gradients = [None if p.grad is None else p.grad.detach().clone() for p in self.params]
        if all(g is None for g in gradients):
            raise InputError("the closure left no gradients: it must call loss.backward()")
        if any(g is not None and g.is_sparse for g in gradients):
            raise InputError("perturbed gradients cannot be sparse: embeddings need sparse=False")
        return loss.detach(), gradients

    def end(self) -> None:
        """Leave torch's random numbers as one pass would have."""
        assert self.after is not None
        self._set_random(self.after)
        torch.clear_autocast_cache()

    def _random(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(i) for i in self.gpus)]

    def _set_random(self, states: Sequence[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for i, state in zip(self.gpus, states[1:], strict=True):
            torch.cuda.set_rng_state(state, i)


@contextmanager
def _running_statistics_kept() -> Iterator[None]:
    """Put the buffers of every normalisation layer that is used meanwhile back as they were."""
    kept: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def keep(module: nn.Module, _inputs: Any) -> None:
        if isinstance(module, _NormBase) and module not in kept:
            kept[module] = [(buffer, buffer.clone()) for buffer in module.buffers(recurse=False)]

    hook = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            for buffer, before in (pair for pairs in kept.values() for pair in pairs):
                buffer.copy_(before)
