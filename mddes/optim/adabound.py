"""AdaBound and AMSBound (Luo et al. 2019): Adam whose step sizes are clipped to bounds that close in on SGD's.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2                 AMSBound: the running maximum of v
    s = lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps)
    f = final_lr lr / base_lr                                        lr as scheduled, base_lr as it was at first
    w -= clip(s, f (1 - 1 / (gamma t + 1)), f (1 + 1 / (gamma t))) m

as in the authors' code; their Algorithm 1 also divides lr by sqrt(t). For t much above 1 / gamma it is SGD with an
exponential moving average of the gradient, at the rate f.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mddes.errors import InputError
from mddes.optim.checks import above_zero, at_least_zero
from mddes.optim.states import check_state


class AdaBound(torch.optim.Optimizer):
    """AdaBound, or with `amsbound` AMSBound.

    Args:
        params: parameters, or groups of them; every group keeps the `lr` it began with as `base_lr`.
        lr: of Adam, at first; above 0.
        betas: decay of the two averages, in [0, 1).
        final_lr: the rate of SGD that the bounds close in on; above 0.
        gamma: how fast they do; above 0.
        eps: added to the root of v.
        weight_decay: coupled L2.
        amsbound: use the running maximum of v.

    Raises:
        InputError: a number out of range; at a step, a sparse gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        amsbound: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "final_lr": final_lr, "gamma": gamma, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "amsbound": amsbound})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its `lr` of now is its `base_lr`."""
        group = {**self.defaults, **param_group}
        for name in ("lr", "final_lr", "gamma"):
            above_zero(name, group[name])
        for name in ("eps", "weight_decay"):
            at_least_zero(name, group[name])
        betas = group["betas"] if isinstance(group["betas"], list | tuple) else ()
        if len(betas) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
            raise InputError(f"betas must be two numbers in [0, 1), not {group['betas']}")
        param_group.setdefault("base_lr", group["lr"])
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict` of parameters of the same shapes."""
        check_state(state_dict, self.param_groups)
        if any("base_lr" not in group for group in state_dict["param_groups"]):
            raise InputError("this is no state of AdaBound: its groups have no base_lr")
        amsbound = any(group.get("amsbound") for group in state_dict["param_groups"])
        own = ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsbound else ()))
        check_state(state_dict, self.param_groups, needs=own)
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; a closure computes loss and gradients first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        g = p.grad
        assert g is not None
        if g.is_sparse:
            raise InputError("AdaBound takes no sparse gradients: embeddings need sparse=False")
        if p.is_complex():
            raise InputError("AdaBound bounds step sizes of real weights only, these are complex")
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            if group["amsbound"]:
                state["max_exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        t, (b1, b2), m, v = state["step"], group["betas"], state["exp_avg"], state["exp_avg_sq"]
        if group["weight_decay"]:
            g = g.add(p, alpha=group["weight_decay"])
        m.mul_(b1).add_(g, alpha=1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        if group["amsbound"]:
            v = torch.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        size = group["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t)
        final = group["final_lr"] * group["lr"] / group["base_lr"]
        lower = final * (1 - 1 / (group["gamma"] * t + 1))
        upper = final * (1 + 1 / (group["gamma"] * t))
        p.sub_((size / v.sqrt().add_(group["eps"])).clamp_(lower, upper).mul_(m))
