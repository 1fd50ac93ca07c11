"""The study of multi-perturbation SAM: its trainings, its statistics, and how it is continued."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from test_transfer import records
from torch import nn
from torch.nn import functional as F

import mddes
from mddes import InputError, Recipe
from mddes.cli import main
from mddes.data import shared_arrays
from mddes.seeding import derive, torch_generator
from mddes.studies.findings import Findings
from mddes.studies.sam import METHODS, SamConfig, named
from mddes.studies.sam_claims import HIERARCHY, PUBLISHED, Runs, _in_fives, comparisons_of, method_row
from mddes.studies.sam_tables import sentences
from mddes.studies.statistics import compare_pairs, holm, summarise, welch
from mddes.study import resume_study, study
from mddes.training import tabular
from mddes.training.tabular import Keeper, shift, split, standardised

TINY: dict[str, Any] = {
    "samples": 100,
    "features": 8,
    "informative": 4,
    "train_size": 80,
    "test_size": 40,
    "hidden": (8,),
    "epochs": 3,
    "batch_size": 32,
    "lr": 0.1,
    "severities": (0.5, 0.75),
    "seeds": 3,
    "workers": 0,
    "device": "cpu",
}
SYNTHETIC = {"samples": 200, "features": 6, "informative": 4, "classes": 2, "separation": 1.0}


def config(out: Path, **changes: Any) -> SamConfig:
    return SamConfig(**{**TINY, "out": str(out), **changes})


def spec(optimizer: str = "momentum", **changes: Any) -> dict[str, Any]:
    recipe = Recipe(optimizer=optimizer, lr=0.1, epochs=4, batch_size=32, weight_decay=1e-4).spec()
    given = {"synthetic": SYNTHETIC, "recipe": recipe, "hidden": [8], "patience": 4, "severities": [0.5], "seed": 3}
    return {**given, **changes}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("sam", config(tmp_path_factory.mktemp("runs")))


def untimed(findings: Findings) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("seconds_")} for row in findings.rows]


@pytest.mark.parametrize(
    ("curve", "patience"),
    [
        ([3.0, 2.0, 2.5, 1.0, 1.5, 1.2, 0.5], 2),
        ([3.0, 2.0, 2.5, 1.0, 1.5, 1.2, 0.5], 3),
        ([1.0, 1.0, 1.0], 2),
        ([5.0, 4.0, 3.0], 1),
        ([1.0, 2.0, 0.5], 1),
    ],
)
def test_the_keeper_keeps_the_best_epoch_before_it_stops(curve: list[float], patience: int) -> None:
    """Against a search over all prefixes; the network's weight is the number of its epoch."""
    network, keeper = nn.Linear(1, 1, bias=False), Keeper(patience)
    for epoch, loss in enumerate(curve, 1):
        nn.init.constant_(network.weight, epoch)
        if not keeper.look(network, loss):
            break
    ends = [e for e in range(1, len(curve) + 1) if e - (int(np.argmin(curve[:e])) + 1) >= patience]
    seen = min(ends, default=len(curve))
    best = int(np.argmin(curve[:seen])) + 1
    assert (keeper.seen, keeper.epoch, keeper.loss) == (seen, best, curve[best - 1])
    assert keeper.weights["weight"].item() == best


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_training_that_diverges_is_an_error(loss: float) -> None:
    with pytest.raises(ArithmeticError, match="training diverged"):
        Keeper(3).look(nn.Linear(1, 1), loss)


def test_the_split_is_disjoint_stratified_and_of_the_seed() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 35, 103]))
    parts = split(labels, seed=4)
    assert sorted(np.concatenate(parts)) == [*range(188)]
    shares = [np.bincount(labels[part]).tolist() for part in parts]
    assert shares == [[30, 21, 61], [10, 7, 21], [10, 7, 21]]
    assert all(np.array_equal(a, b) for a, b in zip(parts, split(labels, seed=4), strict=True))
    assert not np.array_equal(parts[2], split(labels, seed=5)[2])


def test_features_are_standardised_by_the_training_part_alone() -> None:
    x = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 7.0]])
    assert standardised(x, np.array([0, 1])).tolist() == [[-1, 0], [1, 0], [98, 2]]


def test_the_shift_mixes_each_feature_with_one_other_and_adds_noise() -> None:
    """The mixing matrix and the noise, read off three inputs; then the covariance it implies."""
    d, t = 5, 0.6
    noise = shift(np.zeros((d, d)), t, seed=2)
    matrix = shift(np.eye(d), t, seed=2) - noise
    partners = np.rint((matrix - 0.8 * np.eye(d)) / t).astype(int)
    np.testing.assert_allclose(matrix, 0.8 * np.eye(d) + t * partners, atol=1e-12)
    power = np.eye(d, dtype=int)
    for _ in range(d - 1):
        power = power @ partners
        assert np.trace(power) == 0, "one cycle through all features: nobody is their own partner"
    assert np.array_equal(power @ partners, np.eye(d))
    many = np.random.default_rng(0).standard_normal((200_000, d))
    expected = matrix.T @ matrix + t**2 * np.eye(d)
    np.testing.assert_allclose(np.cov(shift(many, t, seed=2).T), expected, atol=0.02)
    assert np.array_equal(shift(many[:9], 0.0, seed=2), many[:9])


def test_a_training_equals_one_by_hand_and_its_best_epoch_is_judged() -> None:
    """Plain SGD with momentum, written out; every epoch's weights are kept, and the best looked up afterwards."""
    x, y = tabular.synthetic(SYNTHETIC, 3)
    indices = split(y, 3)
    features = torch.tensor(standardised(x, indices[0]), dtype=torch.float32)
    targets = torch.tensor(y)
    network = tabular.perceptron([6, 8, 2], 3)
    parameters, order = list(network.parameters()), torch_generator(3, "batches")
    speed = [torch.zeros_like(p) for p in parameters]
    losses, states = [], []
    for _ in range(4):
        for batch in torch.split(torch.randperm(120, generator=order), 32):
            chosen = indices[0][batch.numpy()]
            loss = F.cross_entropy(network(features[chosen]), targets[chosen])
            with torch.no_grad():
                for p, v, g in zip(parameters, speed, torch.autograd.grad(loss, parameters), strict=True):
                    v.mul_(0.9).add_(g + 1e-4 * p)
                    p.sub_(0.1 * v)
        with torch.no_grad():
            losses.append(float(F.cross_entropy(network(features[indices[1]]).double(), targets[indices[1]])))
        states.append({k: v.clone() for k, v in network.state_dict().items()})
    best = int(np.argmin(losses))
    network.load_state_dict(states[best])

    def judged(inputs: Any, part: int) -> float:
        with torch.no_grad():
            return float((network(inputs).argmax(1) == targets[indices[part]]).double().mean())

    found = tabular.train_and_test(spec(), {}, "cpu")
    assert found["validation_loss"] == pytest.approx(losses[best], rel=1e-5)
    assert found["kept_epoch"] == best + 1
    accuracies = [judged(features[indices[part]], part) for part in range(3)]
    names = ("train_accuracy", "validation_accuracy", "test_accuracy")
    assert [found[name] for name in names] == accuracies
    assert found["generalization_gap"] == accuracies[0] - accuracies[2]
    shifted = shift(standardised(x, indices[0])[indices[2]], 0.5, 3)
    assert found["shifted_accuracy"] == [judged(torch.tensor(shifted, dtype=torch.float32), 2)]


def test_rho_0_is_momentum_bit_for_bit_and_passes_are_counted() -> None:
    plain = tabular.train_and_test(spec(), {}, "cpu")
    passes = {"sam": 2, "mp-sam-random": 3, "mp-sam-mixed": 4, "mp-sam-adaptive": 4}
    assert (plain["steps"], plain["passes"]) == (16, 16)
    for name, each in passes.items():
        recipe = Recipe(optimizer=name, lr=0.1, epochs=4, batch_size=32, weight_decay=1e-4, rho=0.0).spec()
        recipe |= {"perturbations": 1 if name == "sam" else 3}
        found = tabular.train_and_test(spec(recipe=recipe), {}, "cpu")
        assert found["passes"] == each * found["steps"]
        assert {**found, "passes": plain["passes"]} == plain


def test_images_are_pooled_and_laid_flat() -> None:
    data = mddes.load_dataset("digits")
    x, y = tabular.flat_images(shared_arrays(train=data.train, test=data.test))
    assert x.shape == (1797, 64)
    assert np.array_equal(x[1437] * 255, data.test.images[0].ravel())
    assert np.array_equal(y, np.concatenate([data.train.labels, data.test.labels]))


def test_the_paper_s_own_table_is_not_significant() -> None:
    sam = PUBLISHED["sam"]
    assert welch(PUBLISHED["mp-sam-adaptive"], sam) == pytest.approx(0.083, abs=5e-4)
    assert welch(PUBLISHED["mp-sam-mixed"], sam) == pytest.approx(0.31, abs=5e-3)


def test_methods_of_a_run_see_the_same(finished: Findings) -> None:
    by_run: dict[tuple[str, int], set[str]] = {}
    for record in records(finished.run_dir).values():
        assert record["seed"] == derive(0, "sam", record["run"])
        by_run.setdefault((record["problem"], record["run"]), set()).add(record["method"])
    assert by_run.keys() == {(problem, run) for problem in ("synthetic", "digits") for run in range(3)}
    assert {frozenset(methods) for methods in by_run.values()} == {frozenset(map(named, SamConfig().methods))}


def test_rows_are_those_of_the_records(finished: Findings) -> None:
    own = [row for row in finished.rows if row["kind"] == "method"]
    assert len(own) == 10
    for row in own:
        mine = [r for r in records(finished.run_dir).values() if (r["problem"], r["method"]) == _key(row)]
        mine.sort(key=lambda r: r["run"])
        accuracies = [r["test_accuracy"] for r in mine]
        assert row["accuracies"] == accuracies
        assert (row["n"], row["first_run"], row["five_mean"]) == (3, accuracies[0], summarise(accuracies).mean)
        shifted = summarise([r["shifted_accuracy"][1] for r in mine])
        assert (row["shifted_accuracy_0.75_mean"], row["shifted_accuracy_0.75_std"]) == (shifted.mean, shifted.std)
        gap = np.mean([r["train_accuracy"] - r["test_accuracy"] for r in mine])
        assert row["generalization_gap_mean"] == pytest.approx(gap)
        (table,) = (rows for title, rows in finished.tables.items() if "under distribution shift" in title)
        (line,) = (line for line in table if (line["problem"], line["method"]) == _key(row))
        gap = np.mean([r["train_accuracy"] - r["shifted_accuracy"][1] for r in mine])
        assert float(line["gap at 0.75"]) == pytest.approx(100 * gap, abs=0.0051)
    cost = {row["method"]: row["passes_per_step"] for row in own}
    assert cost == dict(zip(map(named, SamConfig().methods), (1, 2, 3, 6, 6), strict=True))
    assert all(row["seconds_over_momentum"] == 1 for row in own if row["method"] == "momentum")


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["problem"], row["method"]


def test_comparisons_are_the_paper_s_claims_paired_and_corrected_by_kind(finished: Findings) -> None:
    accuracies = {_key(row): row["accuracies"] for row in finished.rows if row["kind"] == "method"}
    compared = [row for row in finished.rows if row["kind"] == "comparison"]
    clean = [row for row in compared if row["measure"] == "test_accuracy"]
    assert [(row["first"], row["second"]) for row in clean[:6]] == [
        ("sam", "momentum"),
        ("mp-sam-random/3", "sam"),
        ("mp-sam-mixed/5", "mp-sam-random/3"),
        ("mp-sam-adaptive/5", "mp-sam-mixed/5"),
        ("mp-sam-mixed/5", "sam"),
        ("mp-sam-adaptive/5", "sam"),
    ]
    assert (len(clean), len(compared)) == (12, 12 + 2 * 2 * 3)
    for row in clean:
        c = compare_pairs(accuracies[row["problem"], row["first"]], accuracies[row["problem"], row["second"]])
        assert (row["difference"], row["p"], row["effect"]) == (c.difference, c.p, c.effect)
    for kind in (clean, [row for row in compared if row not in clean]):
        corrected = holm({str(i): row["p"] for i, row in enumerate(kind) if row["p"] is not None})
        assert {str(i): row["p_holm"] for i, row in enumerate(kind) if row["p"] is not None} == corrected


def made(method: str, accuracies: list[float | None], worker: str = "a", each: float = 1.0) -> Runs:
    """Runs with these test accuracies, None for one that failed."""
    runs = Runs("made", method, severities=(0.5,))
    for run, accuracy in enumerate(accuracies):
        numbers = {"test_accuracy": accuracy, "train_accuracy": 1.0, "generalization_gap": 0.5, "kept_epoch": 2}
        more = {"epochs": 4, "steps": 8, "passes": 16, "seconds": 4 * each, "worker": worker}
        done = {"status": "done", **numbers, **more, "shifted_accuracy": [accuracy]}
        runs.add(run, {"status": "failed"} if accuracy is None else done)
    return runs


def test_runs_that_failed_are_missing_from_both_sides_of_a_pair() -> None:
    sam, adaptive = made("sam", [0.5, None, 0.7, 0.9]), made("mp-sam-adaptive/5", [0.6, 0.1, None, 0.8])
    row = next(row for row in comparisons_of([sam, adaptive]) if row["measure"] == "test_accuracy")
    assert (row["n"], row["difference"]) == (2, pytest.approx(0.0))
    assert row["p"] == compare_pairs([0.6, 0.8], [0.5, 0.9]).p
    nothing = made("mp-sam-adaptive/5", [None, None])
    assert comparisons_of([sam, nothing]) == []
    found = method_row(nothing, [sam])
    assert (found["n"], found["failed"], found["test_accuracy_mean"], found["seconds_over_sam"]) == (0, 2, None, None)


def test_times_are_ratios_within_one_process() -> None:
    plain, sam = made("momentum", [0.5, 0.5], each=0.5), made("sam", [0.5, 0.5], each=1.5)
    row = method_row(sam, [plain, sam])
    assert (row["seconds_per_epoch"], row["passes_per_step"]) == (1.5, 2.0)
    assert (row["seconds_over_momentum"], row["seconds_over_sam"]) == (3.0, 1.0)
    assert method_row(made("sam", [0.5], worker="b"), [plain])["seconds_over_momentum"] is None


def test_sentences_call_a_claim_what_the_test_does() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.9, 0.01, 30)
    names = ("momentum", "sam", "mp-sam-random/3", "mp-sam-mixed/5", "mp-sam-adaptive/5")
    offsets = (0.0, 0.05, 0.05, 0.0, 0.0)
    groups = [
        made(name, [float(v) for v in values + off + random.normal(0, 1e-3, 30)])
        for name, off in zip(names, offsets, strict=True)
    ]
    rows = [method_row(runs, groups[:1]) for runs in groups]
    said = " ".join(sentences(groups, rows, comparisons_of(groups)))
    assert "made, the paper's order step by step: sam above momentum holds (" in said
    assert "mp-sam-mixed/5 above mp-sam-random/3 contradicted (" in said
    assert re.search(r"made, sam above momentum: holds; \+[45]\.\d\d points", said)
    assert "made, mp-sam-random/3 above sam: open; " in said
    assert "made, mp-sam-mixed/5 above mp-sam-random/3: contradicted; -" in said
    assert "of 6 groups of five runs 6 would call it significant" in said
    assert "mp-sam-adaptive/5 above sam: contradicted" in said
    assert "the paper's +1.10 lies outside" in said


def test_groups_of_five_are_judged_as_the_paper_judged_its_own() -> None:
    random = np.random.default_rng(3)
    second = dict(enumerate(random.normal(0, 1, 17)))
    first = {run: value + (3 if run < 5 else -3 if run < 10 else 0.01) for run, value in second.items()}
    p = stats.ttest_ind([first[r] for r in range(5)], [second[r] for r in range(5)], equal_var=False).pvalue
    expected = {"fives": 3, "fives_above": 2, "fives_significant": int(p < 0.05)}
    assert _in_fives(first, second, sorted(first)) == expected
    assert _in_fives(first, second, [r for r in first if r != 7])["fives"] == 2, "a run that failed breaks its group"


def test_more_runs_equal_as_many_from_the_start(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    again = resume_study(folder)
    assert again.rows == finished.rows, "its own ledger says the same, times included"
    more = resume_study(folder, seeds=4, methods=(*SamConfig().methods, "mp-sam-gradient/2"))
    straight = study("sam", config(tmp_path / "straight", seeds=4, methods=(*SamConfig().methods, "mp-sam-gradient/2")))
    assert records(folder) == records(straight.run_dir)
    assert untimed(more) == untimed(straight)
    assert more.protocol_hash == straight.protocol_hash == finished.protocol_hash
    assert {**records(folder), **records(finished.run_dir)} == records(folder), "what was trained stands"


def test_tables_sentences_and_figure(finished: Findings) -> None:
    assert all(rows for rows in finished.tables.values())
    assert [s.partition(",")[0] for s in finished.sentences[:2]] == ["synthetic", "digits"]
    assert "p = 0.31 for mp-sam-mixed, 0.083 for mp-sam-adaptive" in finished.sentences[2]
    assert sum(" above " in sentence and "shift" not in sentence for sentence in finished.sentences[2:]) == 12
    assert finished.sentences[-1].endswith("mp-sam-random/3 1.5, mp-sam-mixed/5 3, mp-sam-adaptive/5 3.")
    assert {path.name for path in (finished.run_dir / "figures").iterdir()} == {"sam.png", "sam.svg"}


def test_the_methods_are_optimizers_that_step_with_momentum() -> None:
    parameters = [nn.Parameter(torch.ones(2))]
    assert set(METHODS) == {*HIERARCHY, "mp-sam-gradient"}
    for name in METHODS:
        optimizer = SamConfig().recipe(name).make_optimizer(parameters, 0)
        base = getattr(optimizer, "base_optimizer", optimizer)
        assert isinstance(base, torch.optim.SGD)
        assert (base.defaults["momentum"], base.defaults["weight_decay"]) == (0.9, 1e-4)
        assert (name == "momentum") == (base is optimizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("adam",)}, "unknown method 'adam'"),
        ({"methods": ("sam/3",)}, "sam has no number of perturbations: sam, not sam/3"),
        ({"methods": ("mp-sam-mixed/0",)}, "must be a whole number, at least 1: mp-sam-mixed/5, not mp-sam-mixed/0"),
        ({"methods": ("mp-sam-mixed", "mp-sam-mixed/5")}, "methods name one twice"),
        ({"problems": ("faces",)}, "unknown problem 'faces'"),
        ({"severities": (1.5,)}, "severities must be at most 1, not 1.5"),
        ({"informative": 30}, "informative must be at most features (8), not 30"),
        ({"classes": 9}, "9 classes of two clusters need more than 4 informative"),
        ({"samples": 10}, "samples must be at least 20 for each class (40), not 10"),
        ({"patience": 0}, "patience must be at least 1, not 0"),
        ({"train_size": 12, "test_size": 5}, "60/20/20 needs at least 5 of every"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        study("sam", config(tmp_path / "runs", **changes))
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_ledger_is_said_to_be_one(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    ledger = folder / "trainings.jsonl"
    ledger.write_text(ledger.read_text().replace('"kept_epoch"', '"kept"'))
    with pytest.raises(InputError, match=r"is damaged: record .* has no valid kept_epoch"):
        resume_study(folder)


def test_plan_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**TINY, "out": str(tmp_path), "problems": ("synthetic",), "methods": ("sam", "mp-sam-random/2")}
    words = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, tuple) else (v,))] for k, v in settings.items()]
    arguments = ["study", "sam", *(part for option in words for part in option)]
    assert main([*arguments, "--plan"]) == 0
    said = capsys.readouterr().out
    assert "synthetic, mp-sam-random/2  3 trainings of at most about" in said
    assert [*tmp_path.iterdir()] == []
    assert main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    assert len(records(folder)) == 6
    assert main(["resume", str(folder), "--seeds", "4"]) == 0
    assert len(records(folder)) == 8
