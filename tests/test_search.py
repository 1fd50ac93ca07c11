"""The search as a system: reproducible, resumable at any point, honest about its winner."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import lines, outcome, tiny_config

import mddes
from mddes import InputError, Perturbation, RunStopped, SearchConfig, SearchResult
from mddes.config_file import read_config
from mddes.search import fitness
from mddes.search.progress import Progress


def test_a_run_folder_holds_what_it_should(finished: SearchResult) -> None:
    names = {str(path.relative_to(finished.run_dir)) for path in finished.run_dir.rglob("*") if path.is_file()}
    assert names == {
        ".driver.lease",
        "config.toml",
        "environment.json",
        "evaluations.jsonl",
        "victims.jsonl",
        "generations.csv",
        "perturbation.json",
        "distribution.npz",
        "summary.json",
        "figures/learning_curve.png",
        "figures/learning_curve.svg",
        "figures/poison.png",
        "figures/poison.svg",
    }
    assert Perturbation.load(finished.run_dir / "perturbation.json") == finished.perturbation
    config = read_config(finished.run_dir / "config.toml", SearchConfig)
    assert (config.model, config.popsize, config.covariance, config.lr) == ("graynet", 4, "full", 1e-3)
    rows = (finished.run_dir / "generations.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("generation,evaluations,fitness_best,fitness_mean")


def test_every_candidate_is_recorded_whole(finished: SearchResult) -> None:
    records = [r for r in lines(finished.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    assert [(r["generation"], r["candidate"]) for r in records] == [(g, i) for g in range(3) for i in range(4)]
    for record in records:
        assert len(record["asked"]) == 60
        assert record["fitness"] == pytest.approx(record["semantic_mismatch"] + record["domain_divergence"])
        assert len(record["clean_accuracy_per_class"]) == 10
        Perturbation.from_change(record["perturbation"])
    seeds = [{r["seed"] for r in records if r["generation"] == g} for g in range(3)]
    assert [len(s) for s in seeds] == [1, 1, 1], "common random numbers within a generation"
    assert len(set.union(*seeds)) == 3, "and new ones in the next"


def test_the_winner_is_the_best_on_fresh_seeds(finished: SearchResult) -> None:
    records = lines(finished.run_dir / "evaluations.jsonl")
    fresh = [r for r in records if r.get("phase") == "finalists"]
    search = [r for r in records if r.get("phase") == "search"]
    assert not {r["seed"] for r in fresh} & {r["seed"] for r in search}
    by_poison: dict[str, list[float]] = {}
    for record in fresh:
        by_poison.setdefault(json.dumps(record["perturbation"]), []).append(record["fitness"])
    assert len(by_poison) == 3, "two finalists and the distribution's mean"
    means = {poison: np.mean(values) for poison, values in by_poison.items()}
    best = max(means, key=lambda poison: means[poison])
    assert finished.perturbation == Perturbation.from_change(json.loads(best))
    assert finished.fitness == pytest.approx(means[best])
    top = sorted(search, key=lambda r: -r["fitness"])[:2]
    assert {json.dumps(r["perturbation"]) for r in top} <= by_poison.keys()


def test_no_victim_seed_was_seen_by_the_search(finished: SearchResult) -> None:
    victims = [r for r in lines(finished.run_dir / "victims.jsonl") if "key" in r]
    used = {r["seed"] for r in lines(finished.run_dir / "evaluations.jsonl") if "key" in r}
    assert sorted(r["row"] for r in victims) == ["clean"] * 2 + ["found"] * 2 + ["uniform"] * 2
    assert not {r["seed"] for r in victims} & used
    draws = [json.dumps(r["perturbation"]) for r in victims if r["row"] == "uniform"]
    assert len(set(draws)) == 2, "a new draw for every network"
    summary = json.loads((finished.run_dir / "summary.json").read_text())
    assert summary["sentence"] == finished.sentence
    assert "clean-test accuracy" in finished.sentence


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished: SearchResult, tmp_path: Path) -> None:
    again = mddes.search(tiny_config(tmp_path))
    assert outcome(again.run_dir) == outcome(finished.run_dir)
    other = mddes.search(tiny_config(tmp_path, seed=1))
    assert other.perturbation != finished.perturbation


def test_samples_come_from_the_final_distribution(finished: SearchResult) -> None:
    drawn = finished.sample(3, seed=5)
    assert [p.change() for p in drawn] == [p.change() for p in finished.sample(3, seed=5)]
    assert len({json.dumps(p.change()) for p in drawn}) == 3
    assert all(p.pixels == 2 and p.image_shape == (1, 8, 8) for p in drawn)


def failing_evaluate(generation: int, candidates: set[int]) -> Any:
    real = fitness.evaluate

    def evaluate(spec: Any, shared: Any, device: str) -> dict[str, Any]:
        if spec.get("generation") == generation and spec["candidate"] in candidates:
            raise ArithmeticError("training diverged: a test said so")
        return real(spec, shared, device)

    return evaluate


def test_a_failed_candidate_is_recorded_ranked_worst_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path, victim_seeds=0)
    with monkeypatch.context() as patch:
        patch.setattr(fitness, "evaluate", failing_evaluate(1, {2}))
        result = mddes.search(config)
    failed = [r for r in lines(result.run_dir / "evaluations.jsonl") if r.get("status") == "failed"]
    assert [(r["generation"], r["candidate"], r["reason"]) for r in failed] == [
        (1, 2, "ArithmeticError: training diverged: a test said so")
    ]
    assert (result.run_dir / "generations.csv").read_text().splitlines()[2].split(",")[-3] == "1", "failed"
    resumed = mddes.resume(result.run_dir, generations=4)  # now it would succeed, but the strategy was told
    again = [
        r for r in lines(result.run_dir / "evaluations.jsonl") if (r.get("generation"), r.get("candidate")) == (1, 2)
    ]
    assert len(again) == 1
    assert resumed.generations == 4


def test_too_many_failures_stop_the_search_resumably(
    finished: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(fitness, "evaluate", failing_evaluate(1, {0, 2}))
        with pytest.raises(RunStopped, match=r"2 of 4 trainings of generation 1 failed.*a test said so"):
            mddes.search(tiny_config(tmp_path), on_folder=folders.append)
    mddes.resume(folders[0])  # the cause is gone: what failed is tried again, since it was never told
    expected = outcome(finished.run_dir)
    assert outcome(folders[0]) == expected


def test_a_finalist_with_a_failed_training_does_not_win_and_a_judged_one_is_not_tried_again(
    finished: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fitness.evaluate
    winner = finished.perturbation.change()

    def evaluate(spec: Any, shared: Any, device: str) -> dict[str, Any]:
        if spec["phase"] == "finalists" and spec["repeat"] == 1 and spec["perturbation"] == winner:
            raise ArithmeticError("training diverged: a test said so")
        return real(spec, shared, device)

    with monkeypatch.context() as patch:
        patch.setattr(fitness, "evaluate", evaluate)
        result = mddes.search(tiny_config(tmp_path))
    assert result.perturbation == finished.finalists[1].perturbation
    assert len(result.finalists) == 2
    again = mddes.resume(result.run_dir)
    assert again.perturbation == result.perturbation


def test_changed_test_images_are_noticed_before_anything_is_trained(tmp_path: Path) -> None:
    digits = mddes.load_dataset("digits", train_size=150)
    arrays: dict[str, Any] = {
        "train_images": digits.train.images,
        "train_labels": digits.train.labels,
        "test_images": digits.test.images,
        "test_labels": digits.test.labels,
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    config = tiny_config(tmp_path, dataset=str(tmp_path / "mine.npz"), train_size=None, generations=1)
    first = mddes.search(config)
    np.savez(tmp_path / "mine.npz", **{**arrays, "test_images": 255 - digits.test.images})
    before = (first.run_dir / "evaluations.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"victims\.jsonl belongs to another configuration .test"):
        mddes.resume(first.run_dir, generations=2)
    assert (first.run_dir / "evaluations.jsonl").read_bytes() == before


def test_a_generation_without_a_single_result_stops_whatever_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "evaluate", failing_evaluate(0, {0, 1, 2, 3}))
    with pytest.raises(RunStopped, match="4 of 4 trainings of generation 0 failed"):
        mddes.search(tiny_config(tmp_path, max_failures=1.0))


def test_repeats_are_averaged(tmp_path: Path) -> None:
    result = mddes.search(tiny_config(tmp_path, repeats=2, generations=2, victim_seeds=0))
    records = [r for r in lines(result.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    assert len(records) == 2 * 4 * 2
    events = [e for e in lines(result.run_dir / "evaluations.jsonl") if e.get("event") == "generation"]
    means = [np.mean([r["fitness"] for r in records if (r["generation"], r["candidate"]) == (0, i)]) for i in range(4)]
    assert events[0]["fitness_best"] == pytest.approx(max(means))
    assert events[0]["fitness_mean"] == pytest.approx(np.mean(means))
    assert len({r["seed"] for r in records if r["generation"] == 0}) == 2


def test_the_paper_s_rule_takes_the_best_single_value(tmp_path: Path) -> None:
    result = mddes.search(tiny_config(tmp_path, winner="paper", victim_seeds=0))
    records = [r for r in lines(result.run_dir / "evaluations.jsonl") if "fitness" in r]
    assert {r["phase"] for r in records} == {"search"}
    assert result.fitness == result.search_fitness == max(r["fitness"] for r in records)
    assert result.finalists[0].fresh == (), "nothing was trained again, and nothing says so"
    assert result.perturbation.provenance["fitness_on_fresh_seeds"] == []


def test_a_search_starts_from_a_given_perturbation(finished: SearchResult, tmp_path: Path) -> None:
    """With a small step every first candidate stays next to the start; the run keeps its own copy of the file."""
    start = tmp_path / "start.json"
    finished.perturbation.save(start)
    config = tiny_config(tmp_path, start=str(start), sigma0=0.01, victim_seeds=0, generations=1)
    result = mddes.search(config)
    asked = [r["asked"] for r in lines(result.run_dir / "evaluations.jsonl") if "asked" in r]
    encoding = config.encoding((1, 8, 8), 10)
    assert abs(np.array(asked) - encoding.encode(finished.perturbation)).max() < 0.1
    start.unlink()
    assert mddes.resume(result.run_dir, generations=2).generations == 2
    (result.run_dir / "start.json").unlink()
    with pytest.raises(InputError, match=r"belongs to another configuration .start"):
        mddes.resume(result.run_dir)


def test_a_start_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    start = tmp_path / "start.json"
    mddes.uniform(mddes.load_dataset("digits").train, pixels=3).save(start)
    with pytest.raises(InputError, match="cannot start from 3 pixels"):
        mddes.search(tiny_config(tmp_path / "runs", start=str(start)))
    assert not (tmp_path / "runs").exists()


def test_progress_is_told_after_every_training(tmp_path: Path) -> None:
    seen: list[Progress] = []
    mddes.search(tiny_config(tmp_path), on_progress=seen.append)
    assert [(p.phase, p.done, p.total) for p in seen] == [
        *(("search", i + 1, 12) for i in range(12)),
        *(("finalists", i + 1, 6) for i in range(6)),
        *(("victims", i + 1, 6) for i in range(6)),
    ]
    assert [p.ends_generation for p in seen[:12]] == [False, False, False, True] * 3
    assert seen[11].best is not None
    assert seen[11].best >= max(p.best or 0 for p in seen[:11])


def test_a_figure_that_fails_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mddes.report import figures

    def broken(*_: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(figures, "learning_curve", broken)
    result = mddes.search(tiny_config(tmp_path, victim_seeds=0, generations=1))
    assert (result.run_dir / "figures" / "poison.png").exists()
    assert "could not draw learning_curve.png: no ink" in caplog.text


def test_a_plan_counts_what_a_search_does(finished: SearchResult, tmp_path: Path) -> None:
    plan = mddes.plan(tiny_config(tmp_path))
    records = [r for r in lines(finished.run_dir / "evaluations.jsonl") if "key" in r]
    assert plan.search_trainings == sum(r["phase"] == "search" for r in records)
    assert plan.finalist_trainings == sum(r["phase"] == "finalists" for r in records)
    assert plan.victim_trainings == 6
    assert (plan.dimension, plan.popsize, plan.steps) == (60, 4, 3)
    assert plan.seconds > 0
    assert mddes.plan(tiny_config(tmp_path, evaluations=9)).search_trainings == 8
    assert not list(tmp_path.iterdir()), "nothing is written"
