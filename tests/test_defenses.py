"""The study of defences: what each does to a victim, partial poisoning, and what it compares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_transfer import TINY, records

import mddes
from mddes import Dataset, InputError, Recipe
from mddes.cli import main
from mddes.data import shared_arrays
from mddes.data.squeeze import squeeze
from mddes.poison.partial import apply_partly
from mddes.seeding import derive
from mddes.studies.defenses import DEFENSES, DefensesConfig, defended, suitable
from mddes.studies.findings import Findings
from mddes.studies.statistics import compare_pairs
from mddes.study import study
from mddes.training import accuracy, train
from mddes.training.victim import train_and_test

SMALL: dict[str, Any] = {
    **TINY,
    "poisons": ("clean", "one-pixel-shortcut"),
    "defenses": ("cutout", "median", "adversarial"),
    "shares": (0.0, 0.5, 1.0),
}


def config(out: Path, **changes: Any) -> DefensesConfig:
    return DefensesConfig(**{**SMALL, "out": str(out), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("defenses", config(tmp_path_factory.mktemp("runs")))


def test_every_poison_meets_every_defence_and_shares_meet_none(finished: Findings) -> None:
    there = {(row["poison"], row["defense"], row["share"]) for row in finished.rows}
    names = ("none", "cutout", "median", "adversarial")
    assert there == {(p, d, 1.0) for p in ("clean", "one-pixel-shortcut") for d in names} | {
        ("one-pixel-shortcut", "none", 0.5)
    }
    assert all(row["n"] == 2 for row in finished.rows)


def test_cells_equal_victims_trained_by_hand(finished: Findings) -> None:
    """A squeeze, a share and an augmentation, rebuilt from the parts."""
    data = mddes.load_dataset("digits", train_size=150)
    data = Dataset("digits", data.train, data.test.subset(range(60)))
    poison = mddes.one_pixel_shortcut(data.train, pixels=2)
    seed = derive(0, "victims", 1)
    plain = Recipe(epochs=1, batch_size=50)
    rows = {(row["poison"], row["defense"], row["share"]): row["accuracies"][1] for row in finished.rows}

    def judged(images: mddes.ImageSet, recipe: Recipe = plain) -> float:
        return accuracy(train("graynet", images, recipe, seed=seed), data.test)

    poisoned = poison.apply(data.train)
    assert rows["one-pixel-shortcut", "none", 1.0] == judged(poisoned)
    assert rows["one-pixel-shortcut", "median", 1.0] == judged(squeeze(poisoned, "median"))
    assert rows["one-pixel-shortcut", "none", 0.5] == judged(apply_partly(poison, data.train, 0.5, seed=seed))
    cut = Recipe(epochs=1, batch_size=50, augmentation=("cutout",))
    assert rows["one-pixel-shortcut", "cutout", 1.0] == judged(poisoned, cut)
    against = Recipe(epochs=1, batch_size=50, adversarial=8 / 255)
    assert rows["clean", "adversarial", 1.0] == judged(data.train, against)


def test_a_defence_is_compared_with_none_pair_by_pair(finished: Findings) -> None:
    rows = {(row["poison"], row["defense"], row["share"]): row for row in finished.rows}
    for (poison, defense, share), row in rows.items():
        if (defense, share) == ("none", 1.0):
            assert row["vs_none_difference"] is None
        else:
            expected = compare_pairs(row["accuracies"], rows[poison, "none", 1.0]["accuracies"])
            assert row["vs_none_difference"] == expected.difference
            assert row["vs_none_p"] == expected.p


def test_tables_figures_and_sentences(finished: Findings) -> None:
    first, second = finished.sentences
    assert ", one-pixel-shortcut, N_p = " in first, "what helps against a poison comes first"
    assert ", clean: " in second
    with_defence, by_share = finished.tables.values()
    assert [row["defense"] for row in with_defence] == ["none", "cutout", "median", "adversarial"]
    assert [row["share"] for row in by_share] == ["0 %", "50 %", "100 %"]
    names = {path.name for path in (finished.run_dir / "figures").glob("*.png")}
    assert names == {"defenses-graynet.png", "shares-graynet.png"}


def test_a_squeeze_is_judged_on_plain_and_on_squeezed_test_images(finished: Findings) -> None:
    squeezed = [row["squeezed_test_accuracy"] for row in finished.rows if row["defense"] == "median"]
    assert all(0 <= accuracy <= 1 for accuracy in squeezed)
    assert all(row["squeezed_test_accuracy"] is None for row in finished.rows if row["defense"] != "median")


def test_defences_go_on_top_of_the_study_s_own_augmentation() -> None:
    base = Recipe(augmentation=("crop", "mixup"))
    assert defended(base, DEFENSES["none"]) == base
    assert defended(base, DEFENSES["cutout"]).augmentation == ("crop", "cutout", "mixup")
    assert defended(base, DEFENSES["cutmix"]).augmentation == ("crop", "cutmix"), "one mixing, the defence's"
    assert defended(base, DEFENSES["crop"]).augmentation == ("crop", "mixup")
    assert defended(base, DEFENSES["adversarial"]).adversarial == 8 / 255


def test_all_means_those_that_suit_the_data() -> None:
    def named(name: str, channels: int) -> list[str]:
        images = mddes.ImageSet(np.zeros((4, channels, 8, 8), np.uint8), np.arange(4) % 2, 2)
        return suitable(Dataset(name, images, images))

    assert {*DEFENSES} - {*named("mnist", 1)} == {"grayscale", "crop-flip"}
    assert {*DEFENSES} - {*named("cifar10", 3)} == set()
    assert {*DEFENSES} - {*named("svhn", 3)} == {"crop-flip"}


def test_a_curve_has_a_value_for_every_epoch_and_changes_nothing() -> None:
    data = mddes.load_dataset("digits", train_size=100)
    shared = shared_arrays(train=data.train, test=data.test)
    spec = {"model": "graynet-bn", "recipe": Recipe(epochs=3, batch_size=25).spec(), "seed": 1, "num_classes": 10}
    plain = train_and_test({**spec, "perturbation": None}, shared, "cpu")
    curve = train_and_test({**spec, "perturbation": None, "curve": True}, shared, "cpu")
    assert len(curve["clean_test_accuracy_by_epoch"]) == 3
    assert curve["clean_test_accuracy_by_epoch"][-1] == curve["clean_test_accuracy"]
    assert {k: curve[k] for k in plain} == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defenses": ("prayer",)}, "unknown defence 'prayer'"),
        ({"defenses": ("grayscale",)}, "grayscale is no defence for digits: its images are gray"),
        ({"shares": (1.5,)}, "shares must be at most 1, not 1.5"),
        ({"shares": (-0.5,)}, "shares must be at least 0"),
        ({"shares": (0.5, 0.5)}, "shares name one twice"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        study("defenses", config(tmp_path / "runs", **changes))
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_plan_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**SMALL, "out": str(tmp_path)}
    words = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, tuple) else (v,))] for k, v in settings.items()]
    arguments = ["study", "defenses", *(part for option in words for part in option)]
    assert main([*arguments, "--plan"]) == 0
    assert "graynet       18 trainings" in capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []
    assert main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    assert len(records(folder)) == 18


def test_rows_of_equal_poisons_keep_their_names(tmp_path: Path) -> None:
    """Two rows with one perturbation share their trainings, and nothing else."""
    train = mddes.load_dataset("digits", train_size=150).train
    mddes.one_pixel_shortcut(train, pixels=2).save(tmp_path / "copy.json")
    poisons = ("one-pixel-shortcut", str(tmp_path / "copy.json"))
    found = study("defenses", config(tmp_path / "runs", poisons=poisons, shares=(), defenses=("cutout",)))
    assert [(row["poison"], row["row"]) for row in found.rows] == [
        ("one-pixel-shortcut", "one-pixel-shortcut, N_p = 2"),
        ("one-pixel-shortcut", "one-pixel-shortcut, N_p = 2"),
        ("copy", "copy, N_p = 2"),
        ("copy", "copy, N_p = 2"),
    ]
    assert found.rows[0]["accuracies"] == found.rows[2]["accuracies"]
    assert len(records(found.run_dir)) == 4


def test_what_the_victims_do_anyway_is_no_defence(tmp_path: Path) -> None:
    settings = {"augmentation": ("crop", "cutout"), "poisons": ("clean",), "seeds": 1}
    with pytest.raises(InputError, match="cutout is no defence here"):
        study("defenses", config(tmp_path / "runs", defenses=("cutout",), **settings))
    assert not (tmp_path / "runs").exists()
    found = study("defenses", config(tmp_path / "runs", defenses=("all",), **settings))
    names = [row["defense"] for row in found.rows]
    assert "crop" not in names
    assert "cutout" not in names
    assert "median" in names


def test_intervals_of_accuracies_end_at_0_and_1(finished: Findings) -> None:
    for row in finished.rows:
        assert 0 <= row["clean_test_accuracy_low"] <= row["clean_test_accuracy_mean"] <= row["clean_test_accuracy_high"]
        assert row["clean_test_accuracy_high"] <= 1
