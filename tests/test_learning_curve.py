"""The learning-curve study: the best-so-far poison of a search, judged afterwards."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from cases import lines, tiny_config
from test_transfer import records

import mddes
from mddes import InputError, SearchResult
from mddes.cli import main
from mddes.studies.findings import Findings
from mddes.studies.leaderboard import read_results
from mddes.studies.learning_curve import LearningCurveConfig, steps_of
from mddes.study import resume_study, study

SMALL: dict[str, Any] = {"seeds": 2, "epochs": 2, "batch_size": 50, "candidates": 4, "workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return mddes.search(tiny_config(tmp_path_factory.mktemp("searches"), victim_seeds=0, repeats=2))


@pytest.fixture(scope="module")
def finished(searched: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    out = str(tmp_path_factory.mktemp("runs"))
    return study("learning-curve", LearningCurveConfig(**SMALL, run=str(searched.run_dir), out=out))


def test_the_best_so_far_is_the_maximum_of_all_before(searched: SearchResult) -> None:
    evaluations = [r for r in lines(searched.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    means: dict[tuple[int, int], list[float]] = {}
    for r in evaluations:
        means.setdefault((r["generation"], r["candidate"]), []).append(r["fitness"])
    steps = steps_of(evaluations)
    assert [step.generation for step in steps] == [0, 1, 2]
    assert [step.evaluations for step in steps] == [4, 8, 12]
    for step in steps:
        before = [sum(v) / 2 for (generation, _), v in means.items() if generation <= step.generation]
        assert step.best.fitness == pytest.approx(max(before))
    assert [step.best.fitness for step in steps] == sorted(step.best.fitness or 0.0 for step in steps)


def test_a_candidate_with_a_failed_repeat_is_no_best(searched: SearchResult) -> None:
    evaluations = [r for r in lines(searched.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    best = steps_of(evaluations)[-1].best.records[0]
    place = ("generation", "candidate")
    broken = [
        {**r, "status": "failed", "fitness": None}
        if all(r[name] == best[name] for name in place) and r["repeat"] == 1
        else r
        for r in evaluations
    ]
    other = steps_of(broken)[-1].best.records[0]
    assert any(other[name] != best[name] for name in place)


def test_rows(finished: Findings, searched: SearchResult) -> None:
    kinds = [row["kind"] for row in finished.rows]
    assert kinds.count("generation") == 3
    assert kinds.count("winner") == 1
    assert kinds.count("candidate") == 4
    curves = {row["row"] for row in finished.rows if row["kind"] == "epoch"}
    assert {"clean", "uniform"} <= curves <= {"clean", "uniform", "best", "winner"}
    trained = records(finished.run_dir).values()
    logged = {
        f"candidate {r['generation']}.{r['candidate']}.{r['repeat']}": r["proxy_a_distance"]
        for r in lines(searched.run_dir / "evaluations.jsonl")
        if r.get("phase") == "search"
    }
    for row in finished.rows:
        if row["kind"] == "candidate":
            assert row["proxy_a_distance"] == logged[row["source"]]
            assert 0 <= row["error"] <= 1
        if row["kind"] == "generation":
            own = [1 - r["clean_test_accuracy"] for r in trained if r["row"] == row["source"]]
            assert sorted(row["errors"]) == pytest.approx(sorted(own)) or len(own) < 2
    assert any("the winner, chosen by its mean on fresh seeds" in sentence for sentence in finished.sentences)
    assert (finished.run_dir / "figures" / "learning-curve-graynet.png").exists()


def test_data_and_sizes_are_those_of_the_search(finished: Findings) -> None:
    assert "train_size = 150" in (finished.run_dir / "study.toml").read_text()
    assert all(row["dataset"] == "digits" for row in finished.rows)


def test_the_search_s_folder_is_only_read(searched: SearchResult, finished: Findings, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in searched.run_dir.rglob("*") if path.is_file()}
    assert resume_study(finished.run_dir).rows == finished.rows
    assert {path: path.read_bytes() for path in searched.run_dir.rglob("*") if path.is_file()} == before
    moved = shutil.copytree(searched.run_dir, tmp_path / "moved")
    assert resume_study(finished.run_dir, run=str(moved)).rows == finished.rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing is no search's folder"),
        (["--run", "nowhere"], "nowhere is no search's folder: it has no config.toml"),
        (["--run", "."], "is no search's folder"),
        (["--candidates", "-1"], "candidates must be at least 0"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "learning-curve", *given]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_other_images_are_refused(searched: SearchResult, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(searched.run_dir, tmp_path / "moved"))
    text = (moved / "config.toml").read_text()
    (moved / "config.toml").write_text(text.replace("train_size = 150", "train_size = 140"))
    for changes, said in (
        ({"dataset": "mnist"}, "the search was on digits, and so is its learning curve, not on mnist"),
        ({"train_size": 100}, "the search was on 150 training images, and so is its learning curve, not on 100"),
    ):
        with pytest.raises(InputError, match=said):
            study(
                "learning-curve", LearningCurveConfig(**SMALL | changes, run=str(searched.run_dir), out=str(tmp_path))
            )
    with pytest.raises(InputError, match="was searched on other images than digits has here"):
        study("learning-curve", LearningCurveConfig(**SMALL, run=str(moved), out=str(tmp_path / "runs")))


def test_its_results_are_not_ranked(finished: Findings) -> None:
    with pytest.raises(InputError, match="there is no transfer study among these results"):
        read_results([finished.run_dir])
