"""Random search: the rival that learns nothing, at the same cost and with the same judgement."""

from pathlib import Path

import numpy as np
import pytest
from cases import lines, outcome, tiny_config

import mddes
from mddes import InputError, SearchConfig, SearchResult
from mddes.cli import main
from mddes.search.random_search import RandomSearch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return mddes.search(tiny_config(tmp_path_factory.mktemp("runs"), algorithm="random"))


def test_vectors_are_uniform_and_a_function_of_the_seed() -> None:
    x = RandomSearch(50, popsize=40, seed=3).ask()
    assert x.shape == (40, 50)
    assert 0 <= x.min() < 0.01
    assert 0.99 < x.max() < 1
    assert x.mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(x, RandomSearch(50, popsize=40, seed=3).ask())
    assert not np.array_equal(x, RandomSearch(50, popsize=40, seed=4).ask())
    strategy = RandomSearch(50, popsize=40, seed=3)
    assert not np.array_equal(strategy.ask(), strategy.ask())


def test_it_costs_what_cma_es_costs_and_is_judged_in_the_same_way(finished: SearchResult) -> None:
    evaluations = [r for r in lines(finished.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    assert len(evaluations) == finished.evaluations == 12
    assert len({tuple(r["asked"]) for r in evaluations}) == 12
    assert all(finalist.fresh for finalist in finished.finalists)
    assert all(finalist.search_fitness is not None for finalist in finished.finalists), "no mean joins them"
    assert finished.perturbation.provenance["method"] == "random-search"


def test_it_has_no_distribution(finished: SearchResult) -> None:
    assert not (finished.run_dir / "distribution.npz").exists()
    with pytest.raises(InputError, match="a random search has no distribution to sample from"):
        finished.sample(1)
    assert (finished.run_dir / "figures" / "learning_curve.png").exists()


def test_it_resumes_and_extends(finished: SearchResult, tmp_path: Path) -> None:
    before = (finished.run_dir / "evaluations.jsonl").read_bytes()
    assert mddes.resume(finished.run_dir).evaluations == 12
    assert (finished.run_dir / "evaluations.jsonl").read_bytes() == before
    short = mddes.search(tiny_config(tmp_path, algorithm="random", generations=2))
    extended = mddes.resume(short.run_dir, generations=3)
    mine = {r["key"]: r["asked"] for r in lines(extended.run_dir / "evaluations.jsonl") if r.get("phase") == "search"}
    theirs = {r["key"]: r["asked"] for r in lines(finished.run_dir / "evaluations.jsonl") if r.get("phase") == "search"}
    assert mine == theirs


def test_cma_es_is_another_run(finished: SearchResult, tmp_path: Path) -> None:
    other = mddes.search(tiny_config(tmp_path))
    first = [
        [r["asked"] for r in lines(run / "evaluations.jsonl") if r.get("generation") == 0 and "asked" in r]
        for run in (finished.run_dir, other.run_dir)
    ]
    assert first[0] != first[1]
    assert "distribution" in outcome(other.run_dir)


def test_it_starts_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="a random search starts nowhere"):
        SearchConfig(algorithm="random", start="p.json")
    assert main(["search", "--algorithm", "randm", "--out", str(tmp_path)]) == 2
    assert "algorithm" in capsys.readouterr().err
