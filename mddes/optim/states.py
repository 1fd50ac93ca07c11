"""What an optimizer's `state_dict` must be before anything of it is taken: whole, and of the same parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mddes.errors import InputError

AS_WEIGHTS = (  # what torch's optimizers and AdaBound keep for a parameter, in its own shape
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
    "ax",
    "prev",
    "step_size",
)


def check_state(state_dict: Any, groups: Sequence[Mapping[str, Any]], needs: Sequence[str] = ()) -> None:
    """Raise InputError where a state is none of parameters as in these groups, or lacks what is kept for each."""
    if not (isinstance(state_dict, Mapping) and {"param_groups", "state"} <= state_dict.keys()):
        raise InputError("this is no state of an optimizer: it has no param_groups and no state")
    theirs, states = state_dict["param_groups"], state_dict["state"]
    if not (isinstance(states, Mapping) and isinstance(theirs, Sequence) and all(map(_is_group, theirs))):
        raise InputError("this is no state of an optimizer: its param_groups or its state are not what torch saves")
    counts = [[len(group["params"]) for group in some] for some in (theirs, groups)]
    if counts[0] != counts[1]:
        raise InputError(f"the state is one of groups of {counts[0]} tensors, here {counts[1]}")
    numbers = [number for group in theirs for number in group["params"]]
    for number, p in zip(numbers, (p for group in groups for p in group["params"]), strict=True):
        if number in states:
            _check_own(states[number], p, needs)


def stream_of(state: Any, device: torch.device) -> torch.Generator:
    """Return a random stream that stands where this state says."""
    generator = torch.Generator(device)
    if not torch.is_tensor(state) or state.shape != generator.get_state().shape:
        raise InputError(f"the state's random stream is not one of this device, {device}")
    try:
        generator.set_state(state.cpu())
    except (RuntimeError, TypeError) as error:
        raise InputError(f"the state's random stream cannot be taken: {str(error).splitlines()[0]}") from error
    return generator


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), Sequence)


def _check_own(kept: Any, p: Tensor, needs: Sequence[str]) -> None:
    lacks = [name for name in needs if not isinstance(kept, Mapping) or name not in kept]
    if lacks:
        raise InputError(f"the state of a tensor {[*p.shape]} lacks {', '.join(lacks)}")
    for name in AS_WEIGHTS:
        value = kept.get(name) if isinstance(kept, Mapping) else None
        if value is not None and (not torch.is_tensor(value) or value.shape != p.shape):
            found = f"a tensor {[*value.shape]}" if torch.is_tensor(value) else type(value).__name__
            raise InputError(f"the state is one of {found}, here {[*p.shape]} ({name})")
