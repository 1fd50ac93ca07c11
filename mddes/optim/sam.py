"""Sharpness-aware minimisation with any number of perturbations; SAM is one of them along the gradient.

A step evaluates the loss f at perturbed weights, and hands the mean of the gradients found there to a base optimizer,
which steps from the unperturbed weights (the paper: "Multi-Perturbation SAM"):

    g = sum_i omega_i grad f(w + e_i),   i = 1 .. k
    omega_i = 1 / k, or adaptive: omega_i proportional to max(0, f(w + e_i) - f(w)), 1 / k if none is above 0
    gradient:  e_1 = rho v / ||v||, v = grad f(w)              SAM (Foret et al. 2021), alone for k = 1
               e_i = rho normalise(v / ||v|| + sigma u_i)      u uniform on the unit sphere of all weights
    random:    e_i = rho u_i
    mixed:     the first ceil(k / 2) as gradient, the rest as random
    elementwise (ASAM, Kwon et al. 2021):  v becomes T v and e becomes T e, T = |w| + eta for weights of two and more
               dimensions and 1 for vectors (biases, normalisation); then e_1 = rho T^2 v / ||T v||

Norms are over all weights together. Weight decay is the base optimizer's, and no part of v. `random` is no equivalent
of noise on the gradient, as the paper has it: the mean of grad f(w + e) is grad f(w) plus rho^2 / (2 d) times the
gradient of the Hessian's trace (d weights), so it prefers flat places too, a little. Read next: `passes.py`.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mddes.errors import InputError, look_up
from mddes.optim.checks import at_least_zero, count, truth
from mddes.optim.passes import Closure, Maybe, Passes
from mddes.optim.states import check_state, stream_of
from mddes.seeding import derive

STRATEGIES: dict[str, Callable[[int], int]] = {  # how many of k perturbations go along the gradient
    "gradient": lambda k: k,
    "random": lambda _: 0,
    "mixed": lambda k: (k + 1) // 2,
}
TINY = 1e-12  # added to norms, as in all published code: no gradient, no perturbation
HALVES = (torch.float16, torch.bfloat16)
SETTINGS: dict[str, Callable[[str, Any], Any]] = {  # with what makes sure of each
    "rho": at_least_zero,
    "n_perturbations": count,
    "strategy": lambda name, value: look_up(name, value, {known: known for known in STRATEGIES}),
    "adaptive": truth,
    "elementwise": truth,
    "eta": at_least_zero,
    "sigma": at_least_zero,
    "antithetic": truth,
}


class MultiPerturbationSAM(torch.optim.Optimizer):
    """Minimise the loss around the weights rather than at them.

    A step needs a closure that computes loss and gradients and returns the loss, as torch's optimizers take it; it is
    called for every pass: k + 1 times (k for `random` without `adaptive`). Gradients that lie there before the step are
    dropped: a large batch in parts is summed up inside the closure. All passes see the same random numbers of
    torch (dropout); the buffers of every module (running statistics) are left as after the first pass, which is the
    clean one where there is one; perturbations come from a random stream of their own. The weights are restored from a
    copy, also when the closure raises.

    Parameter groups, their `lr` and all else are those of the base optimizer, so schedules work on this object; a group
    may have its own `rho` (0: not perturbed, but still part of the norms), `elementwise` and `eta`. To clip what the
    base optimizer gets (a schedule must then be one of `sam.base_optimizer`, or torch warns):

        loss = sam.compute_gradients(closure)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        sam.base_optimizer.step()

    Args:
        params: the parameters of the base optimizer.
        base_optimizer: an instance of any torch optimizer over them.
        rho: radius of the perturbations, 0 or more.
        n_perturbations: k, at least 1.
        strategy: "gradient", "random" or "mixed".
        adaptive: weight perturbations by how much they raise the loss (the paper, section 3.3).
        elementwise: perturb in units of the weights themselves (ASAM).
        eta: of `elementwise`: added to |w|, 0 or more.
        sigma: of `gradient` and `mixed`: norm of the noise on the unit gradient, 0 or more. The paper leaves it open.
        antithetic: draw random perturbations in pairs u, -u: on a quadratic the mean is then the plain gradient.
        seed: of the perturbations.

    Attributes:
        weights: omega_1 .. omega_k of the last step.

    Raises:
        InputError: settings out of range, other parameters than the base optimizer's, a step without a closure or with
            one that leaves no loss, no gradients or sparse ones, a state of other parameters.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: torch.optim.Optimizer,
        rho: float = 0.05,
        n_perturbations: int = 5,
        strategy: str = "mixed",
        adaptive: bool = False,
        *,
        elementwise: bool = False,
        eta: float = 0.01,
        sigma: float = 0.3,
        antithetic: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(base_optimizer, torch.optim.Optimizer):
            raise InputError(f"base_optimizer must be an optimizer, as torch.optim.SGD(...), not {base_optimizer!r}")
        if _wants_closure(base_optimizer):
            raise InputError(
                f"{type(base_optimizer).__name__} evaluates the loss itself: the base optimizer must step without a "
                "closure, as torch.optim.SGD does"
            )
        own, base = _flat(params, base_optimizer), [p for group in base_optimizer.param_groups for p in group["params"]]
        if {id(p) for p in own} != {id(p) for p in base}:
            same = len({id(p) for p in own} & {id(p) for p in base})
            raise InputError(
                f"params must be those of the base optimizer: of {len(own)}, {same} are among its {len(base)}"
            )
        super().__init__(own, {**base_optimizer.defaults})
        self.base_optimizer = base_optimizer
        self.rho, self.elementwise, self.eta = rho, elementwise, eta  # of groups without their own
        self.n_perturbations, self.strategy, self.adaptive = n_perturbations, strategy, adaptive
        self.sigma, self.antithetic = sigma, antithetic
        self._check_settings()
        # not the stream of torch.manual_seed(seed), which may have drawn these very weights
        self.generator = torch.Generator(own[0].device).manual_seed(derive(seed, "perturbations"))
        self.weights: list[float] = []
        self._follow_base()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in SETTINGS)
        return f"MultiPerturbationSAM({settings}) around {self.base_optimizer!r}"

    def _follow_base(self) -> None:
        """Take the base optimizer's groups and state for one's own; they are others after a `load_state_dict`."""
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state
        for group in self.param_groups:
            _checked(group)

    def _check_settings(self) -> None:
        for name, value in _checked({name: getattr(self, name) for name in SETTINGS}).items():
            setattr(self, name, value)

    def _of(self, group: dict[str, Any], name: str) -> Any:
        return group.get(name, getattr(self, name))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer."""
        if not hasattr(self, "base_optimizer"):  # torch's constructor
            super().add_param_group(param_group)
            return
        _checked(param_group)
        self.base_optimizer.add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Compute the gradients around the weights, and have the base optimizer step with their mean.

        Returns:
            The loss of the clean pass; for `random` without `adaptive`, which has none, the mean of the perturbed ones.
        """
        loss = self.compute_gradients(closure)
        self.base_optimizer.step()
        return loss

    @torch.no_grad()
    def compute_gradients(self, closure: Closure | None) -> Tensor:
        """Leave the mean of the gradients around the weights in `.grad`, and the weights as they were; see `step`."""
        if not callable(closure):
            raise InputError("a step needs a closure that computes loss and gradients and returns the loss")
        self._check_settings()
        self._follow_base()
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        before = [p.clone() for p in params]
        passes = Passes(closure, params)
        along = STRATEGIES[self.strategy](self.n_perturbations)
        clean: Tensor | None = None
        ascent: Maybe = [None] * len(params)
        losses: list[Tensor] = []
        mean = _RunningMean()
        try:
            if along or self.adaptive:
                clean, ascent = passes.run()
            for shift in self._perturbations(before, ascent, along):
                for p, w, e in zip(params, before, shift, strict=True):
                    p.copy_(w if e is None else w + e)
                loss, gradients = passes.run()
                losses.append(loss)
                rise = float((loss - clean).clamp(min=0)) if self.adaptive and clean is not None else 1.0
                mean.add(gradients, rise)
        finally:
            for p, w in zip(params, before, strict=True):
                p.copy_(w)
        passes.end()
        for p, gradient in zip(params, mean.value, strict=True):
            p.grad = gradient
        self.weights = mean.weights()
        return torch.stack(losses).mean() if clean is None else clean

    def _perturbations(self, before: Sequence[Tensor], gradients: Maybe, along: int) -> Iterator[Maybe]:
        """Yield e_1 .. e_k, each a list over the parameters."""
        scales, radii = self._scales(before)
        ascent = [None if g is None else _times(t, g) for g, t in zip(gradients, scales, strict=True)]  # T v
        size = _norm(ascent) + TINY
        drawn: list[Tensor] = []
        for i in range(self.n_perturbations):
            if along and i == 0:
                yield [
                    None if v is None else _times(t, v) * (rho / size)
                    for v, t, rho in zip(ascent, scales, radii, strict=True)
                ]
                continue
            mirrored = self.antithetic and i > along and (i - along) % 2 == 1
            drawn = [-u for u in drawn] if mirrored else self._on_sphere(before)
            d = drawn
            if i < along:
                d = [
                    u * self.sigma if v is None else v / size + self.sigma * u
                    for v, u in zip(ascent, drawn, strict=True)
                ]
                length = _norm(d) + TINY
                d = [part / length for part in d]
            yield [_times(t, part) * rho for part, t, rho in zip(d, scales, radii, strict=True)]

    def _scales(self, before: Sequence[Tensor]) -> tuple[Maybe, list[float]]:
        """Return T (None for 1) and rho for every parameter."""
        groups = [group for group in self.param_groups for p in group["params"] if p.requires_grad]
        scales = [
            w.abs() + self._of(group, "eta") if self._of(group, "elementwise") and w.dim() > 1 else None
            for w, group in zip(before, groups, strict=True)
        ]
        return scales, [float(self._of(group, "rho")) for group in groups]

    def _on_sphere(self, like: Sequence[Tensor]) -> list[Tensor]:
        """Return a point of the unit sphere of all parameters, uniformly."""
        own, device = self.generator, self.generator.device  # the network may have moved since
        drawn = [torch.randn(p.shape, generator=own, device=device, dtype=p.dtype).to(p.device) for p in like]
        length = _norm(drawn)
        return [u / length for u in drawn]

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state, the settings, and where the random stream stands."""
        own = {name: getattr(self, name) for name in SETTINGS}
        own |= {"base": type(self.base_optimizer).__name__, "shapes": self._shapes()}
        return {**self.base_optimizer.state_dict(), "sam": {**own, "generator": self.generator.get_state()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict` of the same parameters: all settings and the random stream are those of it."""
        said = state_dict.get("sam") if isinstance(state_dict, Mapping) else None
        own = dict(said) if isinstance(said, Mapping) else {}
        if {*SETTINGS, "base", "shapes", "generator"} - own.keys():
            raise InputError("this is no state of MultiPerturbationSAM: it does not say how weights were perturbed")
        if own["base"] != (base := type(self.base_optimizer).__name__):
            raise InputError(f"the state is one around {own['base']}, here it is {base}")
        if own["shapes"] != (shapes := self._shapes()):
            raise InputError(f"the state is one of other parameters: {_first_apart(own['shapes'], shapes)}")
        generator = stream_of(own["generator"], self.generator.device)
        check_state(state_dict, self.base_optimizer.param_groups)
        settings = _checked({name: own[name] for name in SETTINGS})
        for group in state_dict["param_groups"]:
            _checked(group)
        self.base_optimizer.load_state_dict({k: v for k, v in state_dict.items() if k != "sam"})
        for name, value in settings.items():
            setattr(self, name, value)
        self.generator = generator
        self._follow_base()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle needs; torch's own would leave out all that is not of the groups."""
        own = {name: getattr(self, name) for name in (*SETTINGS, "base_optimizer", "weights")}
        stream = (self.generator.device, self.generator.get_state())
        return {**super().__getstate__(), **own, "stream": stream}

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, stream = state.pop("stream")
        super().__setstate__(state)
        self.generator = torch.Generator(device)
        self.generator.set_state(stream)
        self._follow_base()

    def _shapes(self) -> list[list[list[int]]]:
        return [[list(p.shape) for p in group["params"]] for group in self.base_optimizer.param_groups]


class _RunningMean:
    """The weighted mean of gradients as they come; unweighted as long as all weights are 0.

    Each is added as mean += (omega / sum so far) (g - mean): equal gradients have exactly themselves for mean.
    """

    def __init__(self) -> None:
        self.value: Maybe = []
        self.given: list[float] = []

    def add(self, gradients: Maybe, weight: float) -> None:
        """Add one."""
        self.given.append(weight)
        total = sum(self.given)
        if not self.value or weight == total > 0:  # the first, or the first of which the loss was any higher
            self.value = gradients
            return
        share = weight / total if total else 1 / len(self.given)
        self.value = [_towards(mean, g, share) for mean, g in zip(self.value, gradients, strict=True)]

    def weights(self) -> list[float]:
        """Return the weights, which sum to one."""
        total = sum(self.given)
        return [weight / total if total else 1 / len(self.given) for weight in self.given]


def _towards(mean: Tensor | None, g: Tensor | None, share: float) -> Tensor | None:
    if mean is None and g is None:
        return None
    mean = torch.zeros_like(g) if mean is None else mean  # type: ignore[arg-type]
    return mean + share * ((torch.zeros_like(mean) if g is None else g) - mean)


def _norm(parts: Sequence[Tensor | None]) -> Tensor:
    """Return the Euclidean norm of all parts together; 0 of nothing. In half precision `TINY` would be 0."""
    norms = [
        torch.linalg.vector_norm(part, dtype=torch.float32 if part.dtype in HALVES else None)
        for part in parts
        if part is not None
    ]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _times(scale: Tensor | None, part: Tensor) -> Tensor:
    return part if scale is None else scale * part


def _wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that are given, each made sure of."""
    return {name: check(name, given[name]) for name, check in SETTINGS.items() if name in given}


def _flat(params: Iterable[Any], base: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors of parameters or of groups of them; only groups of the base optimizer have settings."""
    if isinstance(params, Tensor):
        raise InputError("params must be several tensors or groups of them, as model.parameters(), not one tensor")
    flat: list[Tensor] = []
    for item in params:
        if isinstance(item, dict):
            rest = sorted(item.keys() - {"params"})
            if rest and not any(item is group for group in base.param_groups):
                raise InputError(f"groups with their own {', '.join(rest)} must be given to the base optimizer")
            flat += _flat([item["params"]] if isinstance(item["params"], Tensor) else item["params"], base)
        else:
            flat.append(item[1] if isinstance(item, tuple) else item)  # of named_parameters()
    if not flat:
        raise InputError("params: there is nothing to optimize")
    return flat


def _first_apart(theirs: Any, ours: Sequence[Sequence[Any]]) -> str:
    if not (isinstance(theirs, list) and all(isinstance(group, list) for group in theirs)):
        return "it does not say of which shapes"
    if [len(group) for group in theirs] != [len(group) for group in ours]:
        return f"groups of {[len(group) for group in theirs]} tensors, here {[len(group) for group in ours]}"
    pairs = [(a, b) for x, y in zip(theirs, ours, strict=True) for a, b in zip(x, y, strict=True)]
    a, b = next((a, b) for a, b in pairs if a != b)
    return f"a tensor of shape {a}, here {b}"
