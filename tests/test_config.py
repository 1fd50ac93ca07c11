"""The configuration: checked, resolved by the data, saved and read back."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from cases import random_images

import mddes
from mddes import InputError, SearchConfig
from mddes.commands.resume import ResumeCommand, StudyExtent
from mddes.config_file import read_config, save_config
from mddes.data import split
from mddes.pools import device_of, local_workers
from mddes.search.config import BUDGETS, CHOICES, CIRCUMSTANCES, PRESETS, Changes, identity, resolve
from mddes.studies.defenses import DefensesConfig
from mddes.studies.transfer import TransferConfig
from mddes.study import EXTENT


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"popsize": 1}, "popsize must be at least 2, not 1"),
        ({"generations": 0}, "generations must be at least 1, not 0"),
        ({"pixels": 0}, "pixels must be at least 1"),
        ({"pixels": 1.5}, "pixels must be a whole number, not 1.5"),
        ({"pixels": True}, "pixels must be a whole number, not True"),
        ({"pixels": "3"}, "pixels must be a whole number, not '3'"),
        ({"sigma0": float("nan")}, "sigma0 must be finite"),
        ({"sigma0": 0.0}, "sigma0 must be above 0"),
        ({"wall_clock": -1.0}, "wall_clock must be above 0"),
        ({"w_m": float("inf")}, "w_m must be finite"),
        ({"w_m": 0, "w_d": 0}, "nothing to maximise"),
        ({"w_d": -0.1}, "w_d must be at least 0"),
        ({"mode": "mul"}, "unknown mode 'mul'; known: set, add"),
        ({"mode": 3}, "mode must be set or add, not 3"),
        ({"mismatch": "gpa"}, "unknown mismatch 'gpa' .did you mean 'gap'"),
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"optimizer": "adan"}, "unknown optimizer 'adan'"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"precision": "fp8"}, "fp8"),
        ({"workers": -1}, "workers must be auto, or 0 or more, not -1"),
        ({"workers": "all"}, "workers must be auto or a whole number, not 'all'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"dataset": 3}, "dataset must be a text"),
    ],
)
def test_refuses(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchConfig(**setting)


def test_choices_in_types_and_tables_are_the_same() -> None:
    hints = get_type_hints(SearchConfig)
    for name, table in CHOICES.items():
        if hints[name] is not str:
            assert set(get_args(hints[name])) == set(table), name


def test_every_setting_belongs_to_one_group() -> None:
    groups = [kind for kind in SearchConfig.__bases__ if dataclasses.is_dataclass(kind)]
    assert len(groups) == 7
    names = [field.name for group in groups for field in dataclasses.fields(group)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(SearchConfig))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    assert SearchConfig(**PRESETS[name])


def test_resolve_fills_in_what_the_data_decide() -> None:
    gray = split(random_images(600, (1, 28, 28), 10))
    resolved = resolve(SearchConfig(pixels=1), gray)
    assert (resolved.model, resolved.popsize, resolved.covariance) == ("graynet", 14, "full")
    assert (resolved.lr, resolved.epochs, resolved.batch_size) == (1e-3, 10, 16)
    assert resolve(resolved, gray) == resolved
    colour = resolve(SearchConfig(pixels=10), split(random_images(600, (3, 32, 32), 10)))
    assert (colour.model, colour.popsize, colour.covariance) == ("colornet", 22, "diagonal")


def test_lambda_is_no_function_of_workers() -> None:
    data = split(random_images(60, num_classes=10))
    assert len({resolve(SearchConfig(workers=w), data).popsize for w in (0, 1, 7, 500)}) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pixels": 65}, r"pixels must lie in 1\.\.64 for 8 x 8 images, not 65"),
        ({"value": 300}, r"value must lie in 0\.\.255"),
        ({"evaluations": 3, "popsize": 4}, "at least one generation of 4, not 3"),
    ],
)
def test_resolve_refuses_what_the_data_do_not_allow(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(SearchConfig(**setting), split(random_images()))


def test_what_resume_may_change_is_budgets_and_circumstances() -> None:
    """In Python, on the command line and in the configuration alike; but a run stays in its folder."""
    changeable = {*BUDGETS, *CIRCUMSTANCES} - {"out"}
    hints = get_type_hints(SearchConfig)
    assert set(Changes.__annotations__) == changeable
    assert {field.name for field in dataclasses.fields(ResumeCommand)} == changeable | {"run", "study"}
    assert {field.name for field in dataclasses.fields(StudyExtent)} | {"generations"} == {*EXTENT}
    for name, hint in get_type_hints(Changes).items():
        assert hint == hints[name] | None, name


def test_identity_leaves_out_budgets_and_circumstances_only() -> None:
    data = split(random_images())
    base = SearchConfig()
    changes: dict[str, Any] = {
        "generations": 3, "evaluations": 1000, "wall_clock": 5.0, "workers": 3, "device": "cpu", "data_dir": "x",
        "ray_address": "auto", "cpus_per_worker": 2.0, "gpus_per_worker": 0.5, "out": "elsewhere",
        "placement": "pack", "object_store": 500, "time_limit": 60.0, "stragglers": 3.0, "tensorboard": True,
    }  # fmt: skip
    assert set(changes) == {*BUDGETS, *CIRCUMSTANCES}
    assert identity(dataclasses.replace(base, **changes), data, None) == identity(base, data, None)
    for change in ({"pixels": 2}, {"seed": 1}, {"finalists": 2}, {"lr": 0.5}, {"repeats": 2}):
        assert identity(dataclasses.replace(base, **change), data, None) != identity(base, data, None)
    assert identity(base, split(random_images(seed=1)), None) != identity(base, data, None)
    assert identity(base, data, mddes.uniform(data.train)) != identity(base, data, None)


def test_a_file_gives_the_configuration_back(tmp_path: Path) -> None:
    config = SearchConfig(pixels=3, value=255, lr=0.01, dataset='with "quotes" and \\', workers=2)
    save_config(dataclasses.asdict(config), tmp_path / "c.toml")
    assert read_config(tmp_path / "c.toml", SearchConfig) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pixls = 3", "unknown key 'pixls' .did you mean 'pixels'"),
        ("pixels = ", "no valid TOML"),
        ("pixels = 0", "pixels must be at least 1"),
        ('pixels = "many"', "pixels must be a whole number"),
        ("[poison]\npixels = 1", "unknown key 'poison'"),
        ("lr = nan", "lr must be finite"),
    ],
)
def test_a_file_with_a_mistake_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(path, SearchConfig)
    assert "c.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the configuration"):
        read_config(tmp_path / "none.toml", SearchConfig)


def test_workers_are_one_per_core_and_never_more_than_can_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert local_workers(SearchConfig(device="cpu"), 14) == 14
    assert local_workers(SearchConfig(device="cpu"), 140) == 64
    assert local_workers(SearchConfig(cpus_per_worker=4.0, device="cpu"), 200) == 16
    assert local_workers(SearchConfig(workers=3), 100) == 3


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA GPU"):
        device_of(SearchConfig(device="cuda"))
    assert device_of(SearchConfig(device="cuda", ray_address="auto")) == "cuda", "the cluster may have one"
    assert device_of(SearchConfig()) == "cpu"


@pytest.mark.parametrize("config", [SearchConfig, TransferConfig, DefensesConfig])
def test_one_setting_is_described_for_each_field(config: type[Any]) -> None:
    """Every field is followed by its description: the help of the command line is made of them."""
    for group in (base for base in config.__mro__ if "__annotations__" in vars(base)):
        source = inspect.getsource(group).splitlines()
        for name in vars(group)["__annotations__"]:
            declaration = next(i for i, line in enumerate(source) if line.startswith(f"    {name}: "))
            assert source[declaration + 1].strip().startswith('"""'), name
