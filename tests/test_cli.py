"""The command line: what it prints, how it stops, and one clear line for every mistake."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import outcome, tiny_arguments, tiny_config

import mddes
from mddes.cli import main


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_search_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(tiny_arguments(tmp_path), capsys)
    assert status == 0
    (folder,) = tmp_path.iterdir()
    assert f"run folder: {folder}" in err
    assert "3/3 generations, best" in err
    assert "12 candidates in 3 generations (the budget of generations is spent)" in out
    assert re.search(r"generation \d, candidate \d +-?\d\.\d{3} +-?\d\.\d{3} ± \d\.\d{3} \(n = 2\)", out)
    assert re.search(r"mean of the final distribution +- +-?\d\.\d{3} ± \d\.\d{3} \(n = 2\)", out)
    for row in ("clean", "uniform", "found"):
        assert re.search(rf"{row} +\d+\.\d ± \d+\.\d % +\(n = 2\)", out)
    assert json.loads((folder / "summary.json").read_text())["sentence"] in out
    assert f"mddes resume {folder} --generations 6" in out
    assert (folder / "perturbation.json").exists()


def test_the_command_line_and_python_do_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny_arguments(tmp_path / "cli"), capsys)
    (folder,) = (tmp_path / "cli").iterdir()
    result = mddes.search(tiny_config(tmp_path / "python"))
    assert outcome(folder) == outcome(result.run_dir)


def test_the_paper_s_rule_claims_no_fresh_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(tiny_arguments(tmp_path, winner="paper", victim_seeds=0, evaluations=9), capsys)
    assert "not trained again" in out
    assert "(the budget of trained candidates is spent)" in out
    assert "--evaluations 16" in out


def test_resume_extends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny_arguments(tmp_path, victim_seeds=0), capsys)
    (folder,) = tmp_path.iterdir()
    status, out, _ = run(["resume", str(folder), "--generations", "4"], capsys)
    assert status == 0
    assert "16 candidates in 4 generations" in out


def test_a_file_gives_defaults_and_options_override_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.toml"
    path.write_text('pixels = 3\npopsize = 5\nworkers = 0\ndevice = "cpu"\nbatch_size = 400\nepochs = 1\n')
    status, out, _ = run(["search", "--config", str(path), "--popsize", "6", "--plan"], capsys)
    assert status == 0
    assert "search dimension   90" in out
    assert "lambda             6 candidates" in out


def test_a_saved_configuration_repeats_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny_arguments(tmp_path / "first"), capsys)
    (first,) = (tmp_path / "first").iterdir()
    run(["search", "--config", str(first / "config.toml"), "--out", str(tmp_path / "second")], capsys)
    (second,) = (tmp_path / "second").iterdir()
    assert outcome(second) == outcome(first)


def test_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(["search", "--preset", "smoke", "--plan", "--workers", "0"], capsys)
    assert status == 0
    assert "trainings          16: 8 in the search, 2 of finalists, 6 for the comparison" in out


def test_plan_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run([*tiny_arguments(tmp_path / "runs"), "--plan"], capsys)
    assert status == 0
    for line in ("search dimension", "lambda", "trainings", "seconds a training", "memory", "time"):
        assert line in out
    assert not (tmp_path / "runs").exists()


def test_datasets_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(["datasets", "--data-dir", str(tmp_path)], capsys)
    assert status == 0
    assert all(name in out for name in ("digits", "mnist", "fashion-mnist", "svhn", "cifar10", "train_images"))
    assert f"not in {tmp_path}" in out


@pytest.mark.data
def test_datasets_that_are_there(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(["datasets", "--data-dir", str(data_dir)], capsys)
    assert re.search(rf"mnist .*\n +in {re.escape(str(data_dir))}\n", out)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(arguments, capsys)
    assert status == 0
    assert mddes.__version__ in out


@pytest.mark.parametrize("command", ["search", "resume", "datasets"])
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: mddes {command}" in capsys.readouterr().out


def test_no_command_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run([], capsys)
    assert status == 2
    assert "mddes search" in out


def bad_npz(tmp_path: Path, **changes: Any) -> str:
    arrays = {
        "train_images": np.zeros((20, 1, 8, 8), np.uint8),
        "train_labels": np.arange(20) % 4,
        "test_images": np.zeros((4, 1, 8, 8), np.uint8),
        "test_labels": np.arange(4),
    }
    path = tmp_path / "bad.npz"
    np.savez(path, **{**arrays, **changes})
    return str(path)


def unwritable(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("a file in the way of a folder")
    return tmp_path / "file" / "runs"


def mixed_sizes(tmp_path: Path) -> str:
    from PIL import Image

    for part in ("train", "test"):
        for k in range(2):
            folder = tmp_path / "pictures" / part / str(k)
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("L", (8 + i, 8)).save(folder / f"{i}.png")
    return str(tmp_path / "pictures")


def corrupt_start(tmp_path: Path) -> str:
    path = tmp_path / "start.json"
    path.write_bytes(b"\x80\x04\x95 a pickle")
    return str(path)


def unknown_key(tmp_path: Path) -> str:
    path = tmp_path / "c.toml"
    path.write_text("pixels = 1\npopsice = 3\n")
    return str(path)


def no_zip(tmp_path: Path) -> str:
    np.save(tmp_path / "array.npy", np.zeros(3))
    return str((tmp_path / "array.npy").rename(tmp_path / "array.npz"))


MISTAKES: dict[str, tuple[Any, str]] = {
    "unknown data set": (lambda t: ["search", "--dataset", "mnits"], "unknown data set 'mnits'"),
    "missing files": (lambda t: ["search", "--dataset", "mnist", "--data-dir", str(t)], "which mnist needs"),
    "missing npz": (lambda t: ["search", "--dataset", str(t / "no.npz")], "no data set at"),
    "labels": (lambda t: ["search", "--dataset", bad_npz(t, train_labels=np.arange(19))], "20 images need labels"),
    "small": (
        lambda t: ["search", "--dataset", bad_npz(t, train_images=np.zeros((20, 1, 7, 8), np.uint8))],
        "the least is 8 x 8",
    ),
    "mixed sizes": (lambda t: ["search", "--dataset", mixed_sizes(t)], "bring all pictures to one size"),
    "too many pixels": (lambda t: ["search", "--pixels", "65"], "pixels must lie in 1..64"),
    "popsize": (lambda t: ["search", "--popsize", "1"], "popsize must be at least 2, not 1"),
    "unknown key": (lambda t: ["search", "--config", unknown_key(t)], "unknown key 'popsice'"),
    "corrupt start": (lambda t: ["search", "--start", corrupt_start(t)], "start.json"),
    "unwritable": (lambda t: tiny_arguments(unwritable(t)), "Not a directory"),
    "unknown option": (lambda t: ["search", "--pixelz", "3"], "--pixelz"),
    "no number": (lambda t: ["search", "--pixels", "many"], "--pixels"),
    "unknown choice": (lambda t: ["search", "--mode", "mul"], "invalid choice 'mul'"),
    "unknown preset": (lambda t: ["search", "--preset", "huge"], "unknown preset 'huge'"),
    "unknown command": (lambda t: ["serch"], "unknown command 'serch' (did you mean 'search'?)"),
    "no run": (lambda t: ["resume", str(t)], "is no run folder"),
    "nothing to resume": (lambda t: ["resume"], "run's folder"),
    "no cluster": (lambda t: ["search", "--ray-address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    "no address": (lambda t: ["search", "--ray-address", "ray://head:10001"], "must be auto, local or host:port"),
    "no gpu": (lambda t: ["search", "--device", "cuda"], "no CUDA GPU"),
    "no gpus": (lambda t: ["search", "--gpus-per-worker", "99"], "a worker is to have 99 GPUs"),
    "no workers": (lambda t: ["search", "--workers", "two"], "it is auto or a whole number, not 'two'"),
    "no share": (lambda t: ["search", "--max-failures", "2"], "max_failures must be at most 1, not 2"),
    "negative labels": (
        lambda t: ["search", "--dataset", bad_npz(t, train_labels=np.arange(20) % 4 - 1)],
        "train_labels must be 0, 1, ..., but the least is -1",
    ),
    "pickled": (
        lambda t: ["search", "--dataset", bad_npz(t, train_labels=np.array([{}] * 20, dtype=object))],
        "pickled objects, which are never loaded",
    ),
    "no zip": (lambda t: ["search", "--dataset", no_zip(t)], "it is no .npz file"),
    "status of nothing": (lambda t: ["status", str(t)], "is no run folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_status_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments, message = MISTAKES[name]
    status, out, err = run(arguments(tmp_path), capsys)
    assert status == 2
    assert out == ""
    told = [line for line in err.splitlines() if not line.startswith("mddes: run folder")]
    assert len(told) == 1, err
    assert told[0].startswith("mddes: error: ")
    assert message in told[0]
    assert not (tmp_path / "runs").exists()


def test_a_ledger_of_another_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny_arguments(tmp_path, victim_seeds=0, generations=1), capsys)
    (folder,) = tmp_path.iterdir()
    path = folder / "config.toml"
    path.write_text(path.read_text().replace("pixels = 2", "pixels = 1"))
    status, _, err = run(["resume", str(folder)], capsys)
    assert status == 2
    assert err.count("\n") == 1
    assert "belongs to another configuration (pixels 2 -> 1)" in err


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mddes", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for_lines(out: Path, count: int, process: subprocess.Popen[str]) -> Path:
    """Wait until the run's ledger has so many lines, and return the run's folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for ledger in out.glob("*/evaluations.jsonl"):
            if ledger.read_bytes().count(b"\n") >= count:
                return ledger.parent
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        time.sleep(0.005)
    raise AssertionError("the search did not get there")


# Slow enough to be caught in the act.
CATCHABLE: dict[str, Any] = {"train_size": 600, "epochs": 2, "batch_size": 16}


@pytest.mark.slow
def test_kill_minus_nine_at_several_points_then_resume_equals_uninterrupted(tmp_path: Path) -> None:
    """The driver dies three times, in a finished, a half-done and the last generation, and goes on each time."""
    quiet = mddes.search(tiny_config(tmp_path / "quiet", **CATCHABLE))
    out = tmp_path / "killed"
    process = start(tiny_arguments(out, **CATCHABLE))
    for count in (2, 7, 13):
        folder = wait_for_lines(out, count, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = (folder / "evaluations.jsonl").read_bytes()
        with (folder / "evaluations.jsonl").open("ab") as ledger:
            ledger.write(b'{"key": "torn in the mid')  # what a crash within a write would leave
        process = start(["resume", str(folder)])
        wait_for_lines(out, before.count(b"\n"), process)
    out_text, err_text = process.communicate()
    assert process.returncode == 0, err_text
    assert outcome(folder) == outcome(quiet.run_dir)
    assert "on fresh seeds" in out_text
    assert (folder / "evaluations.torn").read_bytes().count(b"torn in the mid") == 3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.ray)])
@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "a scheduler's farewell")])
def test_stops_cleanly_and_says_how_to_go_on(tmp_path: Path, number: int, name: str, workers: int) -> None:
    process = start(tiny_arguments(tmp_path, **CATCHABLE, workers=workers))
    folder = wait_for_lines(tmp_path, 3, process)
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == 130, name
    assert "Traceback" not in err
    assert f"to go on: mddes resume {folder}" in err
    assert (folder / ".driver.lease").read_text() == "", "the folder is free"
    assert mddes.resume(folder, workers=0).generations == 3


@pytest.mark.slow
@pytest.mark.ray
def test_more_ctrl_c_does_not_spoil_the_ending(tmp_path: Path) -> None:
    process = start(tiny_arguments(tmp_path, **CATCHABLE, workers=2))
    folder = wait_for_lines(tmp_path, 3, process)
    for _ in range(3):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.4)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"to go on: mddes resume {folder}" in err


def interrupted(_arguments: list[str], _running: list[Path]) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return 0


def test_what_a_shell_lets_ignore_ctrl_c_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells start background jobs with SIGINT ignored; it stays so, and handlers are put back afterwards."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr("mddes.cli._dispatch", interrupted)
        assert main(["datasets"]) == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert main(["datasets"]) == 130, "not ignored, it is heard"
    assert signal.getsignal(signal.SIGINT) == before


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    command = f"{sys.executable} -m mddes search --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: mddes search")
    assert done.stderr == ""


def test_python_dash_m(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mddes", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mddes: error: unknown command")
    assert done.stderr.count("\n") == 1
