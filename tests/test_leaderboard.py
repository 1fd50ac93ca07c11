"""The leaderboard: ranks within a protocol only, counts nothing twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from mddes import InputError
from mddes.cli import main
from mddes.studies.findings import limits
from mddes.studies.leaderboard import as_text, ranked, read_results
from mddes.studies.statistics import summarise


def numbers(accuracies: list[float]) -> dict[str, Any]:
    """What a study says of them."""
    known = limits(summarise(accuracies) if accuracies else None)
    return {name if name == "n" else f"clean_test_accuracy_{name}": value for name, value in known.items()}


def results(folder: Path, protocol: str, rows: list[tuple[str, int | None, str, list[float]]], **more: Any) -> Path:
    folder.mkdir(parents=True)
    content = {
        "study": "transfer",
        "protocol_hash": protocol,
        "rows": [
            {"dataset": "digits", "poison": p, "pixels": n, "mode": "set", "model": m, "accuracies": a, **numbers(a)}
            for p, n, m, a in rows
        ],
        **more,
    }
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def test_the_worst_poison_for_the_victim_comes_first_and_protocols_stay_apart(tmp_path: Path) -> None:
    one = [("uniform", 1, "graynet", [0.8, 0.9]), ("mdd-es", 1, "graynet", [0.5, 0.6]), ("ops", 5, "graynet", [0.1])]
    results(tmp_path / "a", "aaa", [*one, ("clean", None, "graynet", [0.95])])
    results(tmp_path / "b", "bbb", [("uniform", 1, "graynet", [0.1, 0.1]), ("failed", 1, "graynet", [])])
    board = ranked(read_results([tmp_path]))
    names = {protocol: [[entry.poison for entry in group] for group in groups] for protocol, groups in board.items()}
    assert names == {"aaa": [["clean"], ["mdd-es", "uniform"], ["ops"]], "bbb": [["uniform"]]}


def test_a_folder_named_twice_counts_once(tmp_path: Path) -> None:
    folder = results(tmp_path / "a", "aaa", [("uniform", 1, "graynet", [0.8, 0.9])])
    results(tmp_path / "copy", "aaa", [("uniform", 1, "graynet", [0.8, 0.9])])
    (group,) = ranked(read_results([folder, tmp_path]))["aaa"]
    assert len(group) == 1, "and so does a copy"


def test_what_a_study_was_with_fewer_seeds_adds_nothing(tmp_path: Path) -> None:
    results(tmp_path / "early", "aaa", [("uniform", 1, "graynet", [0.8, 0.9])])
    results(tmp_path / "late", "aaa", [("uniform", 1, "graynet", [0.8, 0.9, 0.7])])
    results(tmp_path / "other", "aaa", [("uniform", 1, "graynet", [0.8, 0.7])])
    (group,) = ranked(read_results([tmp_path]))["aaa"]
    assert [(entry.source, entry.n) for entry in group] == [("other", "2"), ("late", "3")]


def test_write_modes_are_lists_of_their_own(tmp_path: Path) -> None:
    for mode in ("set", "add"):
        folder = results(tmp_path / mode, "aaa", [("uniform", 1, "graynet", [0.8]), ("clean", None, "graynet", [0.9])])
        content = json.loads((folder / "results.json").read_text())
        content["rows"][0]["mode"], content["rows"][1]["mode"] = mode, None
        (folder / "results.json").write_text(json.dumps(content))
    text = as_text(ranked(read_results([tmp_path])))
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == ["### graynet, no N_p", "### graynet, N_p = 1, add", "### graynet, N_p = 1, set"]


def test_several_searches_keep_the_interval_that_counts_them(tmp_path: Path) -> None:
    folder = results(tmp_path / "a", "aaa", [("mdd-es", 1, "graynet", [0.5, 0.6, 0.7, 0.8])])
    content = json.loads((folder / "results.json").read_text())
    content["rows"][0] |= {"searches": 2, "clean_test_accuracy_low": 0.11, "clean_test_accuracy_high": 0.99}
    (folder / "results.json").write_text(json.dumps(content))
    text = as_text(ranked(read_results([folder])))
    assert "| 65.0 ± 12.9 | 11.0 to 99.0 | 4, of 2 searches |" in text


def test_what_a_search_cost_stands_beside_its_rank(tmp_path: Path) -> None:
    folder = results(tmp_path / "a", "aaa", [("mdd-es", 1, "graynet", [0.5, 0.6]), ("uniform", 1, "graynet", [0.7])])
    content = json.loads((folder / "results.json").read_text())
    content["rows"][0]["search_trainings"] = 308
    (folder / "results.json").write_text(json.dumps(content))
    text = as_text(ranked(read_results([folder])))
    assert "| 2 | 308 | a |" in text
    assert "| 1 |  | a |" in text, "none, and of results from before it was counted"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results(tmp_path / "a", "aaa", [("b|d", 1, "graynet", [0.8, 0.9])])
    out = tmp_path / "board.md"
    assert main(["leaderboard", str(tmp_path), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert out.read_text() == text
    assert "| 1 | b\\|d | set | 85.0 ± 7.1 |" in text
    assert main(["leaderboard", str(tmp_path), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"study": "transfer"}', '{"study": "transfer", "protocol_hash": "a", "rows": [{}]}']
)
def test_damaged_results(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match="cannot read results from"):
        read_results([tmp_path])


def test_a_number_of_pixels_that_is_none(tmp_path: Path) -> None:
    results(tmp_path / "a", "aaa", [("uniform", "one", "graynet", [0.8])])  # type: ignore[list-item]
    with pytest.raises(InputError, match="cannot read results from"):
        read_results([tmp_path])


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results of a study"):
        read_results([tmp_path])
