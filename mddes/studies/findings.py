"""What a study ends with: rows for machines, tables and sentences for people, and the protocol they belong to."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mddes.hypertext import paragraphs, table
from mddes.studies.statistics import Summary
from mddes.tasks.run_folder import write_json
from mddes.writing import replace_file

SIGNIFICANT = 0.05
Count = TypeVar("Count", int, str)  # of networks; or in words, as "5 x 5" of searches and networks
ANSWERS = 2  # sentences at the top of a page
RESULTS, TABLE, WIDE, ROWS = "results.json", "table.md", "table.csv", "rows.csv"


@dataclass(frozen=True)
class Findings:
    """The outcome of a study.

    Attributes:
        study: its name.
        protocol: JSON; what two results must agree on to be compared (data, recipe).
        rows: flat, one a cell.
        tables: by title; each a list of rows of text.
        sentences: what the numbers support.
        answer: the same in two sentences, for the top of a page; default the first two.
    """

    study: str
    protocol: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    tables: Mapping[str, Sequence[Mapping[str, str]]]
    sentences: Sequence[str]
    run_dir: Path = field(default_factory=Path)
    answer: Sequence[str] = ()

    @property
    def protocol_hash(self) -> str:
        """The first 12 digits of the protocol's SHA-256: results of another are never ranked together."""
        return hashlib.sha256(json.dumps(self.protocol, sort_keys=True).encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return f"Findings({self.study}, {len(self.rows)} rows, {self.run_dir})"

    def _repr_html_(self) -> str:
        tables = "".join(table(rows, title) for title, rows in self.tables.items())
        told = self.answer or self.sentences
        return paragraphs([*told, f"Folder: {self.run_dir}; protocol {self.protocol_hash}."]) + tables

    def save(self, folder: Path) -> None:
        """Write results.json, table.md, table.csv (the first of its tables) and rows.csv (a line for each cell)."""
        head = {"study": self.study, "protocol_hash": self.protocol_hash, "protocol": self.protocol}
        head["answer"] = self.answer or self.sentences[:ANSWERS]
        write_json(folder / RESULTS, {**head, "sentences": self.sentences, "tables": self.tables, "rows": self.rows})
        replace_file(folder / TABLE, self.markdown())
        replace_file(folder / WIDE, _as_csv(next(iter(self.tables.values()), [])))
        flat = [{k: v for k, v in row.items() if not isinstance(v, list | dict)} for row in self.rows]
        replace_file(folder / ROWS, _as_csv(flat))

    def markdown(self) -> str:
        """Return sentences and tables as Markdown."""
        parts = [f"# {self.study}", *self.sentences]
        for title, rows in self.tables.items():
            if rows:
                parts += [f"## {title}", as_markdown(rows)]
        return "\n\n".join([*parts, f"Protocol {self.protocol_hash}."]) + "\n"


def slashed(counts: Iterable[Count]) -> str:
    """Return the different counts, in order: the n of what does not always have the same.

    >>> slashed([5, 4, 5]), slashed([5])
    ('4/5', '5')
    """
    return "/".join(map(str, sorted({*counts})))


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    r"""Return rows of text as a Markdown table.

    >>> print(as_markdown([{"a": "1", "b": "x|y"}]))
    | a | b |
    |---|---|
    | 1 | x\|y |
    """
    names = list(rows[0])
    lines = [names, *([row[name] for name in names] for row in rows)]
    text = ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(names), *text[1:]])


def percent(summary: Summary | None, failed: int = 0) -> str:
    """Return mean ± sd in percent; where trainings failed, also how many are left.

    >>> percent(Summary(3, 0.913, 0.0149, 0.88, 0.95)), percent(None)
    ('91.3 ± 1.5', 'failed')
    >>> percent(Summary(2, 0.913, 0.0149, 0.88, 0.95), failed=1)
    '91.3 ± 1.5 (n = 2)'
    """
    if summary is None:
        return "failed"
    spread = "" if summary.std is None else f" ± {100 * summary.std:.1f}"
    left = f" (n = {summary.n})" if failed else ""
    return f"{100 * summary.mean:.1f}{spread}{left}"


def limits(summary: Summary | None) -> dict[str, float | int | None]:
    """Return n, mean, std, low and high of accuracies; the interval's ends within 0 .. 1."""
    if summary is None:
        return {"n": 0, "mean": None, "std": None, "low": None, "high": None}
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (summary.low, summary.high))
    return {"n": summary.n, "mean": summary.mean, "std": summary.std, "low": low, "high": high}


def verdict(difference: float, p: float | None) -> str:
    """Return whether a corrected test tells two rows apart, in words.

    >>> verdict(-0.3, 0.01), verdict(-0.3, 0.2), verdict(-0.3, None)
    ('lower than', 'not distinguishable from', 'not tested against')
    """
    if p is None:
        return "not tested against"
    if p >= SIGNIFICANT:
        return "not distinguishable from"
    return "lower than" if difference < 0 else "higher than"
