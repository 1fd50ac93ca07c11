"""What goes wrong in studies: a user's own code, victims that fail, damaged ledgers, settings that cannot be."""

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import lines
from test_transfer import config

import mddes
from mddes import InputError, RunStopped, uniform
from mddes.cli import main
from mddes.data import ImageSet
from mddes.studies.findings import Findings
from mddes.studies.poisons import poison_rows
from mddes.studies.transfer import TransferConfig
from mddes.study import prepared_study, resume_study, study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("transfer", config(tmp_path_factory.mktemp("runs")))


FRAGILE = """
import os, torch
from torch import nn
def net(image_shape, num_classes):
    size = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes))
def failing(image_shape, num_classes):
    if os.environ.get("FAIL_SEED") == str(torch.initial_seed() % 2):
        raise ValueError("no luck")
    return net(image_shape, num_classes)
def make(parameters, lr, weight_decay):
    return torch.optim.SGD(parameters, lr=lr)
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a user's module, new for each test."""
    name = f"fragile_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FRAGILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return name


@pytest.mark.parametrize("what", ["models", "optimizer"])
def test_a_user_s_own_code_is_pinned_and_another_text_refused(tmp_path: Path, fragile: str, what: str) -> None:
    own: dict[str, Any] = {"models": (f"{fragile}:net",)} if what == "models" else {"optimizer": f"{fragile}:make"}
    poisons = ("clean", "uniform")
    found = study("transfer", config(tmp_path / "runs", poisons=poisons, lr=0.1, **own))
    assert f"{fragile}:" in (found.run_dir / "study.toml").read_text()
    assert "#" in (found.run_dir / "study.toml").read_text()
    before = (found.run_dir / "trainings.jsonl").read_bytes()
    (tmp_path / f"{fragile}.py").write_text(FRAGILE + "changed = True\n")
    with pytest.raises(InputError, match="is not what it was when this run began"):
        resume_study(found.run_dir, seeds=3)
    assert (found.run_dir / "trainings.jsonl").read_bytes() == before


def test_own_code_that_does_not_work_is_said_before_a_study_begins(tmp_path: Path, fragile: str) -> None:
    for changes in ({"models": (f"{fragile}:nothing",)}, {"optimizer": f"{fragile}:net", "lr": 0.1}):
        with pytest.raises(InputError):
            study("transfer", config(tmp_path / "runs", **changes))
    assert not (tmp_path / "runs").exists()


def test_victims_that_failed_are_counted_and_named(
    tmp_path: Path, fragile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some networks of a row fail: what is left is said beside its mean, pairs are those that are left."""
    changes = {"models": (f"{fragile}:failing",), "poisons": ("clean", "uniform", "left-column"), "seeds": 6}
    started = config(tmp_path / "runs", **changes)
    healthy = study("transfer", dataclasses.replace(started, out=str(tmp_path / "healthy")))
    from mddes.studies import bench

    monkeypatch.setenv("FAIL_SEED", "0")
    monkeypatch.setattr("mddes.study.try_out", lambda *_: None)
    found = study("transfer", started)
    failed = {row["failed"] for row in found.rows}
    assert len(failed) == 1, "the same seeds in every row"
    (count,) = failed
    assert 0 < count < 6
    assert all(row["n"] == 6 - count for row in found.rows)
    assert set(found.rows[1]["accuracies"]) < set(healthy.rows[1]["accuracies"])
    assert f"(n = {6 - count})" in found.markdown()
    assert f"{3 * count} of 18 trainings failed and are missing above; the first of: ValueError: no luck." in (
        found.sentences
    )
    assert bench.failures([]) == []
    monkeypatch.delenv("FAIL_SEED")
    assert resume_study(found.run_dir).rows == healthy.rows, "what failed is tried again"


def test_a_study_of_which_everything_fails_stops(
    tmp_path: Path, fragile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mddes.study.try_out", lambda *_: None)
    (tmp_path / f"{fragile}.py").write_text(FRAGILE.replace("Flatten", "Nothing"))
    with pytest.raises(RunStopped, match=r"all 4 trainings of the study failed; the first of: AttributeError"):
        study("transfer", config(tmp_path / "runs", models=(f"{fragile}:net",), poisons=("clean", "uniform")))
    (folder,) = (tmp_path / "runs").iterdir()
    assert main(["status", str(folder)]) == 0
    status = capsys.readouterr().out
    assert "stopped" in status
    assert "victims       0 of 4" in status


def test_status_of_an_extension_that_was_interrupted(
    finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mddes.studies.poisons.run_search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resume_study(folder, generations=3)
    assert main(["status", str(folder)]) == 0
    assert "stopped" in capsys.readouterr().out
    monkeypatch.undo()
    resume_study(folder)
    assert main(["status", str(folder)]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_study_is_not_made_smaller(finished: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(finished.run_dir), "--seeds", "1"]) == 2
    assert "a study cannot be made smaller" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["clean", "uniform", "digits-np5"])
def test_a_file_cannot_pass_for_another_row(tmp_path: Path, name: str) -> None:
    uniform(mddes.load_dataset("digits").train).save(tmp_path / f"{name}.json")
    with pytest.raises(InputError, match="would be taken for another's: rename the file"):
        config(tmp_path, poisons=(str(tmp_path / f"{name}.json"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean_test_accuracy": None}, "has no valid clean_test_accuracy"),
        ({"clean_test_accuracy": math.nan}, "has no valid clean_test_accuracy"),
        ({"clean_test_accuracy": 7.5}, "has no valid clean_test_accuracy"),
        ({"pixel_follow_rate": -0.1}, "has no valid pixel_follow_rate"),
        ({"clean_test_accuracy_per_class": 3}, "has no valid clean_test_accuracy_per_class"),
    ],
)
def test_a_damaged_ledger_is_one_line(
    finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    text = [
        json.dumps({**line, **change}) if "key" in line else json.dumps(line)
        for line in lines(folder / "trainings.jsonl")
    ]
    (folder / "trainings.jsonl").write_text("\n".join(text) + "\n")
    assert main(["resume", str(folder), "--workers", "0"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 300}, "value"),
        ({"value": 255, "pixels": (64,), "poisons": ("uniform",)}, "64 pixels of value 255 cannot differ"),
        ({"pixels": (1, 1)}, "pixels name one twice: 1, 1"),
        ({"popsize": 1}, "popsize must be at least 2"),
        ({"test_size": 9999}, "digits has 360 test images, not 9999"),
    ],
)
def test_what_only_a_search_or_a_draw_would_notice_is_said_before_there_is_a_folder(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        study("transfer", config(tmp_path / "runs", **changes))
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_auto_is_what_suits_the_data(tmp_path: Path) -> None:
    assert TransferConfig(models=("auto", "graynet")), "colour data would make it colornet"
    with pytest.raises(InputError, match="models name one twice: graynet, graynet"):
        study("transfer", config(tmp_path / "runs", models=("auto", "graynet")))
    assert not (tmp_path / "runs").exists()


def test_other_hardware_is_said(finished: Findings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    path = folder / "environment.json"
    path.write_text(json.dumps([{**session, "cpu": "another"} for session in json.loads(path.read_text())]))
    resume_study(folder)
    assert sum("the same procedure, not bit for bit" in message for message in caplog.messages) == 1
    assert len(json.loads(path.read_text())) == 2


def test_pixels_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pixels: name at least one"):
        study("transfer", config(tmp_path / "runs", pixels=()))
    assert not (tmp_path / "runs").exists()


def test_a_plan_refuses_what_the_study_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    uniform(ImageSet(np.zeros((4, 1, 9, 9), np.uint8), np.array([0, 1, 2, 3]), 4)).save(other)
    assert main(["study", "transfer", "--poisons", "clean", str(other), "--plan"]) == 2
    planned = capsys.readouterr().err
    assert main(["study", "transfer", "--poisons", "clean", str(other), "--out", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == planned
    assert "fit" in planned


def test_winners_of_two_searches_are_rows_of_their_folders(tmp_path: Path) -> None:
    data = mddes.load_dataset("digits")
    names = []
    for s, run in enumerate(("first-run", "second-run")):
        (tmp_path / run).mkdir()
        uniform(data.train, seed=s).save(tmp_path / run / "perturbation.json")
        names.append(str(tmp_path / run / "perturbation.json"))
    rows = poison_rows(data.train, config(tmp_path, poisons=tuple(names)), 0, lambda *_: pytest.fail("no search"))
    assert [row.name for row in rows] == ["first-run", "second-run"]
    folders = tuple(str(tmp_path / run) for run in ("first-run", "second-run"))
    prepared, _ = prepared_study(config(tmp_path, poisons=folders))
    assert list(prepared.poisons) == names, "a search's folder is its winner"
    with pytest.raises(InputError, match=r"the folder .*, named as a poison, holds no perturbation\.json"):
        config(tmp_path, poisons=(str(tmp_path),))
