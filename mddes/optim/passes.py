"""Several passes of one closure, in step with the world as if there were one.

All see the same random numbers of torch (dropout) and begin with the same buffers of modules (running statistics of
normalisation layers, vectors of spectral norms), which are left as the first pass left them. The buffers are noted as a
module is called, with those of all modules in it: of a compiled or scripted network only the whole is seen to run. Read
next: `sam.py`, which moves the weights between the passes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mddes.errors import InputError

Closure = Callable[[], Tensor]
Maybe = list[Tensor | None]  # a tensor for each parameter, or none
Buffers = dict[nn.Module, dict[str, tuple[Tensor, Tensor]]]  # by name: the buffer itself, and what was in it


class Passes:
    """The passes of one optimizer step."""

    def __init__(self, closure: Closure, params: Sequence[Tensor]) -> None:
        self.closure, self.params = closure, params
        self.gpus = sorted({p.get_device() for p in params if p.is_cuda})
        self.start = self._random()
        self.after: list[Tensor] | None = None
        self.buffers: Buffers = {}

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
                with _before_each(lambda module: _note(module, self.buffers)):
                    loss = self.closure()
                self.after = self._random()
            else:
                with _buffers_from(self.buffers):
                    loss = self.closure()
        if not torch.is_tensor(loss):
            raise InputError(f"the closure must return the loss, a tensor, not {type(loss).__name__}")
        if loss.numel() != 1:
            raise InputError(f"the closure must return the loss, one number, not a tensor {[*loss.shape]}")
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
def _before_each(use: Callable[[nn.Module], None]) -> Iterator[None]:
    """Call `use` with every module before it runs forward."""
    unseen = torch.compiler.disable(lambda module, _inputs: use(module))  # type: ignore[no-untyped-call]
    hook = register_module_forward_pre_hook(unseen)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _buffers_from(start: Buffers) -> Iterator[None]:
    """Begin with the buffers of `start`, and put those of every module that is used back as they are now."""
    now: Buffers = {}
    for module in start:
        _note(module, now)
    _put(start)
    try:
        with _before_each(lambda module: _note(module, now)):
            yield
    finally:
        _put(now)


def _note(module: nn.Module, into: Buffers) -> None:
    for part in module.modules():
        if part not in into:
            into[part] = {name: (b, b.clone()) for name, b in part.named_buffers(recurse=False)}


@torch.no_grad()
def _put(buffers: Buffers) -> None:
    for module, own in reversed(buffers.items()):  # of a buffer that modules share, what was noted first
        for name, (buffer, value) in own.items():
            setattr(module, name, buffer)  # a layer may have put another in its place
            buffer.copy_(value)
