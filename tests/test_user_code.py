"""A user's own networks and optimizers: found, tried, pinned."""

import sys
from pathlib import Path

import pytest
from cases import lines, outcome, tiny_arguments, tiny_config
from own_code import Small

import mddes
from mddes.cli import main
from mddes.user_code import load, pin

OWN = {"model": "own_code:Small", "optimizer": "own_code:sgd", "lr": 0.1}


def test_it_trains_like_the_same_thing_by_name() -> None:
    data = mddes.load_dataset("digits").train
    theirs = mddes.train("own_code:Small", data, mddes.Recipe(optimizer="own_code:sgd", lr=0.05, epochs=1), seed=3)
    ours = mddes.train(Small, data, mddes.Recipe(optimizer="sgd", lr=0.05, epochs=1), seed=3)
    assert mddes.accuracy(theirs, data) == mddes.accuracy(ours, data) > 0.1


def test_a_search_with_it_resumes_and_says_which_text_it_was(tmp_path: Path) -> None:
    result = mddes.search(tiny_config(tmp_path, **OWN))
    pinned = pin("model", "own_code:Small")
    assert f'model = "{pinned}"' in (result.run_dir / "config.toml").read_text()
    before = outcome(result.run_dir)
    assert mddes.resume(result.run_dir).evaluations == 12
    assert outcome(result.run_dir) == before


def test_another_text_under_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On resume as well as on a worker; the working directory is looked in without being named."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "my_network.py"
    text = (Path(__file__).parent / "own_code.py").read_text()
    module.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    result = mddes.search(tiny_config(tmp_path / "runs", model="my_network:Small"))
    module.write_text(text.replace("32", "33"))
    ledger = (result.run_dir / "evaluations.jsonl").read_bytes()
    assert main(["resume", str(result.run_dir), "--generations", "4"]) == 2
    assert "model 'my_network:Small' is not what it was when this run began" in capsys.readouterr().err
    assert (result.run_dir / "evaluations.jsonl").read_bytes() == ledger
    pinned = lines(result.run_dir / "evaluations.jsonl")[0]["identity"]["model"]
    with pytest.raises(mddes.InputError, match="is not what it was"):
        load("model", pinned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "own_code:Smal"}, "own_code has no function 'Smal'"),
        ({"model": "own_code:number"}, "own_code has no function 'number'"),
        ({"model": "no_such_module:Small"}, "cannot import 'no_such_module', named as model: ModuleNotFoundError"),
        ({"model": "own code:Small"}, "a model of your own is named package.module:function, not 'own code:Small'"),
        ({"model": "own_code:"}, "a model of your own is named package.module:function, not 'own_code:'"),
        ({"model": "own_code:Small#0123456789abcdef"}, "is not what it was when this run began"),
        ({"model": "sys:exit"}, "sys has no file that a run could be pinned to"),
        ({"model": "own_code:wrong_shape"}, "returns (8, 11) for 8 images, not logits (8, 10)"),
        ({"model": "own_code:greedy"}, "cannot be trained: RuntimeError"),
        ({"model": "own_code:sgd"}, "cannot be trained: TypeError"),
        ({"optimizer": "own_code:sgd"}, "lr must be given for an optimizer of your own (own_code:sgd)"),
        ({"optimizer": "own_code:Small", "lr": 0.1}, "cannot be trained: TypeError"),
    ],
)
def test_what_is_wrong_with_it_is_said_before_a_run_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], message: str
) -> None:
    assert main(tiny_arguments(tmp_path / "runs", **changes)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
