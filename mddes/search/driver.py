"""START HERE: the MDD-ES loop (Chaudhury & Yamasaki 2020, section 3.3).

    ask        sample lambda vectors from N(m, sigma^2 C)                     strategy.py
    decode     each becomes a perturbation                                    encoding.py
    evaluate   train a network on the poisoned data, F = w_m F_m + w_d F_d    fitness.py, on a pool's workers
    tell       move m, sigma and C towards the fittest

and at the end `winner.py` trains the finalists again on fresh seeds before one is named. A search sees training
images only: `SearchData` has no test images. All candidates of a generation share one training seed (common random
numbers: their ranking is a paired comparison), and the next generation gets a new one.

To resume is to run the same loop over the same ledger: what was evaluated is found there and told again. What a clock
or a fault decided stands in the generation's event line and is never decided anew.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mddes.data import SearchData
from mddes.errors import RunStopped
from mddes.poison import Perturbation
from mddes.search.candidate import Candidate
from mddes.search.config import SearchConfig
from mddes.search.evaluation import Evaluator
from mddes.search.outputs import generation_event, write_generations
from mddes.search.progress import GenerationProgress, Progress
from mddes.search.replay import Replay
from mddes.search.start import make_strategy
from mddes.search.strategy import Distribution
from mddes.search.winner import Finalist, choose_winner
from mddes.seeding import derive
from mddes.tasks import Ledger, Pool, Record, Task

Place = tuple[int, int, int]  # generation, candidate, repeat


def _place(record: Record) -> Place:
    return record["generation"], record["candidate"], record["repeat"]


@dataclass(frozen=True)
class Outcome:
    """What a search found: the finalists, the winner first; the final distribution, if it has one; what ended it."""

    finalists: list[Finalist]
    distribution: Distribution | None
    generations: int
    evaluations: int
    stopped_by: str


def run_search(
    data: SearchData,
    config: SearchConfig,
    ledger: Ledger,
    pool: Pool,
    *,
    start: Perturbation | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_generation: Callable[[Record], None] = lambda _: None,
) -> Outcome:
    """Run or resume a search.

    Args:
        data: search-training and held-out images.
        config: resolved (`config.resolve`).
        ledger: a new one, or that of the run to resume.
        pool: runs the trainings.
        start: the perturbation to start from; default the middle of the search cube.
        on_progress: called after every training.
        on_generation: called with the event line of every generation that was told.

    Raises:
        RunStopped: too many trainings of a generation failed; the run can be resumed.
        InputError: the ledger's vectors are not those that this configuration asks for.
    """
    search = _Search(data, config, ledger, pool, on_progress)
    strategy = make_strategy(config, search.encoding, start)
    generation = 0
    while not (reason := search.finished(generation)):
        started = time.monotonic()
        x = strategy.ask()
        candidates = search.evaluate(generation, x)
        strategy.tell(x, [candidate.fitness for candidate in candidates])
        on_generation(search.close(generation, candidates, strategy.sigma, time.monotonic() - started))
        generation += 1
    write_generations(ledger, search.table)
    favorite = strategy.favorite()
    mean = None if favorite is None else search.encoding.decode(favorite)
    finalists = choose_winner(search.candidates, mean, config, search.evaluator, on_progress)
    return Outcome(finalists, strategy.distribution(), generation, generation * search.popsize, reason)


class _Search:
    """The state of one search beside its distribution: what was asked, recorded and told."""

    def __init__(
        self,
        data: SearchData,
        config: SearchConfig,
        ledger: Ledger,
        pool: Pool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        assert config.popsize is not None, "the configuration is resolved"
        self.config, self.ledger, self.popsize = config, ledger, config.popsize
        self.encoding = config.encoding(data.train.shape, data.train.num_classes)
        self.evaluator = Evaluator(data, config.fitness_settings(), ledger, pool)
        self.told = {event["generation"]: event for event in ledger.events("generation")}
        self.recorded = {_place(r): r for r in ledger.records.values() if r["phase"] == "search"}
        self.table = ledger.path.with_name("generations.csv")
        self.candidates: list[Candidate] = []
        self.best: float | None = None
        self.on_progress = on_progress
        self.replay = Replay(ledger.path)

    def finished(self, generation: int) -> str:
        """Return the budget that ends the search before this generation, or an empty string.

        What the ledger says was told is not decided again: a smaller budget cannot shorten a run.
        """
        config = self.config
        if generation in self.told:
            return ""
        if generation >= config.last_generation():
            return "generations" if generation >= config.generations else "evaluations"
        spent = sum(event["seconds"] for event in self.told.values())
        return "wall_clock" if config.wall_clock is not None and spent >= config.wall_clock else ""

    def evaluate(self, generation: int, x: NDArray[np.float64]) -> list[Candidate]:
        """Train and score one generation; candidates in the order asked, fitness None where a training failed."""
        repeats, told = self.config.repeats, generation in self.told
        places = [(generation, i, repeat) for i in range(len(x)) for repeat in range(repeats)]
        generations = max(self.config.last_generation(), len(self.told))
        progress = GenerationProgress(generation, generations, len(places), repeats, self.best, replayed=told)
        missing = []
        for place in places:
            record = self.recorded.get(place)
            if record is not None:
                self.replay.compare(x[place[1]], record["asked"], generation)
            if record is not None and (told or record["status"] == "done" or record.get("cancelled")):
                self.on_progress(progress.add(record))  # a failure stands if it was told, or was the clock's decision
            else:
                missing.append(self._task(place, x[place[1]]))
        late = self.config.stragglers or None
        new = self.evaluator.run(missing, stragglers=late, on_record=lambda r: self.on_progress(progress.add(r)))
        self.recorded |= {_place(record): record for record in new}
        records = [self.recorded[place] for place in places]
        failed = [record for record in records if record["status"] == "failed"]
        candidates = [Candidate(records[i * repeats : (i + 1) * repeats]) for i in range(len(x))]
        nothing = all(candidate.fitness is None for candidate in candidates)
        if nothing or (not told and len(failed) > self.config.max_failures * len(records)):
            raise RunStopped(
                f"{len(failed)} of {len(records)} trainings of generation {generation} failed, more than the allowed "
                f"share of {self.config.max_failures:g}; the first of: {failed[0]['reason']}"
            )
        return candidates

    def close(self, generation: int, candidates: list[Candidate], sigma: float | None, seconds: float) -> Record:
        """Record that a generation was told, unless the ledger says so already, and return its event."""
        self.candidates += candidates
        alive = [candidate.fitness for candidate in candidates if candidate.fitness is not None]
        self.best = max(alive) if self.best is None else max(self.best, *alive)
        if generation not in self.told:
            self.told[generation] = generation_event(generation, candidates, sigma, seconds)
            self.ledger.append(self.told[generation])
            write_generations(self.ledger, self.table)
        return self.told[generation]

    def _task(self, place: Place, vector: NDArray[np.float64]) -> Task:
        """Return one training; where the ledger knows the candidate, its perturbation is the recorded one."""
        generation, i, repeat = place
        known = (self.recorded.get((generation, i, r)) for r in range(self.config.repeats))
        record = next(filter(None, known), None)
        perturbation = Perturbation.from_change(record["perturbation"]) if record else self.encoding.decode(vector)
        seed = derive(self.config.seed, "train", generation, repeat)
        where = {"phase": "search", "generation": generation, "candidate": i, "repeat": repeat}
        return self.evaluator.task(perturbation, seed, where, asked=vector.tolist())
