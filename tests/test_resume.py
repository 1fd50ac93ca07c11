"""A search that is continued: at any point, from any damage, extended, moved, or refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import lines, outcome, tiny_config

import mddes
from mddes import InputError, SearchConfig, SearchResult, api
from mddes.config_file import read_config, save_config
from mddes.tasks import pool


def copy(run_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(run_dir, to / run_dir.name))


def test_resuming_a_finished_run_computes_nothing_and_changes_nothing(
    finished: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    before = (run_dir / "evaluations.jsonl").read_bytes()
    monkeypatch.setattr(pool, "execute", lambda *_: pytest.fail("a training was run"))
    again = mddes.resume(run_dir)
    assert again.perturbation == finished.perturbation
    assert again.sentence == finished.sentence
    assert (run_dir / "evaluations.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"key": "abc"}', "damaged at line 5"),
        ('{"key": "abc", "status": "nope"}', "damaged at line 5"),
        ('{"key": "abc", "status": "failed"}', "damaged at line 5"),
        ('{"key": "abc", "status": "done"}', "record abc has no valid phase"),
        ('{"key": "abc", "status": "failed", "reason": "x", "phase": "finalists"}', "no valid perturbation"),
        (
            '{"key": "abc", "status": "done", "phase": "finalists", "perturbation": {}, "fitness": "1"}',
            "no valid fitness",
        ),
        (
            '{"key": "abc", "status": "done", "phase": "search", "perturbation": {}, "fitness": 1, "repeat": "0"}',
            "no valid generation",
        ),
        (
            '{"event": "generation", "generation": "q", "seconds": 1}',
            "an?.* event lacks its number, seconds or fitness",
        ),
        ('{"event": 3}', None),
        ("[]", "damaged at line 5"),
    ],
)
def test_a_damaged_ledger_is_refused_untouched(
    finished: SearchResult, tmp_path: Path, line: str, message: str | None
) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    path = run_dir / "evaluations.jsonl"
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:4], line, *text[5:]]) + "\n")
    before = path.read_bytes()
    if message is None:  # an event of another kind is none of ours; the record that it replaced is trained again
        mddes.resume(run_dir)
        return
    with pytest.raises(InputError, match=message):
        mddes.resume(run_dir)
    assert path.read_bytes() == before


def test_a_ledger_without_its_first_line_is_refused(finished: SearchResult, tmp_path: Path) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    path = run_dir / "evaluations.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match="damaged at line 1"):
        mddes.resume(run_dir)


def test_a_result_without_a_ledger_is_not_searched_anew(finished: SearchResult, tmp_path: Path) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    path = run_dir / "evaluations.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match="is missing or empty, but the folder holds a result"):
        mddes.resume(run_dir)
    assert path.read_text() == ""


@pytest.mark.slow
def test_killed_after_any_line_and_resumed_equals_uninterrupted(
    finished: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger cut after every single line, and within every line: the same result, nothing recomputed."""
    monkeypatch.setattr(api, "_draw", lambda *_: None)  # the figures are not what is compared
    whole = (finished.run_dir / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    victims = (finished.run_dir / "victims.jsonl").read_bytes()
    expected = outcome(finished.run_dir)
    for kept in range(len(whole)):
        for torn in (b"", whole[kept][: len(whole[kept]) // 2]):
            run_dir = copy(finished.run_dir, tmp_path / f"{kept}-{len(torn)}")
            for name in ("perturbation.json", "distribution.npz", "summary.json", "generations.csv"):
                (run_dir / name).unlink()
            (run_dir / "evaluations.jsonl").write_bytes(b"".join(whole[:kept]) + torn)
            (run_dir / "victims.jsonl").write_bytes(victims[: len(victims) * kept // len(whole)])
            mddes.resume(run_dir)
            assert outcome(run_dir) == expected, f"cut after line {kept}"
            after = (run_dir / "evaluations.jsonl").read_bytes()
            assert after.startswith(b"".join(whole[:kept])), "what was recorded stands"
            keys = [line["key"] for line in lines(run_dir / "evaluations.jsonl") if "key" in line]
            assert len(set(keys)) == len(keys), "nothing is recorded twice"


def test_an_extended_run_equals_a_long_one(finished: SearchResult, tmp_path: Path) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    extended = mddes.resume(run_dir, generations=5)
    direct = mddes.search(tiny_config(tmp_path, generations=5))
    mine, theirs = outcome(run_dir), outcome(direct.run_dir)
    assert mine["perturbation"] == theirs["perturbation"]
    assert mine["distribution"] == theirs["distribution"]
    assert mine["generations"] == theirs["generations"]
    assert theirs["evaluations"].items() <= mine["evaluations"].items(), "plus the finalists of generation 3"
    assert extended.generations == 5
    assert read_config(run_dir / "config.toml", SearchConfig).generations == 5


def test_a_run_can_be_moved_with_its_data(tmp_path: Path) -> None:
    digits = mddes.load_dataset("digits", train_size=150)
    arrays = {
        f"{part}_{kind}": getattr(getattr(digits, part), kind)
        for part in ("train", "test")
        for kind in ("images", "labels")
    }
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    np.savez(old / "mine.npz", **arrays)
    config = tiny_config(tmp_path, dataset=str(old / "mine.npz"), train_size=None, generations=1)
    first = mddes.search(config)
    (old / "mine.npz").rename(new / "mine.npz")
    with pytest.raises(InputError, match="no data set at"):
        mddes.resume(first.run_dir, generations=2)
    moved = mddes.resume(first.run_dir, generations=2, data_dir=str(new))
    assert moved.generations == 2
    arrays["train_images"] = 255 - arrays["train_images"]
    np.savez(new / "mine.npz", **arrays)
    with pytest.raises(InputError, match=r"belongs to another configuration .data"):
        mddes.resume(first.run_dir, data_dir=str(new))


@pytest.mark.parametrize(
    ("budget", "generations", "reason"),
    [
        ({"generations": 2}, 2, "generations"),
        ({"evaluations": 9}, 2, "evaluations"),
        ({"wall_clock": 1e-6}, 1, "wall_clock"),
    ],
)
def test_budgets_stop_between_generations(
    tmp_path: Path, budget: dict[str, Any], generations: int, reason: str
) -> None:
    result = mddes.search(tiny_config(tmp_path, victim_seeds=0, **budget))
    assert (result.generations, result.evaluations, result.stopped_by) == (generations, 4 * generations, reason)


def test_what_the_clock_decided_is_read_on_resume_and_lifted_by_a_larger_budget(tmp_path: Path) -> None:
    first = mddes.search(tiny_config(tmp_path, victim_seeds=0, wall_clock=1e-6))
    assert mddes.resume(first.run_dir).generations == 1
    assert mddes.resume(first.run_dir, wall_clock=1e6).generations == 3


def test_a_run_cannot_be_shortened(finished: SearchResult, tmp_path: Path) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    with pytest.raises(InputError, match="already has 3 generations"):
        mddes.resume(run_dir, generations=2)
    for budget in ({"evaluations": 4}, {"wall_clock": 1e-6}):
        assert mddes.resume(run_dir, **budget).generations == 3
        assert outcome(run_dir) == outcome(finished.run_dir)


@pytest.mark.parametrize("change", [{"pixels": 1}, {"seed": 5}, {"lr": 0.5}, {"w_d": 0.25}, {"popsize": 5}])
def test_an_edited_configuration_is_refused_and_the_ledger_untouched(
    finished: SearchResult, tmp_path: Path, change: dict[str, Any]
) -> None:
    run_dir = copy(finished.run_dir, tmp_path)
    path = run_dir / "config.toml"
    save_config(dataclasses.asdict(dataclasses.replace(read_config(path, SearchConfig), **change)), path)
    before = (run_dir / "evaluations.jsonl").read_bytes()
    with pytest.raises(InputError, match=f"belongs to another configuration .{next(iter(change))}"):
        mddes.resume(run_dir)
    assert (run_dir / "evaluations.jsonl").read_bytes() == before


def test_vectors_that_drifted_are_refused_and_rounding_is_forgiven(
    finished: SearchResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond 1e-6 the ledger is not this search's; within, it is told on with one warning."""
    expected = outcome(finished.run_dir)

    def shifted(by: float) -> Path:
        run_dir = copy(finished.run_dir, tmp_path / str(by))
        path = run_dir / "evaluations.jsonl"
        rows = lines(path)
        for row in rows:
            if row.get("phase") == "search":
                row["asked"] = [u + by for u in row["asked"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run_dir

    run_dir = shifted(1e-9)
    mddes.resume(run_dir)
    assert sum("the same search, not bit for bit" in message for message in caplog.messages) == 1
    assert outcome(run_dir)["perturbation"] == expected["perturbation"]
    run_dir = shifted(1e-4)
    before = (run_dir / "evaluations.jsonl").read_bytes()
    with pytest.raises(InputError, match="cannot be continued here: generation 0"):
        mddes.resume(run_dir)
    assert (run_dir / "evaluations.jsonl").read_bytes() == before
