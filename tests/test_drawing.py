"""Panels on a given axis: every one of every kind of run shows the rows it is drawn from, there and nowhere else."""

import dataclasses
import importlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_defenses
import test_gradcam
import test_interpolation_study
import test_optimizers_study
import test_sam_study
import test_transfer
from cases import lines
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from test_learning_curve import SMALL

import mddes.study
from mddes import InputError, SearchResult
from mddes.drawing import Drawable, draw, panels
from mddes.report.diagnostics import PANELS, search_rows, strategy_diagnostics
from mddes.report.figures import CURVES, learning_curve, read_generations
from mddes.report.heat_map import heat_map
from mddes.report.interpolation import interpolation_figures
from mddes.report.study_page import SHOWN, _shown
from mddes.studies.findings import Findings
from mddes.studies.learning_curve import LearningCurveConfig
from mddes.study import STUDIES, study

Runs = dict[str, Any]
TESTED: dict[str, Callable[[Path], Any]] = {
    "transfer": lambda out: test_transfer.config(out, poisons=("clean", "uniform")),
    "defenses": lambda out: test_defenses.config(out, defenses=("cutout",)),
    "optimizers": lambda out: test_optimizers_study.config(out, optimizers=("sgd", "adam")),
    "gradcam": lambda out: test_gradcam.config(out, poisons=("uniform",), singles=(3,), test_size=60, places=5),
    "interpolation": lambda out: test_interpolation_study.config(
        out, models=("graynet",), line_size=30, measure_size=10
    ),
    "sam": lambda out: test_sam_study.config(out, seeds=2, epochs=1, problems=("synthetic",)),
}


@pytest.fixture(scope="module")
def runs(finished: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Yield a tiny run of every kind: a search, and a study of each name; their folders have no figures."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mddes.study, "_draw", lambda *_: None)
        made: Runs = {name: study(name, config(out)) for name, config in TESTED.items()}
        of_search = LearningCurveConfig(**SMALL, run=str(finished.run_dir), out=str(out))
        made["learning-curve"] = study("learning-curve", of_search)
        yield made | {"search": finished}


@pytest.fixture(scope="module")
def figures(runs: Runs) -> dict[str, dict[str, Figure]]:
    """Return the figures that studies make of their rows."""
    found = {}
    for name, kind in STUDIES.items():
        module, _, function = kind.figures.partition(":")
        found[name] = getattr(importlib.import_module(f"mddes.report.{module}"), function)(runs[name].rows)
    return found


KINDS = ("search", *STUDIES)


def rows_of(run: Findings, kind: str, **fields: Any) -> list[dict[str, Any]]:
    wanted = {"kind": kind, **fields}
    return [dict(row) for row in run.rows if all(row.get(key) == value for key, value in wanted.items())]


def drawn(run: Any, panel: str, **choices: Any) -> Axes:
    """Draw a panel in the middle of three axes; return its axis."""
    figure = Figure(figsize=(12, 4))
    left, middle, right = figure.subplots(1, 3)
    assert draw(run, panel, middle, **choices) is figure
    for ax in (left, right):
        assert not ax.has_data()
        assert [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *ax.texts] == [""] * 3
        assert ax.get_legend() is None
    assert len(figure.axes) <= 4, "a colour bar at most"
    assert not figure.legends
    assert figure.get_suptitle() == ""
    assert isinstance(middle, Axes)
    return middle


def last_of(panel: Drawable) -> dict[str, str]:
    """Return the last value of every choice."""
    return {choice: values[-1] for choice, values in panel.choices.items()}


def data(ax: Axes) -> list[tuple[str, tuple[float, ...]]]:
    """Return what an axis shows: the numbers of its lines, bars, points and pictures."""
    shown: list[tuple[str, Any]] = []
    for line in ax.lines:
        shown += [("x", line.get_xdata()), ("y", line.get_ydata())]
    shown += [("bar", [c.get_height() for c in box]) for box in ax.containers if isinstance(box, BarContainer)]
    shown += [("picture", image.get_array()) for image in ax.images]
    there = [own for own in ax.collections if getattr(own, "filled", True)]  # contours make room for their labels
    shown += [("points", collection.get_offsets()) for collection in there]
    shown += [("area", path.vertices) for collection in there for path in collection.get_paths()]
    return [(what, tuple(np.ma.filled(np.ma.asarray(v, float), -1).ravel().round(9))) for what, v in shown]


def on_the_axis(lines_: Any, i: int) -> tuple[list[float], list[float]]:
    return [*map(float, lines_[i].get_xdata())], [*map(float, lines_[i].get_ydata())]


def bars_of(ax: Axes) -> list[tuple[float, float]]:
    """Return middle and height of every bar."""
    boxes = [box for container in ax.containers if isinstance(container, BarContainer) for box in container]
    return [(box.get_x() + box.get_width() / 2, box.get_height()) for box in boxes]


def marks_of(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """Return x and y of every series with error bars."""
    series = [box.lines[0] for box in ax.containers if isinstance(box, ErrorbarContainer)]
    return [on_the_axis([s], 0) for s in series]


def ends_of(ax: Axes, i: int) -> list[float]:
    """Return the lower and upper ends of an error bar series, upwards."""
    (bars,) = [box for box in ax.containers if isinstance(box, ErrorbarContainer)][i].lines[2]
    return [float(y) for segment in bars.get_segments() for y in segment[:, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_panel_is_drawn_on_the_given_axis_and_says_what_it_shows(runs: Runs, kind: str) -> None:
    offered = panels(runs[kind])
    expected = {
        "search": 10, "transfer": 1, "defenses": 2, "learning-curve": 3, "optimizers": 3, "gradcam": 2,
        "interpolation": 5, "sam": 3,
    }  # fmt: skip
    assert len(offered) == expected[kind]
    for name, panel in offered.items():
        assert "\n" not in panel.shows
        for choices in ({}, last_of(panel)):
            ax = drawn(runs[kind], name, **choices)
            assert ax.has_data()
            assert ax.get_title()
            if name != "class-map":
                assert ax.get_xlabel() or len(ax.get_xticks())
                assert ax.get_ylabel() or len(ax.get_yticks())
            if len(ax.get_legend_handles_labels()[1]):
                assert ax.get_legend()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_draws_as_its_result_does(runs: Runs, kind: str) -> None:
    run = runs[kind]
    assert panels(run.run_dir) == panels(str(run.run_dir)) == panels(run)
    name = next(iter(panels(run)))
    assert data(drawn(run.run_dir, name)) == data(drawn(run, name))


@pytest.mark.parametrize("kind", STUDIES)
def test_figures_of_studies_show_what_their_panels_show(
    runs: Runs, figures: dict[str, dict[str, Figure]], kind: str
) -> None:
    whole = [data(ax) for figure in figures[kind].values() for ax in figure.axes]
    for name, panel in panels(runs[kind]).items():
        for choices in ({}, last_of(panel)):
            own = data(drawn(runs[kind], name, **choices))
            if name == "class-map":  # its frames are as wide as the axis allows
                own = [shown for shown in own if shown[0] == "picture"]
            assert any(set(own) <= set(other) for other in whole), (name, choices)


@pytest.mark.parametrize("kind", STUDIES)
def test_every_figure_of_a_study_has_words_for_those_who_cannot_see_it(
    figures: dict[str, dict[str, Figure]], kind: str
) -> None:
    for file in figures[kind]:
        assert _shown(file.removesuffix(".png")) in SHOWN.values(), f"{file}: say in study_page.SHOWN what it shows"
    assert _shown("lineage") == "Figure lineage."


def test_panels_of_a_search(finished: SearchResult) -> None:
    rows = read_generations(finished.run_dir / "generations.csv")
    for name, curve in zip(panels(finished), (name for name, _ in CURVES), strict=False):
        ax = drawn(finished, name)
        mean, best = (on_the_axis(ax.lines, i)[1] for i in range(2))
        assert mean == [float(row[f"{curve}_mean"]) for row in rows]
        assert best == [float(row[f"{curve}_best"]) for row in rows]
        assert ax.get_title() == "n = 4 candidates a generation, mean ± sd"
        assert ax.get_ylabel() == dict(CURVES)[curve]
    records = [r for r in lines(finished.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    ax = drawn(finished, "fitness-scatter")
    assert ax.get_title() == f"n = {len(records)} candidates, a network each"
    scatter = np.asarray(ax.collections[0].get_offsets())
    assert scatter.tolist() == [[r["domain_divergence"], r["semantic_mismatch"]] for r in records]
    assert on_the_axis(drawn(finished, "step-size").lines, 0)[1] == [float(row["sigma"]) for row in rows]
    asked = [np.array([r["asked"] for r in records if r["generation"] == g]) for g in range(3)]
    spread = drawn(finished, "coordinate-sd").lines
    for i, of in ((0, np.max), (1, np.median), (2, np.min)):
        assert on_the_axis(spread, i)[1] == pytest.approx([of(own.std(axis=0, ddof=1)) for own in asked])
    moved = on_the_axis(drawn(finished, "mean-movement").lines, 0)[1]
    assert moved == pytest.approx([np.linalg.norm(own.mean(0) - asked[0].mean(0)) for own in asked])
    texts = {
        (t.get_position()[1], t.get_position()[0]): t.get_text() for t in drawn(finished, "perturbation-map").texts
    }
    poison = finished.perturbation
    for k in range(poison.num_classes):
        for row, col in zip(poison.rows[k], poison.cols[k], strict=True):
            assert str(k) in texts[row, col].split(",")
    everything = [r for r in lines(finished.run_dir / "evaluations.jsonl") if "began" in r]
    timeline = drawn(finished, "timeline")
    assert sum(len(bars.get_paths()) for bars in timeline.collections) == len(everything)
    assert timeline.get_title().startswith(f"{len(everything)} trainings on 1 worker(s)")


def test_figures_of_a_search_show_what_its_panels_show(finished: SearchResult) -> None:
    path = finished.run_dir / "generations.csv"
    for ax, name in zip(learning_curve(path).axes, panels(finished), strict=False):
        assert data(ax) == data(drawn(finished, name))
    records = [r for r in lines(finished.run_dir / "evaluations.jsonl") if "key" in r]
    rows = search_rows(finished.run_dir, {}, records)
    candidates = [row for row in rows if row["kind"] == "candidate"]
    figure = strategy_diagnostics(read_generations(path), candidates)
    for ax, name in zip(figure.axes, ("step-size", "coordinate-sd", "mean-movement"), strict=True):
        assert data(ax) == data(drawn(finished, name))


def test_a_search_offers_what_it_has(finished: SearchResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    settings = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(settings.replace('algorithm = "cma-es"', 'algorithm = "random"'))
    assert {"coordinate-sd", "mean-movement"}.isdisjoint(panels(folder)), "a random search samples no strategy"
    for name in ("generations.csv", "perturbation.json"):
        (folder / name).unlink()
    assert set(panels(folder)) == {"fitness-scatter", "timeline"}
    text = (folder / "evaluations.jsonl").read_text()
    (folder / "evaluations.jsonl").write_text(
        text.replace('"domain_divergence": 0', '"domain_divergence": null, "x": 0')
    )
    assert "fitness-scatter" not in panels(folder), "of a search with one term there is nothing to scatter"


def test_transfer_s_bars(runs: Runs) -> None:
    found = runs["transfer"]
    ax = drawn(found, "bars")
    middles, heights = zip(*bars_of(ax), strict=True)
    assert middles == pytest.approx([0, 1.7]), "what has no N_p stands apart"
    assert heights == pytest.approx([100 * row["clean_test_accuracy_mean"] for row in found.rows])
    for i, row in enumerate(found.rows):
        ends = sorted(ends_of(ax, i))
        assert ends == pytest.approx([100 * row["clean_test_accuracy_low"], 100 * row["clean_test_accuracy_high"]])
    dots = [on_the_axis(ax.lines, i)[1] for i in range(len(ax.lines)) if ax.lines[i].get_marker() == "o"]
    assert dots == [pytest.approx([100 * a for a in row["accuracies"]]) for row in found.rows]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["clean", "uniform"]
    assert [text.get_text() for text in ax.texts] == ["$N_p$ = 2"]
    assert ax.get_ylabel() == "clean test accuracy (%)"
    assert " ".join(ax.get_title().split()) == "digits, graynet: mean, 95 % interval, each training (n = 2 a bar)"


def test_defences_and_shares(runs: Runs) -> None:
    found = runs["defenses"]
    whole = [row for row in found.rows if row["share"] == 1]
    labels = dict.fromkeys(row["row"] for row in whole)
    series = marks_of(drawn(found, "defenses"))
    for (_, y), label in zip(series, labels, strict=True):
        assert y == pytest.approx([100 * r["clean_test_accuracy_mean"] for r in whole if r["row"] == label])
    assert [round(x) for x in series[0][0]] == [0, 1]
    ((x, y),) = marks_of(drawn(found, "shares"))
    assert x == [0, 50, 100]
    by_share = {
        row["share"]: row["clean_test_accuracy_mean"]
        for row in found.rows
        if row["defense"] == "none" and row["poison"] != "clean"
    }
    (clean,) = [row for row in found.rows if row["defense"] == "none" and row["poison"] == "clean"]
    assert y == pytest.approx([100 * v for v in (clean["clean_test_accuracy_mean"], by_share[0.5], by_share[1.0])])


def test_learning_curves(runs: Runs) -> None:
    found = runs["learning-curve"]
    steps = rows_of(found, "generation")
    x, y = on_the_axis(drawn(found, "generations").lines, 0)
    assert x == [0, 1, 2]
    assert y == pytest.approx([100 * row["error_mean"] for row in steps])
    series = marks_of(drawn(found, "epochs"))
    for (x, y), name in zip(series, ("clean", "uniform", "best", "winner"), strict=True):
        own = rows_of(found, "epoch", row=name)
        assert x == [1, 2]
        assert y == pytest.approx([100 * row["accuracy_mean"] for row in own])
    x, y = on_the_axis(drawn(found, "candidates").lines, 0)
    own = rows_of(found, "candidate")
    assert x == [row["proxy_a_distance"] for row in own]
    assert y == pytest.approx([100 * row["error"] for row in own])


def test_optimizers_bars_and_rates(runs: Runs) -> None:
    found = runs["optimizers"]
    for selection in ("poisoned", "clean"):
        own = rows_of(found, "chosen", selection=selection)
        heights = sorted(height for _, height in bars_of(drawn(found, "bars", selection=selection)))
        assert heights == pytest.approx(sorted(100 * row["clean_test_accuracy_mean"] for row in own))
    for poison in panels(found)["rates"].choices["poison"]:
        ax = drawn(found, "rates", poison=poison)
        for i, (optimizer, field) in enumerate(
            (optimizer, field)
            for optimizer in ("sgd", "adam")
            for field in ("clean_test_accuracy_mean", "held_out_poisoned_accuracy")
        ):
            own = sorted(rows_of(found, "sweep", row=poison, optimizer=optimizer), key=lambda row: float(row["lr"]))
            x, y = on_the_axis(ax.lines, i)
            assert x == [row["lr"] for row in own]
            assert y == pytest.approx([100 * row[field] for row in own])
        assert ax.get_xscale() == "log"
        for selection in ("poisoned", "clean"):
            ax = drawn(found, "epochs", poison=poison, selection=selection)
            containers: Any = ax.containers
            for name, drawn_line in zip(("sgd", "adam"), containers, strict=True):
                first, last = (
                    rows_of(found, kind, row=poison, optimizer=name, selection=selection)[0]
                    for kind in ("epoch", "chosen")
                )
                assert [round(x) for x in drawn_line.lines[0].get_xdata()] == [1, 2]
                heights = [100 * row["clean_test_accuracy_mean"] for row in (first, last)]
                assert list(drawn_line.lines[0].get_ydata()) == pytest.approx(heights)


def test_interpolation_s_lines_slices_and_surfaces(runs: Runs) -> None:
    found = runs["interpolation"]
    poison = "uniform, N_p = 2"
    own = rows_of(found, "line", row=poison)
    for images in ("train", "test"):
        x, y = on_the_axis(drawn(found, "line-loss", poison=poison, images=images).lines, 0)
        assert x == [row["alpha"] for row in own]
        assert y == pytest.approx([row[f"{images}_loss_mean"] for row in own])
    ax = drawn(found, "line-accuracy", poison=poison)
    for i, images in enumerate(("train", "test")):
        assert on_the_axis(ax.lines, i)[1] == pytest.approx([100 * row[f"{images}_accuracy_mean"] for row in own])
    assert [text.get_text() for text in ax.texts] == ["sgd", "adam"]
    ax = drawn(found, "slices", poison=poison)
    for i, end in enumerate(("sgd", "adam")):
        own = rows_of(found, "slice", row=poison, end=end)
        assert on_the_axis(ax.lines, i)[1] == pytest.approx([row["loss_mean"] for row in own])
    both = [row["loss_mean"] for row in rows_of(found, "surface", row=poison)]
    for end in ("sgd", "adam"):
        levels = drawn(found, "surface", poison=poison, end=end).collections[0].levels  # type: ignore[attr-defined]
        assert (levels[0], levels[-1]) == (pytest.approx(min(both)), pytest.approx(max(both))), "one scale for both"


def test_correlations_are_written_in_their_cells(runs: Runs) -> None:
    found = runs["interpolation"]
    assert panels(found)["correlations"].choices["within"] == ("all", "clean", "uniform, N_p = 2")
    for within in ("all", "uniform, N_p = 2"):
        ax = drawn(found, "correlations", within=within)
        own = rows_of(found, "correlation", within=within)
        written = [text.get_text().split("\n")[0].replace("−", "-") for text in ax.texts]
        taus = {(row["first"], row["second"]): row["tau"] for row in own}
        names = list(dict.fromkeys(name for pair in taus for name in pair))
        expected = [taus[names[j], names[i]] for i in range(len(names)) for j in range(i)]
        assert [float(text) for text in written] == pytest.approx([t for t in expected if t is not None], abs=0.005001)
        assert len(ax.patches) == expected.count(None), "undefined ones are hatched"
        assert ("hatched: undefined" in " ".join(ax.get_title().split())) == (None in expected)


def test_a_heat_map_says_what_is_undefined_and_where_n_differs() -> None:
    ax = Figure(figsize=(6, 6)).subplots()
    found = {("a", "b"): (1.0, 8), ("c", "a"): (-0.526, 8), ("b", "c"): (None, 1), ("a", "d"): (0.04, 5)}
    said = heat_map(ax, {"a": "A", "b": "B", "c": "C", "d": "D"}, found | {("b", "d"): (0.0, 8), ("c", "d"): (-1, 8)})
    assert said == "n = 8 solutions; hatched: undefined"
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts}
    assert texts == {
        (0, 0): ("+1.0", "white"),
        (0, 1): ("−.53", "black"),
        (0, 2): ("+.04\nn = 5", "black"),
        (1, 2): ("0", "black"),
        (2, 2): ("−1.0", "white"),
    }
    (hatched,) = ax.patches
    assert hatched.get_hatch()
    assert (hatched.get_x() + 0.5, hatched.get_y() + 0.5) == (1, 1)  # type: ignore[attr-defined]
    image = ax.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)
    assert np.asarray(image.get_array())[1, 0] == -0.526
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["A", "B", "C"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["B", "C", "D"]


def test_gradcam_s_maps_and_shares(runs: Runs) -> None:
    found = runs["gradcam"]
    chosen = {"true_class": 7, "network": "poisoned", "images": "clean"}
    ax = drawn(found, "class-map", **chosen)
    (image,) = rows_of(found, "image", **{"class": 7})
    (row,) = rows_of(found, "map", **{"class": 7, "network": "poisoned", "images": "clean"})
    picture, overlay = (np.asarray(shown.get_array()) for shown in ax.images)
    assert np.array_equal(picture, np.array(image["picture"])[0])
    assert np.any(row["map"])
    assert overlay.max() == 1
    assert "class 7; poisoned network, clean images, one pair;" in " ".join(ax.get_title().split())
    assert len(ax.lines) == 2 * len(row["rows"]), "the poison is framed"
    for part in ("near", "border"):
        series = marks_of(drawn(found, "shares", part=part))
        looks = rows_of(found, "look")
        assert [y for _, y in series] == [pytest.approx([100 * row[f"{part}_mean"]]) for row in looks]


def test_sam_s_runs_differences_and_shift(runs: Runs) -> None:
    found = runs["sam"]
    methods = rows_of(found, "method", problem="synthetic")
    ax = drawn(found, "runs", problem="synthetic")
    dots = [on_the_axis(ax.lines, i)[1] for i, line in enumerate(ax.lines) if line.get_marker() == "o"]
    assert dots == [pytest.approx([100 * a for a in row["accuracies"]]) for row in methods]
    pairs = rows_of(found, "comparison", problem="synthetic", measure="test_accuracy")
    ax = drawn(found, "differences", problem="synthetic")
    assert [x for x, _ in marks_of(ax)] == [pytest.approx([100 * row["difference"]]) for row in pairs]
    assert len(ax.get_yticklabels()) == len(pairs)
    series = marks_of(drawn(found, "shift", problem="synthetic"))
    names = ("test_accuracy", "shifted_accuracy_0.5", "shifted_accuracy_0.75")
    expected = [100 * row[f"{name}_mean"] for row in methods for name in names]
    assert [y for _, (y,) in series] == pytest.approx(expected)


def test_a_panel_of_its_own_has_a_legend_and_a_part_of_a_figure_is_found(runs: Runs) -> None:
    figure = draw(runs["transfer"], "bars")
    assert len(figure.axes) == 1
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["largest class alone"]
    outer = Figure()
    part = outer.add_subfigure(outer.add_gridspec(1, 2)[1])
    assert draw(runs["search"], "fitness-scatter", part.subplots()) is outer


def test_a_legend_on_a_given_axis_leaves_the_data_free(runs: Runs) -> None:
    figure = Figure(figsize=(5, 4))
    ax = figure.subplots()
    draw(runs["search"], "fitness", ax)
    figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend is not None
    lowest = ax.transData.inverted().transform(legend.get_window_extent().corners())[:, 1].min()
    assert lowest > max(np.max(np.asarray(line.get_ydata(), float)) for line in ax.lines)


def test_unknown_names_are_refused_with_a_list(runs: Runs, tmp_path: Path) -> None:
    for kind, name, choices, said in (
        ("transfer", "bar", {}, "unknown panel of this run 'bar' (did you mean 'bars'?); known: bars"),
        ("transfer", "bars", {"model": "x"}, "unknown model 'x'; known: graynet"),
        ("transfer", "bars", {"modell": "graynet"}, "unknown choice of this panel 'modell' (did you mean 'model'?)"),
        ("search", "fitness", {"model": "graynet"}, "this panel takes no choices, and so no 'model'"),
        ("interpolation", "surface", {"end": "sdg"}, "unknown end 'sdg' (did you mean 'sgd'?); known: sgd, adam"),
        ("gradcam", "class-map", {"true_class": 10}, "unknown true_class '10'"),
    ):
        with pytest.raises(InputError) as error:
            draw(runs[kind], name, **choices)
        assert str(error.value).startswith(said)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"is no run's folder: it has neither config.toml nor study.toml"):
        panels(tmp_path)
    folder = Path(shutil.copytree(runs["transfer"].run_dir, tmp_path / "run"))
    (folder / "results.json").unlink()
    with pytest.raises(InputError, match="has no results yet"):
        draw(folder, "bars")


@pytest.mark.parametrize("wrong", [np.empty((1, 2)), Figure(), "axes", 0, [], "polar", "3d"])
def test_what_is_no_plain_axis_is_refused(runs: Runs, wrong: Any) -> None:
    ax = Figure().add_subplot(projection=wrong) if str(wrong) in ("polar", "3d") else wrong
    with pytest.raises(InputError, match=r"^ax must be one plain axis, .* not a \w+"):
        draw(runs["transfer"], "bars", ax)
    assert not isinstance(ax, Axes) or not ax.has_data()


@pytest.mark.parametrize("wrong", [None, 3, {}])
def test_what_is_no_run_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="a run is a folder, a SearchResult or a study's Findings, not a"):
        panels(wrong)


def test_damaged_results_are_one_line(runs: Runs, tmp_path: Path) -> None:
    found = runs["transfer"]
    damaged: tuple[list[Any], ...] = (
        [{}],
        [1, 2],
        [{k: v for k, v in found.rows[0].items() if k != "accuracies"}],
    )
    for rows in damaged:
        with pytest.raises(InputError, match=r"the results of .* are damaged, or another version's \(\w+Error: "):
            draw(dataclasses.replace(found, rows=rows), "bars")
    folder = Path(shutil.copytree(runs["search"].run_dir, tmp_path / "run"))
    whole = (folder / "generations.csv").read_text()
    for text in (whole[: len(whole) // 2].rpartition(",")[0], whole.replace("fitness_mean", "fit"), whole + "a,b\n"):
        (folder / "generations.csv").write_text(text)
        with pytest.raises(InputError, match=r"generations.csv is damaged \(\w+Error: "):
            draw(folder, "fitness")


def test_candidates_are_points_however_many_networks_they_had(runs: Runs) -> None:
    fields = ("generation", "candidate", "fitness", "semantic_mismatch", "domain_divergence")
    values = [(0, 0, 1.0, 0.5, 0.5), (0, 0, 3.0, 1.5, 1.5), (0, 1, 1.5, 0.75, 0.75), (0, 1, 1.5, 0.25, 1.25)]
    rows = [{"kind": "candidate", **dict(zip(fields, own, strict=True))} for own in values]
    panel = PANELS["fitness-scatter"]
    ax = Figure().subplots()
    assert panel.paint(ax, panel.prepare(rows)) == "n = 2 candidates, means of 2 networks each"
    assert np.asarray(ax.collections[0].get_offsets()).tolist() == [[1.0, 1.0], [1.0, 0.5]]
    assert on_the_axis(ax.lines, 0) == ([1.0], [1.0]), "the best mean, not the best single network"


def test_no_slices_no_panel_and_everything_else_is_drawn(runs: Runs) -> None:
    found = runs["interpolation"]
    for missing in ("slice", "surface"):
        rows = [row for row in found.rows if row["kind"] != missing]
        made = interpolation_figures(rows)
        assert set(made) == {f"{name}-graynet.png" for name in ("line", "around", "correlations")}
        assert (
            len([ax for ax in made["around-graynet.png"].axes if ax.has_data()]) == {"slice": 4, "surface": 2}[missing]
        )


def test_names_are_shown_as_they_are_written(runs: Runs) -> None:
    """No markup of matplotlib's, no label left out of the legend, nothing on two lines."""
    found = runs["defenses"]
    named = {"clean": "clean", "one-pixel-shortcut, N_p = 2": "_a$b$\nTRAIN_poison, N_p = 2"}
    rows = [{**row, "row": named.get(row["row"], "_mine"), "dataset": "$_$", "model": "m$odel"} for row in found.rows]
    odd = dataclasses.replace(found, rows=rows)
    ax = drawn(odd, "defenses")
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == len({row["row"] for row in rows if row["share"] == 1}) + 1
    assert ax.get_title().startswith(r"\$_\$, m\$odel: ")


def test_a_small_heat_map_has_signs_only() -> None:
    ax = Figure(figsize=(1.5, 1.5)).subplots()
    names = {name: name for name in "abcdefghijkl"}
    found = {pair: (-0.5 if "a" in pair else 0.25, 4) for pair in itertools.combinations(names, 2)}
    assert heat_map(ax, names, found).endswith("too small for numbers, so signs only")
    assert {text.get_text() for text in ax.texts} == {"−", "+"}


def test_results_without_a_kind_of_row_offer_no_such_panel(runs: Runs) -> None:
    found = runs["interpolation"]
    old = dataclasses.replace(found, rows=[row for row in found.rows if row["kind"] != "correlation"])
    assert set(panels(found)) - set(panels(old)) == {"correlations"}
