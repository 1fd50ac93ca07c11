"""A sweep of learning rates: what is chosen, and how it goes on beyond its end, with networks of known accuracy."""

from pathlib import Path
from typing import Any

import pytest
from test_optimizers_study import config

import mddes
from mddes.studies.bench import Bench
from mddes.studies.optimizers import further_victims, run_optimizers
from mddes.studies.sweep import at_an_end, beyond, choose


def test_a_choice_takes_the_best_accuracy_then_the_lower_loss_and_no_rate_that_failed() -> None:
    def record(accuracy: float, loss: float, status: str = "done") -> dict[str, Any]:
        return {"status": status, "held_out_poisoned_accuracy": accuracy, "held_out_poisoned_loss": loss}

    field = "held_out_poisoned_accuracy"
    assert choose({0.1: [record(0.9, 1.0)], 0.2: [record(0.8, 0.1)]}, field) == 0.1
    assert choose({0.1: [record(0.9, 1.0)], 0.2: [record(0.9, 0.1)]}, field) == 0.2
    assert choose({0.1: [record(1.0, 0.1), record(0.7, 0.1)], 0.2: [record(0.9, 1.0)] * 2}, field) == 0.2, "the mean"
    assert choose({0.1: [record(1.0, 0.1), {"status": "failed"}], 0.2: [record(0.2, 9.0)] * 2}, field) == 0.2
    assert choose({0.1: [{"status": "failed"}]}, field) is None


def test_what_lies_beyond_an_end() -> None:
    half_decades = [0.1, 0.3, 1.0, 3.0, 10.0]
    assert beyond(half_decades, 0.1) == [0.03]
    assert beyond([*half_decades, 0.03], 0.03) == [0.01]
    assert beyond(half_decades, 10.0) == [30.0]
    assert beyond(half_decades, 0.3) == []
    assert beyond(half_decades, None) == []
    assert beyond([2.0, 1.0], 2.0) == [4.0]
    assert beyond([0.1], 0.1) == []
    assert beyond([1e-300, 1e-250], 1e-300) == [], "nothing is below the smallest number"
    assert beyond([1e200, 1e300], 1e300) == []
    assert beyond([1.0, 1.0 + 1e-9], 1.0) == [], "no step that is lost in rounding"
    assert at_an_end(half_decades, 10.0)
    assert not at_an_end([0.1], 0.1)
    assert not at_an_end(half_decades, None)


Worth = dict[float, tuple[float, float]]  # accuracy on poisoned and on clean held-out images


def swept_by(worth: Worth, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[list[float], dict[str, float]]:
    """Return the rates that a sweep over 0.1, 0.3, 1 tries, in order, and the choices; rates not named diverge."""
    tried: list[float] = []

    def trained(_bench: Any, victims: Any) -> list[dict[str, Any]]:
        records = []
        for given in victims:
            tried.append(given.labels["lr"])
            poisoned, clean = worth.get(given.labels["lr"], (None, None))
            fields = {"held_out_poisoned_accuracy": poisoned, "held_out_clean_accuracy": clean}
            status = {"status": "failed", "reason": "diverged"} if poisoned is None else {"status": "done"}
            numbers = dict.fromkeys(("held_out_poisoned_loss", "clean_test_accuracy", "poisoned_train_accuracy"), 0.5)
            records.append({**status, **fields, **numbers})
        return records

    monkeypatch.setattr(Bench, "train", trained)
    data = mddes.load_dataset("digits", train_size=200)
    bench = Bench(data, Path(), None, None, lambda _: None)  # type: ignore[arg-type]
    own = {"optimizers": ("adam",), "poisons": ("clean",), "rates": (0.1, 0.3, 1.0), "seeds": 1, "checkpoints": ()}
    found = run_optimizers(bench, config(Path(), **{**own, **changes}))
    choices = {row["selection"]: row["lr"] for row in found.rows if row["kind"] == "chosen"}
    return tried, choices


def test_each_choice_goes_on_at_its_own_end_and_has_rates_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle's way down passes 0.03, where poisoned accuracy is highest: the victim never sees it."""
    worth = {0.01: (0.1, 0.5), 0.03: (0.9, 0.9), 0.1: (0.1, 0.8), 0.3: (0.8, 0.7), 1.0: (0.1, 0.6)}
    tried, choices = swept_by(worth, monkeypatch, extend=3)
    assert sorted(set(tried)) == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert choices == {"poisoned": 0.3, "clean": 0.03}
    worth = {0.1: (0.1, 0.9), 0.3: (0.2, 0.8), 1.0: (0.3, 0.7), 3.0: (0.4, 0.1), 10.0: (0.5, 0.1), 0.03: (0.1, 0.1)}
    tried, choices = swept_by(worth, monkeypatch, extend=3)
    assert tried[:3] == [0.1, 0.3, 1.0]
    assert sorted(set(tried)) == [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0], "30 diverges, and is not gone beyond"
    assert choices == {"poisoned": 10.0, "clean": 0.1}
    tried, choices = swept_by(worth, monkeypatch, extend=1)
    assert (max(tried), choices) == (3.0, {"poisoned": 3.0, "clean": 0.1})


def test_sweeps_grow_by_no_more_than_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = {rate: (rate, -rate) for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)}
    tried, choices = swept_by(worth, monkeypatch, extend=3)
    assert choices == {"poisoned": 30.0, "clean": 0.003}
    own = {"optimizers": ("adam",), "poisons": ("clean",), "rates": (0.1, 0.3, 1.0), "extend": 3}
    assert len(set(tried)) - 3 == further_victims(config(Path(), **own)) == 6
    tried, choices = swept_by({0.1: (0.5, 0.5)}, monkeypatch, rates=(0.1,), extend=3)
    assert (set(tried), choices) == ({0.1}, {"poisoned": 0.1, "clean": 0.1})
