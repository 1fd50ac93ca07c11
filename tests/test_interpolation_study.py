"""The study of what lies between two solutions."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import lines
from test_transfer import records

import mddes
from mddes import InputError, Recipe
from mddes.cli import main
from mddes.measures import estimate
from mddes.measures.interpolation import barrier, blend, judge, recalibrate
from mddes.measures.objective import batches, cross_entropy, flat
from mddes.measures.solutions import chosen
from mddes.models import build
from mddes.seeding import derive
from mddes.studies.findings import Findings
from mddes.studies.interpolation import InterpolationConfig, _compared
from mddes.studies.interpolation_text import JUDGED
from mddes.studies.statistics import compare_pairs, holm
from mddes.study import resume_study, study
from mddes.training import accuracy, train

pytestmark = pytest.mark.usefixtures("as_tasks_run")
TINY: dict[str, Any] = {
    "train_size": 150,
    "test_size": 60,
    "poisons": ("clean", "uniform"),
    "pixels": (2,),
    "models": ("graynet-bn",),
    "seeds": 2,
    "epochs": 1,
    "batch_size": 50,
    "points": 5,
    "line_size": 80,
    "measure_size": 20,
    "probes": 2,
    "draws": 2,
    "slices": 3,
    "surface": 3,
    "workers": 0,
    "device": "cpu",
}


def config(out: Path, **changes: Any) -> InterpolationConfig:
    return InterpolationConfig(**{**TINY, "out": str(out), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("interpolation", config(tmp_path_factory.mktemp("runs")))


def test_a_pair_equals_one_made_by_hand(finished: Findings) -> None:
    """Two networks trained with `mddes.train`, blended, judged and measured with the parts."""
    data = mddes.load_dataset("digits", train_size=150)
    seed, subset = derive(0, "victims", 1), derive(0, "measured")
    poison = mddes.uniform(data.train, pixels=2, seed=seed)
    images, test = poison.apply(data.train), chosen(data.test.subset(range(60)), 80, subset)
    recipes = [Recipe(optimizer=name, epochs=1, batch_size=50) for name in ("sgd", "adam")]
    ends = [train("graynet-bn", images, recipe, seed=seed) for recipe in recipes]
    on_line, measured = chosen(images, 80, subset), chosen(images, 20, subset)
    assert measured.images.tobytes() == on_line.images[:20].tobytes()
    (record,) = [r for r in records(finished.run_dir).values() if (r["poison"], r["victim"]) == ("uniform", 1)]
    for j, alpha in enumerate((-0.5, 0.0, 0.5, 1.0, 1.5)):
        network = blend(ends[0], ends[1], alpha).eval()
        assert record["raw_line_train_loss"][j] == judge(network, on_line).loss
        assert record["raw_line_test_accuracy"][j] == judge(network, test).accuracy
        recalibrate(network, [x for x, _ in batches(network, on_line)])
        assert record["line_test_loss"][j] == judge(network, test).loss
        assert record["line_train_accuracy"][j] == judge(network, on_line).accuracy
    start = build("graynet-bn", images.shape, 10, seed=seed, mean=[0.5], std=[0.5])
    weights = [flat([*network.parameters()]) for network in (*ends, start)]
    assert record["distance"] == float((weights[1] - weights[0]).norm())
    assert record["distance_from_init"] == [float((end - weights[2]).norm()) for end in weights[:2]]
    for i, network in enumerate(ends):
        assert record["train_loss"][i] == judge(network, on_line).loss
        assert record["test_accuracy"][i] == accuracy(network, test)
        top = estimate("hessian_top_eigenvalue", network, measured, seed=seed)
        assert record["hessian_top_eigenvalue"][i] == top.value
        assert record["hessian_top_eigenvalue_details"][i] == top.details
        sharp = estimate("average_sharpness_l2", network, measured, seed=seed, rho=0.4, draws=2, adaptive=True)
        assert record["adaptive_average_sharpness"][i] == sharp.value
        assert record["adaptive_average_sharpness_error"][i] == sharp.standard_error
        objective = cross_entropy(network, measured)
        along = weights[1] - weights[0]
        curvature = along @ objective.hessian_times(along) / (along @ along)
        assert record["line_curvature"][i] == pytest.approx(float(curvature), rel=1e-12)
        assert record["slices"][i][1] == objective.value()
    assert record["surfaces"] == [[], []], "only around the first pair"


def test_rows_say_what_the_records_say(finished: Findings) -> None:
    own = [r for r in records(finished.run_dir).values() if r["poison"] == "clean"]
    rows = [row for row in finished.rows if row.get("poison") == "clean"]
    (pair,) = [row for row in rows if row["kind"] == "pair"]
    alphas = [-0.5, 0.0, 0.5, 1.0, 1.5]
    barriers = [barrier(alphas, record["line_test_loss"]) for record in own]
    assert pair["barrier_test_mean"] == pytest.approx(np.mean(np.array(barriers, float)))
    assert pair["raw_barrier_train_std"] == pytest.approx(
        np.std([barrier(alphas, r["raw_line_train_loss"]) or 0.0 for r in own], ddof=1)
    )
    for i, end in enumerate(("sgd", "adam")):
        (row,) = [row for row in rows if row["kind"] == "end" and row["end"] == end]
        assert row["hessian_trace_mean"] == pytest.approx(np.mean([r["hessian_trace"][i] for r in own]))
        errors = [r["average_sharpness_error"][i] for r in own]
        assert row["average_sharpness_error_mean"] == pytest.approx(np.mean(errors))
        assert "hessian_top_eigenvalue_error_mean" not in row, "nothing is drawn for it that is averaged"
        shown = finished.tables[next(iter(finished.tables))][i]["average sharpness"]
        assert shown.endswith(f" (MC {np.mean(errors):.2g})")
        assert row["test_loss_std"] == pytest.approx(np.std([r["test_loss"][i] for r in own], ddof=1))
        (slice_row,) = [r for r in rows if (r["kind"], r.get("end"), r.get("t")) == ("slice", end, -1.0)]
        assert slice_row["loss_mean"] == pytest.approx(np.mean([r["slices"][i][0] for r in own]))
        surface = [r for r in rows if (r["kind"], r.get("end")) == ("surface", end)]
        (first,) = [r for r in own if r["victim"] == 0]
        assert [r["loss_mean"] for r in surface] == [loss for line in first["surfaces"][i] for loss in line]
    (line,) = [row for row in rows if row["kind"] == "line" and row["alpha"] == 0.5]
    assert line["test_accuracy_mean"] == pytest.approx(np.mean([r["line_test_accuracy"][2] for r in own]))
    assert line["raw_test_accuracy_mean"] == pytest.approx(np.mean([r["raw_line_test_accuracy"][2] for r in own]))


def test_ends_are_compared_pair_by_pair_as_ratios_and_corrected_together(finished: Findings) -> None:
    compared = [row for row in finished.rows if row["kind"] == "comparison"]
    expected = holm({str(i): row["p"] for i, row in enumerate(compared)})
    assert [row["p_holm"] for row in compared] == [expected[str(i)] for i in range(len(compared))]
    (row,) = [r for r in compared if (r["poison"], r["quantity"]) == ("uniform", "average_sharpness")]
    own = [r["average_sharpness"] for r in records(finished.run_dir).values() if r["poison"] == "uniform"]
    ratios = [pair[0] / pair[1] for pair in own]
    if row["scale"] == "log":
        assert row["ratio"] == pytest.approx(np.prod(ratios) ** (1 / 2))
    by_hand = _compared("hessian_trace", [{"hessian_trace": [2.0, 1.0]}, {"hessian_trace": [8.0, 1.0]}])
    assert (by_hand["scale"], by_hand["pairs"], by_hand["ratio"]) == ("log", 2, pytest.approx(4.0))
    found = compare_pairs([np.log(2), np.log(8)], [0.0, 0.0])
    assert found.low is not None
    assert by_hand["ratio_low"] == pytest.approx(np.exp(found.low))
    negative = _compared("hessian_trace", [{"hessian_trace": [2.0, -1.0]}, {"hessian_trace": [8.0, 1.0]}])
    assert (negative["scale"], negative["ratio"], negative["difference"]) == ("plain", None, 5.0)


def test_tables_sentences_and_figures(finished: Findings) -> None:
    ends, line, comparisons, together = finished.tables.values()
    assert [(row["poison"], row["solution"]) for row in ends] == [
        ("clean", "sgd"),
        ("clean", "adam"),
        ("uniform, N_p = 2", "sgd"),
        ("uniform, N_p = 2", "adam"),
    ]
    assert [row["poison"] for row in line] == ["clean", "uniform, N_p = 2"]
    assert "raw barrier test" in line[0]
    assert len(comparisons) == 2 * 6
    assert len(together) == 9
    assert len(finished.sentences) == 3
    assert finished.sentences[0].startswith("digits, graynet-bn, clean: is the sgd solution sharper than the adam one?")
    told, accuracies = finished.answer
    for row in ("clean", "uniform, N_p = 2"):
        own = [r for r in finished.rows if r["kind"] == "comparison" and r["row"] == row and r["quantity"] in JUDGED]
        apart = [r["difference"] > 0 for r in own if r["p_holm"] < 0.05]
        assert f"{row}, sharper by {sum(apart)}, flatter by {len(apart) - sum(apart)}" in told
        values = [
            f"{100 * r['test_accuracy_mean']:.1f} ± "
            for r in finished.rows
            if (r["kind"], r.get("row")) == ("end", row)
        ]
        assert re.search(rf"{row} {values[0]}[\d.]+ and {values[1]}", accuracies)
    names = {path.name for path in (finished.run_dir / "figures").glob("*.png")}
    assert names == {"line-graynet-bn.png", "around-graynet-bn.png", "correlations-graynet-bn.png"}


def test_a_resumed_study_is_the_uninterrupted_one(finished: Findings, tmp_path: Path) -> None:
    begun = study("interpolation", config(tmp_path, seeds=1))
    assert len(records(begun.run_dir)) == 2
    extended = resume_study(begun.run_dir, seeds=2)
    assert records(begun.run_dir) == records(finished.run_dir)
    assert extended.rows == finished.rows
    assert (begun.run_dir / "table.md").read_text() == (finished.run_dir / "table.md").read_text()


def test_a_solution_that_diverged_is_counted_and_named(tmp_path: Path) -> None:
    changes = {"models": ("graynet",), "poisons": ("clean",), "seeds": 1, "lrs": (0.05, 1e30)}
    with pytest.raises(mddes.RunStopped, match="training with adam diverged"):
        study("interpolation", config(tmp_path, **changes))


def test_a_damaged_record_is_refused(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    ledger = folder / "trainings.jsonl"
    kept = [{k: v for k, v in line.items() if k != "slices"} for line in lines(ledger)]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in kept))
    with pytest.raises(InputError, match=r"is damaged: record .* has no valid slices"):
        resume_study(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair": ("sgd",)}, "a pair is two optimizers, not 1: sgd"),
        ({"pair": ("sgd", "adam", "sam")}, "a pair is two optimizers, not 3"),
        ({"pair": ("sgd", "luck")}, "unknown optimizer 'luck'"),
        ({"pair": ("sgd", "sgd")}, "both solutions would be the same: sgd at 0.05"),
        (
            {"pair": ("own_code:sgd", "asam")},
            "own_code:sgd has no default learning rate: give both solutions theirs (--lrs)",
        ),
        ({"lrs": (0.1,)}, "lrs are two learning rates, not 1"),
        ({"lrs": (0.1, 0.0)}, "lrs must be above 0, not 0.0"),
        ({"epochs_each": (3,)}, "epochs_each are two numbers of epochs, not 1"),
        ({"epochs_each": (3, 0)}, "epochs_each must be at least 1, not 0"),
        ({"epochs_each": (3, 2), "epochs": 2}, "epochs_each says how long the solutions train: leave epochs out"),
        (
            {"pair": ("sgd", "sgd"), "epochs": None, "epochs_each": (2, 2)},
            "both solutions would be the same: sgd at 0.05",
        ),
        ({"points": 1}, "points must be at least 2, not 1"),
        ({"slices": 1}, "slices must be 0 (none) or at least 2, not 1"),
        ({"surface": 1}, "surface must be 0 (none) or at least 2, not 1"),
        ({"low": 1.5}, "low must be below high, not 1.5 and 1.5"),
        ({"low": 0.6, "high": 0.5}, "low must be below high, not 0.6 and 0.5"),
        ({"probes": 0}, "probes must be at least 1, not 0"),
        ({"noise": 0.0}, "noise must be above 0, not 0.0"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        study("interpolation", config(tmp_path / "runs", **changes))
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_one_optimizer_at_two_rates_is_a_pair(tmp_path: Path) -> None:
    settings = config(tmp_path, pair=("sgd", "sgd"), lrs=(0.05, 0.2))
    assert settings.ends() == ("sgd 0.05", "sgd 0.2")
    assert config(tmp_path, pair=("sam", "adam")).ends() == ("sam", "adam")


def test_solutions_that_train_for_different_times(tmp_path: Path) -> None:
    """Each is what it would be alone."""
    changes = {
        "pair": ("sgd", "sgd"),
        "epochs": None,
        "epochs_each": (2, 1),
        "poisons": ("clean",),
        "models": ("graynet",),
        "seeds": 1,
    }
    settings = config(tmp_path, **changes)
    found = study("interpolation", settings)
    (record,) = records(found.run_dir).values()
    data = mddes.load_dataset("digits", train_size=150)
    for i, epochs in enumerate((2, 1)):
        recipe = Recipe(optimizer="sgd", epochs=epochs, batch_size=50)
        alone = train("graynet", data.train, recipe, seed=record["seed"])
        assert record["test_accuracy"][i] == accuracy(alone, data.test.subset(range(60)))
        assert record["norm"][i] == float(flat([*alone.parameters()]).norm())
    ends = [row["end"] for row in found.rows if row["kind"] == "end"]
    assert ends == ["sgd 0.05 (epochs: 2)", "sgd 0.05 (epochs: 1)"]
    assert config(tmp_path, epochs=None, epochs_each=(2, 2)).ends() == ("sgd", "adam")


def test_plan_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**TINY, "out": str(tmp_path), "seeds": 1, "poisons": ("clean",), "models": ("graynet",)}
    words = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, tuple) else (v,))] for k, v in settings.items()]
    arguments = ["study", "interpolation", *(part for option in words for part in option)]
    assert main([*arguments, "--plan"]) == 0
    assert "graynet       1 trainings" in capsys.readouterr().out
    assert main([*arguments, "--plan", "--epochs-each", "2", "1"]) == 2
    assert "leave epochs out" in capsys.readouterr().err
    at = arguments.index("--epochs")
    assert main([*arguments[:at], *arguments[at + 2 :], "--plan", "--epochs-each", "2", "1"]) == 0
    assert "graynet       1 trainings" in capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []
    assert main([*arguments, "--pair", "sgd", "momentum", "--lrs", "0.1", "0.01"]) == 0
    assert "is the sgd solution sharper than the momentum one?" in capsys.readouterr().out
    assert main([*arguments, "--pair", "sgd"]) == 2
    assert "a pair is two optimizers, not 1: sgd" in capsys.readouterr().err
