"""What a study would cost, from a few timed steps of every kind of victim; nothing is written."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mddes.data import ImageSet, split
from mddes.pools import device_of, local_workers
from mddes.search.config import SearchConfig, resolve
from mddes.studies.optimizers import OptimizersConfig, further_victims
from mddes.studies.poisons import SEARCHED
from mddes.studies.settings import recipe_for, resolve_models
from mddes.study import STUDIES, check_study, prepared_study
from mddes.threads import one_thread
from mddes.training import Recipe, train

STEPS = 10


@dataclass(frozen=True)
class StudyPlan:
    """The cost of a study.

    Attributes:
        victims: networks of each kind.
        seconds_a_victim: of each kind, extrapolated from `STEPS` optimizer steps.
        searches: how many, and `search_trainings` in all of them.
        seconds_a_search_training: as above.
        workers: at once, on this machine.
        more: further victims at most, of each kind, where the sweep of an optimizer goes on beyond its end.
        at_most: whether trainings may end early.
    """

    victims: dict[str, int]
    seconds_a_victim: dict[str, float]
    searches: int
    search_trainings: int
    seconds_a_search_training: float
    workers: int
    more: int = 0
    at_most: bool = False

    @property
    def seconds(self) -> float:
        """Of the whole study, all workers busy."""
        work = sum(n * self.seconds_a_victim[model] for model, n in self.victims.items())
        return (work + self.search_trainings * self.seconds_a_search_training) / self.workers

    def text(self, spoken: Callable[[float], str]) -> str:
        """Return it in lines; `spoken` says a number of seconds."""
        width, about = max(12, *map(len, self.victims)), "at most about" if self.at_most else "about"
        lines = [
            f"{model:{width}}  {n} trainings of {about} {spoken(self.seconds_a_victim[model])}"
            for model, n in self.victims.items()
        ]
        if self.more:
            where = "where the best rate is at the end of its sweep"
            lines.append(f"{'sweeps':{width}}  up to {self.more} more of each network, {where}")
        if self.searches:
            each = spoken(self.seconds_a_search_training)
            lines.append(
                f"{'searches':{width}}  {self.searches}, with {self.search_trainings} trainings of about {each}"
            )
        end = f"on {self.workers} worker(s), after they have started"
        more = self.more * sum(self.seconds_a_victim.values()) / self.workers
        upto = f", to {spoken(self.seconds + more)} with all that the sweeps may add," if more else ""
        lines.append(f"{'time':{width}}  {about} {spoken(self.seconds)}{upto} {end}")
        return "\n".join(lines) + "\n"


def plan_study(name: str, config: Any) -> StudyPlan:
    """Return what a study would cost.

    Raises:
        InputError: settings or data that do not fit.
    """
    with one_thread():
        config, dataset = prepared_study(config)
        if (costs := STUDIES[name].costs) is not None:
            return _plan_of(costs(config, dataset), config)
        recipe = recipe_for(config, dataset)
        count, cost = check_study(name, config, dataset)
        models = resolve_models(config.models, dataset.train.shape[0])
        victims = dict.fromkeys(models, count)
        seconds = {model: _timed(model, dataset.train, recipe, config) * cost / count for model in models}
        searched = [poison for poison in getattr(config, "poisons", ()) if poison in SEARCHED]
        trainings, each = 0, 0.0
        if searched:
            for pixels in config.pixels:
                search = _search_config(config, dataset.train, pixels)
                assert search.popsize is not None
                finalists = (search.finalists + 1) * search.finalist_seeds
                trainings += len(searched) * config.searches * (search.popsize * search.generations + finalists)
            each = _timed(search.model, dataset.train, search.recipe(), config)
    workers = max(1, local_workers(config, count))
    searches = len(searched) * len(config.pixels) * config.searches if searched else 0
    more = further_victims(config) if isinstance(config, OptimizersConfig) else 0
    return StudyPlan(victims, seconds, searches, trainings, each, workers, more)


def _plan_of(costs: Mapping[str, tuple[int, float]], config: Any) -> StudyPlan:
    trainings = {kind: n for kind, (n, _) in costs.items()}
    workers = max(1, local_workers(config, sum(trainings.values())))
    return StudyPlan(trainings, {kind: s for kind, (_, s) in costs.items()}, 0, 0, 0.0, workers, at_most=True)


def _search_config(config: Any, train: ImageSet, pixels: int) -> SearchConfig:
    settings = {"pixels": pixels, "generations": config.generations, "popsize": config.popsize}
    return resolve(SearchConfig(**settings, epochs=config.search_epochs), split(train))


def _timed(model: str, images: ImageSet, recipe: Recipe, config: Any) -> float:
    """Return the seconds of a whole training, from the second of two short ones."""
    few = images.subset(np.arange(min(len(images), STEPS * recipe.batch_size)))
    short = dataclasses.replace(recipe, epochs=1)
    took = 0.0
    for _ in range(2):
        started = time.perf_counter()
        train(model, few, short, device=device_of(config))
        took = time.perf_counter() - started
    steps = math.ceil(len(few) / recipe.batch_size)
    return took / steps * recipe.epochs * math.ceil(len(images) / recipe.batch_size)
