"""Reports: what a page says, that nothing of a file's text becomes HTML, and runs that are unfinished or damaged."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from cases import lines
from matplotlib.figure import Figure
from test_transfer import config as transfer_config

import mddes
from mddes import InputError
from mddes.cli import main
from mddes.pages import write_report
from mddes.report.diagnostics import strategy_diagnostics, timeline
from mddes.report.figures import read_generations
from mddes.report.page import Code, Link, Page, Part, Picture, Section, Table, as_html, as_markdown
from mddes.report.perturbation_map import perturbation_map
from mddes.study import study

EVIL = '<script>alert("1")</script>&"\'`|*'


class Reader(HTMLParser):
    """Collects what a browser would take for markup and for text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "every element is closed where it was opened"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read_html(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


def whole() -> Page:
    """Return a page that says the same dangerous text in every place."""
    parts: list[Part] = [
        EVIL,
        Table([{EVIL: EVIL}], EVIL),
        Picture(b"png", EVIL, EVIL),
        Code(EVIL),
        Link([(EVIL, EVIL)]),
    ]
    return Page(EVIL, [EVIL], Picture(b"png", EVIL, EVIL), [Section(EVIL, parts)], [EVIL], EVIL)


def test_no_text_becomes_markup() -> None:
    found = read_html(as_html(whole()))
    assert sum(tag == "script" for tag, _ in found.tags) == 1, "the page's own"
    assert "".join(found.text).count(EVIL) >= 10
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert all(attributes["alt"] == EVIL for attributes in images)
    assert all((attributes["src"] or "").startswith("data:image/png;base64,") for attributes in images)
    markdown = as_markdown(whole())
    outside_code = re.sub(r"```.*?```|~~~~.*?~~~~|\(<.*?>\)", "", markdown, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside_code)


def test_a_page_asks_for_nothing() -> None:
    text = as_html(whole())
    found = read_html(text)
    for tag, attributes in found.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not (tag == "script" and "src" in attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
    policy = [a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    assert "@import" not in text
    assert "url(" not in text


def test_what_is_wrong_comes_first_then_the_answer_then_the_picture() -> None:
    page = Page("title", ["answer"], Picture(b"x", "shown"), [Section("rest", ["text"])], ["not finished"])
    text = as_html(page)
    body = text[text.index("<main>") :]
    order = [body.index(part) for part in ("not finished", "title", "answer", "shown", "rest")]
    assert order == sorted(order)
    assert as_markdown(page).startswith("# title\n\n**not finished**\n\nanswer\n\n*Figure: shown*\n\n## rest\n\ntext")


def test_the_page_of_a_search(finished: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    before = {path.name for path in folder.iterdir()}
    path = write_report(folder)
    assert path == folder / "report.html"
    assert {p.name for p in folder.iterdir()} == before | {"report.html"}
    found = read_html(path.read_text())
    text = " ".join(found.text)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["sentence"] in text
    assert "not finished" not in text
    for row in summary["clean_test_accuracy"].values():
        assert ", ".join(f"{100 * a:.1f}" for a in row["accuracies"]) in text
    winner = mddes.Perturbation.load(folder / "perturbation.json")
    assert "; ".join(f"{r}, {c}" for r, c in zip(winner.rows[0], winner.cols[0], strict=True)) in text
    headings = [t for t in ("Result", "The poison", "The search", "Method", "Settings", "Environment") if t in text]
    assert len(headings) == 6
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 6
    assert all(len(attributes["alt"] or "") > 20 for attributes in images)
    assert "sigma0" in text


def test_an_unfinished_search_says_so_first(finished: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    for name in ("summary.json", "perturbation.json", "generations.csv", "victims.jsonl"):
        (folder / name).unlink()
    shutil.rmtree(folder / "figures")
    kept = (folder / "evaluations.jsonl").read_bytes().splitlines(keepends=True)[:4]
    (folder / "evaluations.jsonl").write_bytes(b"".join(kept))
    text = write_report(folder, format="md").read_text()
    title, banner, answer = text.split("\n\n")[:3]
    assert title.startswith("# MDD-ES on digits")
    assert banner == "**This run is not finished: it has stopped. To go on: mddes resume run**"
    assert answer.startswith("3 trainings of candidates so far; the best single fitness is")
    (folder / "evaluations.jsonl").write_bytes(kept[0])
    assert "Nothing has been trained yet" in write_report(folder).read_text()


def test_failures_are_told_with_their_reasons(finished: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    changed = []
    for line in lines(folder / "evaluations.jsonl"):
        if line.get("phase") == "search" and line["candidate"] == 1 and line["generation"] == 0:
            kept = ("key", "phase", "generation", "candidate", "repeat", "seed", "asked", "perturbation")
            failed = {k: line[k] for k in kept} | {"status": "failed", "reason": f"ValueError: {EVIL}"}
            changed.append(json.dumps(failed) + "\n")
        else:
            changed.append(json.dumps(line) + "\n")
    (folder / "evaluations.jsonl").write_text("".join(changed))
    found = read_html(write_report(folder).read_text())
    assert f"1 trainings failed: 1 x ValueError: {EVIL}" in found.text
    assert sum(tag == "script" for tag, _ in found.tags) == 1


def test_the_page_of_a_study_and_the_index(finished: Any, tmp_path: Path) -> None:
    runs = tmp_path / "<script>runs"
    found = study("transfer", transfer_config(runs, poisons=("clean", "uniform")))
    for number in (1, 2, 3):
        copy = Path(shutil.copytree(finished.run_dir, runs / f"search#{number}"))
        if number == 2:  # another seed; the third is a copy of the first, and no third search
            settings = (copy / "config.toml").read_text()
            (copy / "config.toml").write_text(settings.replace("seed = 0\n", "seed = 5\n"))
    (runs / "not-a-run").mkdir()
    page = read_html(write_report(found.run_dir).read_text())
    text = " ".join(page.text)
    assert found.sentences[0] in text
    for rows in found.tables.values():
        assert all(cell in text for row in rows for cell in row.values())
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == [
        "Bars: clean test accuracy under each poison, a panel for each network, with 95 % intervals."
    ]
    index = write_report(runs)
    assert index == runs / "index.html"
    page = read_html(index.read_text())
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert len(links) == 4
    assert all((runs / unquote(link)).is_file() for link in links)
    assert all(link.startswith("./") and "#" not in link for link in links)
    text = " ".join(page.text)
    assert "mean ± sd between 2 searches" in text
    assert "4 runs, all finished." in text
    (runs / "search#1" / "config.toml").write_text("pixels = = 3\n")
    text = " ".join(read_html(write_report(runs).read_text()).text)
    assert "No report of search#1" in text
    assert "3 runs, all finished." in text


def test_a_study_that_has_not_ended_has_a_page(tmp_path: Path) -> None:
    found = study("transfer", transfer_config(tmp_path, poisons=("clean",)))
    for name in ("results.json", "standing.json", "table.md"):
        (found.run_dir / name).unlink()
    shutil.rmtree(found.run_dir / "figures")
    text = write_report(found.run_dir, format="md").read_text()
    assert "**This run is not finished: it has stopped." in text
    assert "There are no results yet." in text
    (found.run_dir / "results.json").write_text('{"rows": 3}')
    with pytest.raises(InputError, match=r"cannot read results from .*results.json"):
        write_report(found.run_dir)


def test_from_the_command_line(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    assert main(["report", str(folder), "--format", "md"]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.md'}\n"
    for wrong, said in (
        ([str(tmp_path / "none")], "is no run's folder, and holds none"),
        ([str(folder), "--format", "pdf"], "pdf"),
        ([], "RUN"),
    ):
        assert main(["report", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_what_is_drawn_of_a_strategy_is_what_was_sampled(finished: Any) -> None:
    records = [r for r in lines(finished.run_dir / "evaluations.jsonl") if r.get("phase") == "search"]
    figure = strategy_diagnostics(read_generations(finished.run_dir / "generations.csv"), records)
    _, spread, moved = figure.axes
    first = [r["asked"] for r in records if r["generation"] == 0]
    largest = spread.lines[0].get_ydata()
    assert np.asarray(largest)[0] == pytest.approx(np.std(first, axis=0, ddof=1).max())
    second = [r["asked"] for r in records if r["generation"] == 1]
    distance = np.linalg.norm(np.mean(second, axis=0) - np.mean(first, axis=0))
    assert np.asarray(moved.lines[0].get_ydata())[1] == pytest.approx(distance)
    own = Figure().subplots()
    timeline(own, records)
    assert sum(len(bars.get_paths()) for bars in own.collections) == len(records)


def test_what_a_notebook_shows(finished: Any, tmp_path: Path) -> None:
    shown = read_html(finished._repr_html_())
    text = " ".join(shown.text)
    assert finished.sentence in text
    assert repr(finished.perturbation) in text
    assert repr(finished) == f"SearchResult({finished.run_dir}: {finished.sentence})"
    poison = mddes.load_poison("digits-np5")
    rows = [tag for tag, _ in read_html(poison._repr_html_()).tags if tag == "tr"]
    assert len(rows) == 11
    found = study("transfer", transfer_config(tmp_path, poisons=("clean",)))
    assert repr(found) == f"Findings(transfer, 1 rows, {found.run_dir})"
    assert found.sentences == [] or found.sentences[0] in " ".join(read_html(found._repr_html_()).text)


def test_a_perturbation_s_map_names_the_classes_at_their_pixels_on_a_given_axis() -> None:
    poison = mddes.left_column(mddes.load_dataset("digits").train, pixels=1)
    own = Figure().subplots()
    assert perturbation_map(own, poison) == "1 pixel a class, mode set; numbers are classes"
    labels = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in own.texts}
    assert len(labels) == 10
    for k in range(10):
        assert labels[poison.rows[k, 0], poison.cols[k, 0]] == str(k)
    (shades,) = (image.get_array() for image in own.images)
    assert shades is not None
    assert np.nansum(~np.isnan(np.ma.filled(shades, np.nan))) == 10


def test_a_random_search_is_not_called_by_another_s_name(finished: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    settings = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(settings.replace('algorithm = "cma-es"', 'algorithm = "random"'))
    text = write_report(folder, format="md").read_text()
    assert text.startswith("# Random search on digits")
    assert "with CMA-ES" not in text
