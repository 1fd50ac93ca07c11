"""The transfer study: its rows, what it compares, how it is continued, and what it refuses."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import lines

import mddes
from mddes import InputError, uniform
from mddes.cli import main
from mddes.seeding import derive
from mddes.studies.crossed import Grid, compare_grids
from mddes.studies.findings import Findings
from mddes.studies.statistics import compare_pairs, summarise
from mddes.studies.transfer import PRESETS, TransferConfig
from mddes.study import read_study, resume_study, study
from mddes.training import victim

TINY: dict[str, Any] = {
    "train_size": 150,
    "test_size": 60,
    "poisons": ("clean", "uniform", "left-column", "one-pixel-shortcut", "mdd-es", "random-search"),
    "pixels": (2,),
    "models": ("graynet",),
    "seeds": 2,
    "epochs": 1,
    "batch_size": 50,
    "generations": 2,
    "popsize": 4,
    "search_epochs": 1,
    "workers": 0,
    "device": "cpu",
}


def config(out: Path, **changes: Any) -> TransferConfig:
    return TransferConfig(**{**TINY, "out": str(out), **changes})


def arguments(out: Path, **changes: Any) -> list[str]:
    settings = {**TINY, "out": str(out), **changes}
    words = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, tuple) else (v,))] for k, v in settings.items()]
    return ["study", "transfer", *(part for option in words for part in option)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("transfer", config(tmp_path_factory.mktemp("runs")))


def records(folder: Path) -> dict[str, dict[str, Any]]:
    loose = {"began", "seconds", "worker"}
    return {
        line["key"]: {k: v for k, v in line.items() if k not in loose}
        for line in lines(folder / "trainings.jsonl")
        if "key" in line
    }


def test_every_row_is_there_with_its_numbers(finished: Findings) -> None:
    assert [row["poison"] for row in finished.rows] == list(TINY["poisons"])
    for row in finished.rows:
        own = [r for r in records(finished.run_dir).values() if r["poison"] == row["poison"]]
        accuracies = [r["clean_test_accuracy"] for r in sorted(own, key=lambda r: r["victim"])]
        assert row["accuracies"] == accuracies
        summary = summarise(accuracies)
        assert (row["n"], row["clean_test_accuracy_mean"]) == (2, summary.mean)
        assert row["clean_test_accuracy_std"] == summary.std
        assert row["pixel_follow_rate"] == (
            None if row["poison"] == "clean" else pytest.approx(np.mean([r["pixel_follow_rate"] for r in own]))
        )
        per_class = np.mean([r["clean_test_accuracy_per_class"] for r in own], axis=0)
        assert [row[f"class_{k}"] for k in range(10)] == pytest.approx(per_class.tolist())
        assert row["chance"] == 0.1
        assert (row["search_trainings"] > 0) == (row["poison"] in ("mdd-es", "random-search"))
    test = mddes.load_dataset("digits").test.subset(range(60))
    assert finished.rows[0]["majority"] == test.class_counts().max() / 60


def test_networks_are_paired_across_rows_and_uniform_is_drawn_for_each(finished: Findings) -> None:
    by_seed: dict[int, set[str]] = {}
    for record in records(finished.run_dir).values():
        by_seed.setdefault(record["seed"], set()).add(record["poison"])
    assert [derive(0, "victims", s) for s in range(2)] == sorted(by_seed, key=lambda s: s == derive(0, "victims", 1))
    assert all(poisons == {*TINY["poisons"]} for poisons in by_seed.values())


def test_comparisons_are_paired_and_corrected_together(finished: Findings) -> None:
    rows = {row["poison"]: row for row in finished.rows}
    p_values = []
    for poison, row in rows.items():
        for rival, rows_tested in (
            ("uniform", ("left-column", "one-pixel-shortcut", "random-search", "mdd-es")),
            ("one-pixel-shortcut", ("left-column", "random-search", "mdd-es")),
            ("random-search", ("mdd-es",)),
        ):
            there = row[f"vs_{rival}_difference"] is not None
            assert there == (poison in rows_tested)
            if there:
                c = compare_pairs(row["accuracies"], rows[rival]["accuracies"])
                assert row[f"vs_{rival}_difference"] == c.difference
                assert row[f"vs_{rival}_p"] == c.p
                p_values += [(c.p, row[f"vs_{rival}_p_holm"])] if c.p is not None else []
    assert min(corrected for _, corrected in p_values) == pytest.approx(
        min(1.0, len(p_values) * min(p for p, _ in p_values))
    )


def test_found_poisons_are_saved_with_their_origin(finished: Findings) -> None:
    train = mddes.load_dataset("digits", train_size=150).train
    for name in ("mdd-es", "random-search"):
        folder = finished.run_dir / "searches" / f"{name}-np2-s0"
        p = mddes.Perturbation.load(folder / "perturbation.json")
        assert p.provenance["method"] == name
        assert p.provenance["data"] == mddes.data.split(train).digest()
        trained_on = [r["perturbation"] for r in records(finished.run_dir).values() if r["poison"] == name]
        assert trained_on == [p.change(), p.change()]
        (row,) = (row for row in finished.rows if row["poison"] == name)
        assert row["search_trainings"] == sum("key" in line for line in lines(folder / "evaluations.jsonl"))


def test_files_hold_the_same(finished: Findings) -> None:
    results = json.loads((finished.run_dir / "results.json").read_text())
    assert results["protocol_hash"] == finished.protocol_hash
    assert results["rows"] == json.loads(json.dumps(list(finished.rows)))
    rows = list(csv.DictReader((finished.run_dir / "rows.csv").read_text().splitlines()))
    assert [row["poison"] for row in rows] == list(TINY["poisons"])
    assert float(rows[1]["clean_test_accuracy_mean"]) == finished.rows[1]["clean_test_accuracy_mean"]
    wide = list(csv.DictReader((finished.run_dir / "table.csv").read_text().splitlines()))
    assert wide == finished.tables["Clean test accuracy"]
    assert [(row["poison"], row["mode"], row["n"]) for row in wide][:2] == [
        ("clean", "", "2"),
        (TINY["poisons"][1], "set", "2"),
    ]
    text = (finished.run_dir / "table.md").read_text()
    assert text == finished.markdown()
    assert all(name in text for name in TINY["poisons"])
    assert (finished.run_dir / "figures" / "transfer.png").stat().st_size > 10_000


def test_resuming_trains_nothing_and_more_seeds_train_only_theirs(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    before = (folder / "trainings.jsonl").read_bytes()
    again = resume_study(folder)
    assert (folder / "trainings.jsonl").read_bytes() == before
    assert again.rows == finished.rows
    more = resume_study(folder, seeds=3, models=("graynet", "graynet-bn"))
    assert {**records(folder), **records(finished.run_dir)} == records(folder), "what was trained stands"
    assert len(records(folder)) == 6 * 3 * 2
    assert more.protocol_hash == finished.protocol_hash, "the same protocol, and more of it"
    straight = study("transfer", config(tmp_path / "straight", seeds=3, models=("graynet", "graynet-bn")))
    assert [dict(row) for row in straight.rows] == [dict(row) for row in more.rows]
    assert records(straight.run_dir) == records(folder)


def test_a_study_killed_within_a_search_or_a_victim_goes_on(finished: Findings, tmp_path: Path) -> None:
    """What a kill leaves: a prefix of each ledger."""
    for search_lines, victim_lines in ((5, 0), (None, 5)):
        folder = Path(shutil.copytree(finished.run_dir, tmp_path / f"cut{search_lines}"))
        for path in (folder / "searches").glob("*/evaluations.jsonl"):
            kept = path.read_bytes().splitlines(keepends=True)[:search_lines]
            path.write_bytes(b"".join(kept))
        path = folder / "trainings.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: victim_lines or 1]))
        assert resume_study(folder).rows == finished.rows
        assert records(folder) == records(finished.run_dir)


def test_other_settings_are_refused(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    text = (folder / "study.toml").read_text()
    before = (folder / "trainings.jsonl").read_bytes()
    (folder / "study.toml").write_text(text.replace('optimizer = "adam"', 'optimizer = "sgd"'))
    with pytest.raises(InputError, match=r"belongs to another configuration .optimizer"):
        resume_study(folder)
    (folder / "study.toml").write_text(text.replace("test_size = 60", "test_size = 50"))
    with pytest.raises(InputError, match=r"belongs to another configuration .data"):
        resume_study(folder)
    assert (folder / "trainings.jsonl").read_bytes() == before


def test_rows_from_files_and_other_peoples_images(tmp_path: Path) -> None:
    train = mddes.load_dataset("digits", train_size=150).train
    poison = uniform(train, pixels=3, seed=9)
    poison.save(tmp_path / "mine.json")
    np.savez(tmp_path / "theirs.npz", images=poison.apply(train).images, labels=train.labels)
    poisons = (str(tmp_path / "mine.json"), str(tmp_path / "theirs.npz"), "digits-np5")
    found = study("transfer", config(tmp_path / "runs", poisons=poisons))
    mine, theirs, ready = found.rows
    assert (mine["poison"], mine["pixels"], mine["mode"]) == ("mine", 3, "set")
    assert (theirs["poison"], theirs["pixels"], theirs["mode"]) == ("theirs.npz", None, "images")
    assert mine["accuracies"] == theirs["accuracies"], "the same images"
    assert theirs["pixel_follow_rate"] is None
    assert (ready["poison"], ready["pixels"]) == ("digits-np5", 5)
    (told,) = (sentence for sentence in found.sentences if sentence.startswith("Not tested: "))
    assert told.startswith(
        "Not tested: mine (N_p = 3), theirs.npz, digits-np5 (N_p = 5); poisons are compared with uniform"
    )


def test_a_file_that_is_gone_is_named_anew_or_left_out(tmp_path: Path) -> None:
    train = mddes.load_dataset("digits", train_size=150).train
    uniform(train, pixels=3, seed=9).save(tmp_path / "mine.json")
    found = study("transfer", config(tmp_path / "runs", poisons=("clean", str(tmp_path / "mine.json"))))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "mine.json").rename(tmp_path / "elsewhere" / "mine.json")
    ledger = (found.run_dir / "trainings.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"study.toml: no file .*/mine.json, named as a poison"):
        resume_study(found.run_dir)
    assert resume_study(found.run_dir, poisons=("clean", str(moved))).rows == found.rows
    assert resume_study(found.run_dir, poisons=("clean",)).rows == found.rows[:1]
    assert (found.run_dir / "trainings.jsonl").read_bytes() == ledger, "nothing was trained again"


def test_a_study_passed_on_without_its_searches_ledgers_searches_no_more(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    for path in (folder / "searches").glob("*/evaluations.jsonl"):
        path.unlink()
    more = resume_study(folder, seeds=3)
    assert not [*(folder / "searches").glob("*/evaluations.jsonl")]
    assert more.rows == resume_study(shutil.copytree(finished.run_dir, tmp_path / "whole"), seeds=3).rows
    for path in (folder / "searches").glob("mdd-es*/perturbation.json"):
        path.write_text(path.read_text().replace('"evaluations": 8', '"evaluations": 7'))
    resume_study(folder, seeds=3)
    assert [path.parent.name for path in (folder / "searches").glob("*/evaluations.jsonl")] == ["mdd-es-np2-s0"]


def test_exports_of_one_name_are_rows_by_their_folders(tmp_path: Path) -> None:
    data = mddes.load_dataset("digits", train_size=150)
    files = []
    for seed in range(2):
        mddes.export(uniform(data.train, pixels=3, seed=seed), data, tmp_path / f"draw-{seed}", "npz")
        files.append(str(tmp_path / f"draw-{seed}" / "poisoned.npz"))
    found = study("transfer", config(tmp_path / "runs", poisons=tuple(files), seeds=1))
    assert [row["poison"] for row in found.rows] == ["draw-0", "draw-1"]


def test_networks_that_learned_nothing_are_told(tmp_path: Path) -> None:
    found = study("transfer", config(tmp_path / "runs", poisons=("clean",), lr=1e-9, optimizer="sgd"))
    stuck = sum(
        record["poisoned_train_accuracy"] <= 15 / 150 for record in records(found.run_dir).values()
    )  # 15 images of each class
    told = [sentence for sentence in found.sentences if "learned nothing" in sentence]
    assert [sentence.endswith(f"stay in the means: graynet, clean ({stuck}).") for sentence in told] == [True] * (
        stuck > 0
    )
    assert stuck


def test_several_searches_share_the_victims(tmp_path: Path) -> None:
    """Every network is trained on what every search found, and comparisons count both; uniform draws are as ever."""
    names = ("clean", "uniform", "one-pixel-shortcut", "mdd-es")
    found = study("transfer", config(tmp_path / "runs", poisons=names, searches=2, seeds=3))
    folder = found.run_dir
    poisons = [
        mddes.Perturbation.load(folder / "searches" / f"mdd-es-np2-s{j}" / "perturbation.json") for j in range(2)
    ]
    assert poisons[0] != poisons[1]
    networks = [derive(0, "victims", s) for s in range(3)]
    _, drawn, _, searched = found.rows
    assert [(row["n"], row["searches"]) for row in found.rows] == [(3, None), (3, None), (3, None), (6, 2)]
    own = {(r["draw"], r["victim"]): r for r in records(folder).values() if r["poison"] == "mdd-es"}
    assert sorted(own) == [(j, s) for j in range(2) for s in range(3)]
    for (j, s), record in own.items():
        assert record["perturbation"] == poisons[j].change()
        assert record["seed"] == networks[s]
    assert searched["accuracies"] == [own[place]["clean_test_accuracy"] for place in sorted(own)]
    expected = compare_grids(
        Grid(dict(zip(sorted(own), searched["accuracies"], strict=True)), 2),
        Grid({(0, s): accuracy for s, accuracy in enumerate(drawn["accuracies"])}),
    )
    assert expected
    assert (searched["vs_uniform_difference"], searched["vs_uniform_p"]) == (expected.difference, expected.p)
    assert [row["searches x networks"] for row in found.tables["Searches"]] == ["2 x 3"]
    pairs = {(row["poison"], row["minus"]): row["pairs"] for row in found.tables["Comparisons"]}
    assert pairs["mdd-es", "uniform"] == pairs["mdd-es", "one-pixel-shortcut"] == "2 x 3"
    (told,) = (s for s in found.sentences if "lowest under" in s)
    assert "n = 2 x 3 searches x networks" in told or "n = 3 networks" in told
    one = study("transfer", config(tmp_path / "one", poisons=names, seeds=3))
    assert {row["searches"] for row in one.rows} == {None}
    for row in records(one.run_dir).values():
        assert "draw" not in row
    more = resume_study(one.run_dir, searches=2)
    assert [dict(row) for row in more.rows] == [dict(row) for row in found.rows], "what one search found is used again"


def test_trainings_that_failed_leave_a_table_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All networks of one search, and one network of another row; a resume that trains them mends it."""
    names = ("clean", "uniform", "random-search", "mdd-es")
    more: dict[str, Any] = {"poisons": names, "searches": 2, "seeds": 2}
    whole, lost = victim.train_and_test, derive(0, "victims", 0)

    def failing(spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if spec["perturbation"] and spec["seed"] == lost:
            raise ValueError("no luck")
        return whole(spec, *rest)

    monkeypatch.setattr(victim, "train_and_test", failing)
    found = study("transfer", config(tmp_path / "runs", **more))
    rows = {row["poison"]: row for row in found.rows}
    assert [(rows[name]["n"], rows[name]["failed"]) for name in names] == [(2, 0), (1, 1), (2, 2), (2, 2)]
    table = {row["poison"]: row["graynet"] for row in found.tables["Clean test accuracy"]}
    assert table["mdd-es"].endswith("(n = 2 x 1)")
    assert rows["mdd-es"]["vs_random-search_difference"] is not None
    assert rows["mdd-es"]["vs_random-search_p"] is None
    assert "no luck" in found.markdown()
    monkeypatch.undo()
    assert resume_study(found.run_dir).rows == study("transfer", config(tmp_path / "b", **more)).rows


@pytest.mark.slow
@pytest.mark.ray
def test_ray_workers_find_the_same(finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, workers=2)) == 0
    (folder,) = tmp_path.iterdir()
    assert records(folder) == records(finished.run_dir)
    assert "Clean test accuracy" in capsys.readouterr().out


def test_from_the_command_line(finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path)) == 0
    out = capsys.readouterr().out
    assert finished.sentences[0] in out
    (folder,) = tmp_path.iterdir()
    assert f"mddes resume {folder} --seeds N" in out
    assert main(["resume", str(folder), "--seeds", "3"]) == 0
    assert main(["status", str(folder)]) == 0
    status = capsys.readouterr().out
    assert "victims       18 of 18" in status
    assert "finished" in status
    assert read_study(folder)[1].seeds == 3
    assert main(["status", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["landed"] == 18


def test_a_plan_trains_a_few_steps_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path, models=("graynet", "graynet-bn"), pixels=(1, 2)), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "graynet       22 trainings of about" in out
    assert "graynet-bn    22 trainings of about" in out
    assert "searches      4, with 128 trainings of about" in out, "2 x 4 candidates and 6 x 4 of finalists, each"
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poisons": ("clean", "nope")}, "unknown poison 'nope'"),
        ({"poisons": ("clean", "clean")}, "poisons name one twice"),
        ({"poisons": ("nowhere.json",)}, "no file nowhere.json, named as a poison"),
        ({"poisons": ("mnist-np1",)}, "does not fit 10 classes of"),
        ({"models": ("graynet", "graynt")}, "unknown model 'graynt' (did you mean 'graynet'?)"),
        ({"models": ("graynet", "graynet")}, "models name one twice"),
        ({"pixels": (65,)}, "pixels must lie in 1..64"),
        ({"pixels": (0,)}, "pixels must be at least 1, not 0"),
        ({"pixels": (5,)}, "pixels of left-column must be at most 4: 10 classes take 2 columns each"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'"),
        ({"augmentation": ("flop",)}, "unknown augmentation 'flop'"),
        ({"dataset": "nowhere"}, "nowhere"),
        ({"lr": -1.0}, "lr must be positive and finite"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert main(arguments(tmp_path / "runs", **changes)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["study"], "name a study: transfer"),
        (["study", "transfr"], "unknown study 'transfr' (did you mean 'transfer'?)"),
        (["study", "transfer", "--preset", "papr"], "unknown preset 'papr'"),
        (["study", "transfer", "--config", "none.toml"], "cannot read the configuration none.toml"),
        (["study", "transfer", "--nope", "1"], "--nope"),
        (["resume", ".", "--seeds", "3"], "is no run folder"),
    ],
)
def test_mistakes_of_the_command(capsys: pytest.CaptureFixture[str], given: list[str], message: str) -> None:
    assert main(given) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--seeds", "3"], ["--poisons", "clean"], ["--extend", "0"]])
def test_study_options_mean_nothing_for_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    (tmp_path / "config.toml").write_text('dataset = "digits"\n')
    assert main(["resume", str(tmp_path), *given]) == 2
    assert f"{given[0]} means nothing for a search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--pixels", "1000"], "pixels"),
        (["--pixels", "3", "3"], "pixels"),
        (["--poisons"], "poisons: name at least one"),
        (["--poisons", "clean", "mnist-np1"], "does not fit"),
        (["--poisons", "clean", "nope"], "unknown poison 'nope'"),
        (["--models", "graynet", "colrnet"], "did you mean 'colornet'"),
        (["--seeds", "1"], "a study cannot be made smaller"),
        (["--optimizers", "sgd"], "--optimizers means nothing for the study transfer"),
        (["--extend", "2"], "--extend means nothing for the study transfer"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".driver.lease"}
    assert main(["resume", str(folder), *given]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    for path, text in before.items():
        assert path.read_bytes() == text, path.name


def test_the_command_says_which_rows_a_study_has(
    finished: Findings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    before = (folder / "trainings.jsonl").read_bytes()
    few = ["--poisons", "uniform", "clean", "--pixels", "2"]
    (folder / "figures" / "of-rows-no-longer-there.png").write_bytes(b"")
    assert main(["resume", str(folder), *few]) == 0
    assert "uniform" in capsys.readouterr().out
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert {row["poison"] for row in rows} == {"uniform", "clean"}
    assert {path.name for path in (folder / "figures").iterdir()} == {"transfer.png", "transfer.svg"}
    assert (folder / "trainings.jsonl").read_bytes() == before, "nothing was trained for it"
    assert main(["resume", str(folder), "--seeds", "0"]) == 2
    assert "a study cannot be made smaller" in capsys.readouterr().err


def test_search_options_mean_nothing_for_a_study(finished: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(finished.run_dir), "--evaluations", "5"]) == 2
    assert "--evaluations means nothing for a study" in capsys.readouterr().err


def test_a_file_gives_defaults_and_options_override_it(tmp_path: Path) -> None:
    from mddes.commands.study import COMMANDS, parse_study

    (tmp_path / "c.toml").write_text('models = ["graynet-bn"]\nseeds = 7\nepochs = 2\n')
    given, _ = parse_study(
        "transfer", COMMANDS["transfer"], ["--config", str(tmp_path / "c.toml"), "--seeds", "4", "--pixels", "1", "3"]
    )
    assert (given.models, given.seeds, given.epochs, given.pixels) == (("graynet-bn",), 4, 2, (1, 3))
    paper, _ = parse_study("transfer", COMMANDS["transfer"], ["--preset", "paper", "--dataset", "digits"])
    assert paper == dataclasses.replace(TransferConfig(**PRESETS["paper"]), dataset="digits")
