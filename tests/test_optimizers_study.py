"""The study of optimizers: what is swept, chosen and compared, how it is continued, and what it refuses."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from cases import lines
from matplotlib.figure import Figure
from torch.nn import functional as F

import mddes
from mddes import InputError, Recipe, one_pixel_shortcut
from mddes.cli import main
from mddes.data import split
from mddes.pages import write_report
from mddes.report import figures
from mddes.seeding import derive
from mddes.studies.findings import Findings
from mddes.studies.optimizers import (
    PRESETS,
    OptimizersConfig,
    recipe_at,
    sweep_of,
)
from mddes.studies.statistics import compare_pairs, holm
from mddes.study import STUDIES, resume_study, study
from mddes.training import victim
from mddes.training.predict import logits

TINY: dict[str, Any] = {
    "train_size": 200,
    "test_size": 60,
    "poisons": ("clean", "one-pixel-shortcut"),
    "pixels": (3,),
    "optimizers": ("sgd", "adam", "sam"),
    "factors": (1.0, 10.0),
    "sweep_seeds": 1,
    "extend": 0,
    "seeds": 2,
    "epochs": 2,
    "checkpoints": (1,),
    "batch_size": 40,
    "workers": 0,
    "device": "cpu",
}


def config(out: Path, **changes: Any) -> OptimizersConfig:
    return OptimizersConfig(**{**TINY, "out": str(out), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("optimizers", config(tmp_path_factory.mktemp("runs")))


def trained(folder: Path) -> list[dict[str, Any]]:
    loose = {"began", "seconds", "worker"}
    found = [line for line in lines(folder / "trainings.jsonl") if "key" in line]
    return [{k: v for k, v in line.items() if k not in loose} for line in found]


def test_a_victim_is_trained_without_the_held_out_slice_and_judged_on_both_copies(finished: Findings) -> None:
    """Against the same thing done by hand."""
    data = mddes.load_dataset("digits", train_size=200)
    test = data.test.subset(range(60))
    poison = one_pixel_shortcut(data.train, pixels=3)
    parts, clean = split(poison.apply(data.train)), split(data.train)
    (record,) = (
        r
        for r in trained(finished.run_dir)
        if (r["poison"], r["optimizer"], r["lr"], r["victim"]) == ("one-pixel-shortcut", "sam", 0.1, 0)
    )
    seed = derive(0, "victims", 0)
    for epochs, got in ((2, record), (1, record["by_epoch"][0])):
        recipe = Recipe(optimizer="sam", lr=0.1, epochs=epochs, batch_size=40)
        model = mddes.train("graynet", parts.train, recipe, seed=seed)
        assert got["clean_test_accuracy"] == mddes.accuracy(model, test)
        assert got["poisoned_train_accuracy"] == mddes.accuracy(model, parts.train)
        assert got["held_out_poisoned_accuracy"] == mddes.accuracy(model, parts.held_out)
        assert got["held_out_clean_accuracy"] == mddes.accuracy(model, clean.held_out)
        loss = F.cross_entropy(logits(model, parts.held_out).double(), torch.tensor(parts.held_out.labels))
        assert got["held_out_poisoned_loss"] == pytest.approx(float(loss), abs=1e-12)
    assert record["by_epoch"][0]["epoch"] == 1


def test_each_optimizer_has_its_own_sweep_and_its_own_choices(finished: Findings) -> None:
    records = trained(finished.run_dir)
    for row in (row for row in finished.rows if row["kind"] == "chosen"):
        own = [r for r in records if (r["row"], r["optimizer"]) == (row["row"], row["optimizer"])]
        swept = [r for r in own if r["victim"] == 0]
        default = {"sgd": 0.05, "adam": 1e-3, "sam": 0.01}[row["optimizer"]]
        assert sorted(r["lr"] for r in swept) == [default, 10 * default]
        field = {"poisoned": "held_out_poisoned_accuracy", "clean": "held_out_clean_accuracy"}[row["selection"]]
        best = max(swept, key=lambda r: (r[field], -r["held_out_poisoned_loss"]))
        assert row["lr"] == best["lr"]
        fresh = sorted((r for r in own if r["victim"] > 0 and r["lr"] == row["lr"]), key=lambda r: r["victim"])
        assert [r["victim"] for r in fresh] == [1, 2], "networks that had no part in the choice"
        assert [r["seed"] for r in fresh] == [derive(0, "victims", s) for s in (1, 2)], "paired across optimizers"
        assert row["accuracies"] == [r["clean_test_accuracy"] for r in fresh]
        assert row["poisoned_train_loss"] == pytest.approx(np.mean([r["poisoned_train_loss"] for r in fresh]))
        assert row["edge"], "of two rates each is an end"
        (early,) = (
            r
            for r in finished.rows
            if r["kind"] == "epoch" and all(r[k] == row[k] for k in ("row", "optimizer", "selection"))
        )
        assert early["accuracies"] == [r["by_epoch"][0]["clean_test_accuracy"] for r in fresh]
    sweeps = [row for row in finished.rows if row["kind"] == "sweep"]
    assert len(sweeps) == 2 * 3 * 2
    assert all(row["n"] == 1 for row in sweeps)


def test_optimizers_are_compared_with_the_reference_pair_by_pair(finished: Findings) -> None:
    for way in ("poisoned", "clean"):
        own = [row for row in finished.rows if row["kind"] == "chosen" and row["selection"] == way]
        ps = {}
        for row in own:
            if row["optimizer"] == "adam":
                assert "vs_reference_p" not in row
                continue
            (adam,) = (r for r in own if (r["row"], r["optimizer"]) == (row["row"], "adam"))
            expected = compare_pairs(row["accuracies"], adam["accuracies"])
            assert (row["vs_reference_difference"], row["vs_reference_p"]) == (expected.difference, expected.p)
            if expected.p is not None:
                ps[row["row"], row["optimizer"]] = expected.p
        corrected = holm({str(k): p for k, p in ps.items()})
        for row in own:
            key = (row["row"], row["optimizer"])
            assert row.get("vs_reference_p_holm") == (corrected[str(key)] if key in ps else None)


def test_a_sweep_goes_on_where_its_choice_is_at_an_end(tmp_path: Path) -> None:
    """Three low rates, of which the highest is best: as if the sweep had been wider from the start."""
    own = {"poisons": ("one-pixel-shortcut",), "optimizers": ("adam",), "checkpoints": (), "seeds": 1}
    short = study("optimizers", config(tmp_path / "a", **own, rates=(1e-6, 1e-5, 3e-5)))
    assert {row["lr"] for row in short.rows if row["kind"] == "chosen" and row["edge"]} == {3e-5}
    assert "at the end of their sweep" in short.markdown()
    assert main(["resume", str(short.run_dir), "--extend", "2"]) == 0
    longer = resume_study(short.run_dir)
    rates = [row["lr"] for row in longer.rows if row["kind"] == "sweep"]
    assert rates == [1e-6, 1e-5, 3e-5, 3e-4, 9e-4], "the ratio of 1e-6 and 1e-5, then that of 1e-5 and 3e-5"
    wide = study("optimizers", config(tmp_path / "b", **own, rates=tuple(rates)))
    assert longer.rows == wide.rows
    straight = study("optimizers", config(tmp_path / "c", **own, rates=(1e-6, 1e-5, 3e-5), extend=2))
    assert straight.rows == longer.rows
    assert sorted(r["key"] for r in trained(straight.run_dir)) == sorted(
        r["key"] for r in trained(longer.run_dir) if r["lr"] != 3e-5 or r["victim"] == 0
    ), "and nothing but the networks at the rate that was best before"
    assert resume_study(short.run_dir, extend=0).rows == short.rows, "what was published can be had again"


def test_an_optimizer_that_only_diverges_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = study(
        "optimizers",
        config(tmp_path, poisons=("clean",), optimizers=("adam", "sgd"), rates=(1e-3, 1e18), checkpoints=()),
    )
    (sgd, adam) = (
        next(r for r in found.rows if r["kind"] == "chosen" and r["optimizer"] == name) for name in ("sgd", "adam")
    )
    assert sgd["lr"] == adam["lr"] == 1e-3
    assert sgd["n"] == 2
    (diverged,) = (r for r in found.rows if r["kind"] == "sweep" and r["optimizer"] == "sgd" and r["lr"] == 1e18)
    assert (diverged["n"], diverged["failed"]) == (0, 1)
    assert any("trainings failed" in sentence and "diverged" in sentence for sentence in found.sentences)
    assert "checkpoint" not in found.markdown()


def test_more_seeds_and_optimizers_are_the_same_as_all_at_once(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    before = (folder / "trainings.jsonl").read_bytes()
    assert resume_study(folder).rows == finished.rows
    assert (folder / "trainings.jsonl").read_bytes() == before
    names = ("sgd", "adam", "sam", "adabound")
    more = resume_study(folder, seeds=3, optimizers=names)
    straight = study("optimizers", config(tmp_path / "straight", seeds=3, optimizers=names))
    assert more.rows == straight.rows
    assert sorted(r["key"] for r in trained(folder)) == sorted(r["key"] for r in trained(straight.run_dir))
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("sweep_seeds = 1", "sweep_seeds = 2"))
    with pytest.raises(InputError, match="belongs to another configuration"):
        resume_study(folder)


def test_untuned_is_a_third_way_with_default_rates(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    before = len(trained(folder))
    found = resume_study(folder, untuned=True)
    assert not {row["selection"] for row in finished.rows if row["kind"] == "chosen"} & {"default"}
    ours = [row for row in found.rows if row["kind"] == "chosen"]
    untuned = {(row["row"], row["optimizer"]): row for row in ours if row["selection"] == "default"}
    assert {row["optimizer"]: row["lr"] for row in untuned.values()} == {"sgd": 0.05, "adam": 0.001, "sam": 0.01}
    assert len(trained(folder)) > before
    for place, row in untuned.items():
        assert (row["n"], row["edge"]) == (2, False)
        same = [r for r in ours if (r["row"], r["optimizer"], r["lr"]) == (*place, row["lr"]) and r is not row]
        assert all(r["accuracies"] == row["accuracies"] for r in same), "its networks are trained once"
    tested = [p for row in untuned.values() if (p := row.get("vs_reference_p_holm")) is not None]
    raw = [p for row in untuned.values() if (p := row.get("vs_reference_p")) is not None]
    assert len(raw) > 1
    assert sorted(holm({str(i): p for i, p in enumerate(raw)}).values()) == pytest.approx(sorted(tested))
    kept = [row for row in ours if row["selection"] != "default"]
    assert kept == [row for row in finished.rows if row["kind"] == "chosen"], "nothing else is another"
    assert "Clean test accuracy, learning rate left at the default" in found.tables
    assert any("left at the default: highest" in line for line in found.sentences)
    assert any("rates left at the default" in line for line in found.answer)
    rates = found.tables["Learning rates, poisoned / clean choice"]
    assert rates == finished.tables["Learning rates, poisoned / clean choice"]
    height = [image_height(run / "figures" / "optimizers-graynet.png") for run in (finished.run_dir, folder)]
    assert height[1] > 1.3 * height[0], "a third panel"


def image_height(path: Path) -> int:
    with PIL.Image.open(path) as image:
        return image.height


def test_tables_name_every_optimizer_and_mark_what_lies_at_an_end(finished: Findings) -> None:
    text = finished.markdown()
    for title in ("chosen on poisoned held-out images", "by an oracle", "Against adam", "after 1 epoch"):
        assert title in text
    assert "at the end of their sweep" in text
    (rates,) = (rows for title, rows in finished.tables.items() if title.startswith("Learning rates"))
    assert [*rates[0]] == ["poison", "sgd", "adam", "sam"]
    assert all(rate.endswith("*") for row in rates for rate in (row["sgd"], row["adam"]))
    figures = {path.name for path in (finished.run_dir / "figures").glob("*.png")}
    assert figures == {"optimizers-graynet.png", "rates-graynet.png", "epochs-graynet.png"}
    page = write_report(finished.run_dir, format="md").read_text()
    assert "*Figure: " in page
    assert page.index("Bars: clean test accuracy") < page.index("over the epochs, under each poison"), (
        "the answer's first"
    )
    ways = ("chosen on poisoned held-out images", "chosen by an oracle on clean held-out images")
    for way, words in zip(("poisoned", "clean"), ways, strict=True):
        for title, field, times in (
            ("Pixel-follow", "pixel_follow_rate", 100),
            ("Training loss", "poisoned_train_loss", 1),
        ):
            (table,) = (rows for name, rows in finished.tables.items() if name.startswith(title) and words in name)
            own = [r for r in finished.rows if (r["kind"], r.get("selection")) == ("chosen", way)]
            written = {(row["poison"], name): row[name] for row in table for name in ("sgd", "adam", "sam")}
            for row in own:
                text = written[row["row"], row["optimizer"]]
                assert (
                    text == ""
                    if row[field] is None
                    else abs(float(text) - times * row[field]) <= 0.501 * times / 10 ** (0 if times > 1 else 3)
                )


def test_sweeps_are_multiples_of_each_default_or_the_same_rates_for_all(tmp_path: Path) -> None:
    usual = config(tmp_path, factors=(10.0, 0.3, 1.0))
    assert sweep_of(usual, "rmsprop") == [3e-4, 1e-3, 1e-2]
    assert sweep_of(config(tmp_path, rates=(0.2, 0.1)), "rmsprop") == [0.1, 0.2]
    data = mddes.load_dataset("digits", train_size=200)
    assert recipe_at(config(tmp_path, rho=0.2), data, "sam", 0.1).rho == 0.2
    assert recipe_at(config(tmp_path, rho=0.2), data, "adam", 0.1).rho is None
    count, cost = STUDIES["optimizers"].count(usual, data)
    assert count == 2 * 3 * (1 * 3 + 2 * 2)
    assert cost == 2 * (1 + 1 + 2) * 7, "sam takes two passes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizers": ("sgd", "adm")}, r"unknown optimizer 'adm' \(did you mean 'adam'"),
        ({"optimizers": ("sgd",), "reference": "adm"}, r"unknown reference 'adm' \(did you mean 'adam'"),
        ({"optimizers": ("sgd", "sam")}, "reference 'adam' is none of the optimizers: sgd, sam"),
        ({"optimizers": ("adam", "adam")}, "optimizers name one twice"),
        ({"optimizers": ("adam", "sgd"), "rho": 0.1}, "rho 0.1 is for the sam family, and none of adam, sgd is of it"),
        ({"optimizers": ()}, "optimizers: name at least one"),
        ({"optimizers": ("adam", "own_code:sgd")}, "own_code:sgd has no default learning rate"),
        ({"factors": (0.0,)}, "factors must be above 0, not 0"),
        ({"factors": ()}, "factors: name at least one"),
        ({"rates": (-0.1,)}, "rates must be above 0"),
        ({"rates": (float("nan"),)}, "rates must be finite"),
        ({"rho": -1.0}, "rho must be at least 0"),
        ({"sweep_seeds": 0}, "sweep_seeds must be at least 1"),
        ({"extend": -1}, "extend must be at least 0"),
        ({"checkpoints": (3,)}, "a checkpoint lies after the last epoch: 3 > 2"),
        ({"checkpoints": (0,)}, "checkpoints must be at least 1"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        config(tmp_path, **changes)


def test_an_optimizer_of_one_s_own_is_pinned(tmp_path: Path) -> None:
    own = config(
        tmp_path, poisons=("clean",), optimizers=("own_code:sgd", "sgd"), reference="sgd", rates=(0.1,), epochs=1
    )
    found = study("optimizers", dataclasses.replace(own, checkpoints=(), seeds=1))
    ours, theirs = (row for row in found.rows if row["kind"] == "chosen" and row["selection"] == "clean")
    assert ours["optimizer"].startswith("own_code:sgd#")
    assert ours["accuracies"] == theirs["accuracies"]
    again = resume_study(found.run_dir, optimizers=("own_code:sgd", "sgd"))
    assert again.rows == found.rows, "the names need no digest of the user"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--optimizers", "adam", "--poisons", "clean", "--factors", "1", "--seeds", "1", "--epochs", "1"]
    few = ["--train-size", "200", "--test-size", "50", "--workers", "0", "--out", str(tmp_path)]
    assert main(["study", "optimizers", "--preset", "smoke", *small, *few]) == 0
    assert "adam" in capsys.readouterr().out
    assert main(["study", "optimizers", *small, *few, "--plan", "--factors", "1", "3"]) == 0
    said = capsys.readouterr().out
    assert "up to 12 more of each network, where the best rate is at the end of its sweep" in said
    assert re.search(r"time +about .+, to .+ with all that the sweeps may add, on 1 worker", said)
    assert main(["study", "optimizers", *small, *few, "--plan"]) == 0
    assert "4 trainings" in capsys.readouterr().out
    assert main(["study", "optimizers", "--optimizers", "adm"]) == 2
    assert "did you mean 'adam'" in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    settings = OptimizersConfig(**PRESETS[name])
    assert {key: getattr(settings, key) for key in PRESETS[name]} == PRESETS[name]


def test_a_later_stage_that_fails_loses_no_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sweep succeeds and every fresh network fails: its table, figures and reasons are there; a resume mends it."""
    fresh, whole = {derive(0, "victims", s) for s in (1, 2)}, victim.train_and_test

    def failing(spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if spec["seed"] in fresh:
            raise ValueError("no luck")
        return whole(spec, *rest)

    monkeypatch.setattr(victim, "train_and_test", failing)
    few = {"poisons": ("clean",), "optimizers": ("sgd", "adam"), "checkpoints": ()}
    found = study("optimizers", config(tmp_path / "runs", **few))
    assert {row["n"] for row in found.rows if row["kind"] == "sweep"} == {1}
    assert {row["n"] for row in found.rows if row["kind"] == "chosen"} == {0}
    assert any("no luck" in sentence for sentence in found.sentences)
    assert "failed" in found.markdown()
    assert len([*(found.run_dir / "figures").glob("*.png")]) == 2
    assert not caplog.records
    monkeypatch.undo()
    assert resume_study(found.run_dir).rows == study("optimizers", config(tmp_path / "straight", **few)).rows


def test_networks_that_learned_nothing_are_counted_and_stay_in_the_mean(
    finished: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that names the largest class for all 160 images that it was trained on, and one that does a little better."""
    whole, largest = victim.train_and_test, split(mddes.load_dataset("digits", train_size=200).train).train
    constant = float(largest.class_counts().max() / len(largest))
    nothing = {derive(0, "victims", 1): constant, derive(0, "victims", 2): constant + 0.01}

    def poor(spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        result = whole(spec, *rest)
        return {**result, "poisoned_train_accuracy": nothing.get(spec["seed"], result["poisoned_train_accuracy"])}

    monkeypatch.setattr(victim, "train_and_test", poor)
    found = study("optimizers", config(tmp_path))
    chosen = [row for row in found.rows if row["kind"] == "chosen"]
    assert {(row["learned_nothing"], row["n"]) for row in chosen} == {(1, 2)}
    assert {row["learned_nothing"] for row in finished.rows if row["kind"] == "chosen"} == {0}
    by_accuracy = [row["accuracies"] for row in finished.rows if row["kind"] == "chosen"]
    assert [row["accuracies"] for row in chosen] == by_accuracy
    assert ", 1 learned nothing" in found.markdown()
    (told,) = (sentence for sentence in found.sentences if "learned nothing (they" in sentence)
    adam = next(row for row in chosen if row["optimizer"] == "adam")
    assert told.count(f"graynet, adam at {adam['lr']:g} under {adam['row']} (1)") == 1
    assert "learned nothing" not in finished.markdown()


def test_the_answer_names_best_and_worst_under_each_poison(finished: Findings) -> None:
    for way, said in zip(("poisoned", "clean"), finished.answer, strict=True):
        own = [row for row in finished.rows if (row["kind"], row.get("selection")) == ("chosen", way)]
        ranked = sorted((r for r in own if r["poison"] != "clean"), key=lambda r: float(r["clean_test_accuracy_mean"]))
        best, worst = (
            f"{r['optimizer']} ({100 * r['clean_test_accuracy_mean']:.1f} ± " for r in (ranked[-1], ranked[0])
        )
        assert f"under one-pixel-shortcut, N_p = 3: {best}" in said
        assert f") and {worst}" in said
        assert "clean:" not in said
        rows = [row for row in own if row["poison"] != "clean" and "vs_reference_p_holm" in row]
        names = [
            f"{r['optimizer']} ({100 * r['vs_reference_difference']:+.1f})"
            for r in rows
            if r["vs_reference_p_holm"] < 0.05
        ]
        assert f", told apart from adam: {', '.join(names) or 'none'}" in said


def test_a_figure_that_cannot_be_drawn_takes_no_other_with_it(
    finished: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    save = figures.save

    def failing(figure: Figure, path: Path) -> None:
        if path.name in broken:
            raise ValueError("no such font")
        save(figure, path)

    monkeypatch.setattr(figures, "save", failing)
    names = {"optimizers-graynet.png", "rates-graynet.png", "epochs-graynet.png"}
    for broken in ({"optimizers-graynet.png"}, names):
        shutil.rmtree(folder / "figures")
        caplog.clear()
        resume_study(folder)
        assert {path.name for path in (folder / "figures").glob("*.png")} == names - broken
        assert len([record for record in caplog.records if "no such font" in record.message]) == len(broken)
        page = write_report(folder, format="md").read_text()
        assert ("The figures are missing" in page) == (broken == names)


def test_what_was_not_tested_is_not_called_significant(tmp_path: Path) -> None:
    found = study("optimizers", config(tmp_path, seeds=1, checkpoints=(), optimizers=("sgd", "adam")))
    assert all("Holm" not in sentence for sentence in found.sentences)
    assert all("not tested against adam: sgd" in sentence for sentence in found.sentences[:4])
    assert "one-pixel-shortcut" in found.sentences[0], "what a poison does comes first"


def test_a_checkpoint_after_the_default_epochs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a checkpoint lies after the last epoch: 500 > "):
        study("optimizers", config(tmp_path, epochs=None, checkpoints=(500,)))
    assert not [*tmp_path.iterdir()]


def test_an_own_optimizer_can_be_the_reference(tmp_path: Path) -> None:
    names = ("own_code:sgd", "sgd")
    own = config(tmp_path, poisons=("clean",), optimizers=names, reference=names[0], rates=(0.1,), epochs=1, seeds=2)
    found = study("optimizers", dataclasses.replace(own, checkpoints=()))
    (theirs, *_) = (row for row in found.rows if row["kind"] == "chosen" and row["optimizer"] == "sgd")
    assert theirs["vs_reference_difference"] == 0
