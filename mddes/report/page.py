"""A page that one can send to a colleague: one HTML file without a network, or Markdown, from the same content.

A `Page` is what is said; `as_html` and `as_markdown` write it. All text is escaped here and nowhere else: whoever makes
a page hands over plain text. A content policy in the page forbids every request; the one script sorts tables, and
nothing is lost without it.
"""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from mddes.hypertext import escape, table

STYLE, SCRIPT = (files("mddes.report").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Table:
    """Rows of text, all with the same columns."""

    rows: Sequence[Mapping[str, str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, with what it shows in words for those who cannot see it, and a caption."""

    png: bytes
    alternative: str
    caption: str = ""


@dataclass(frozen=True)
class Link:
    """A list of places beside this page: (text, relative path)."""

    places: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to be typed or kept as it is."""

    text: str


Part = str | Table | Picture | Link | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in order; a plain text is a paragraph."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """What a report says.

    Attributes:
        title: in a line.
        answer: what came out, first.
        key: the picture to look at first.
        sections: the rest.
        banner: what is wrong or unfinished, before all else.
        footer: who wrote it.
    """

    title: str
    answer: Sequence[str]
    key: Picture | None = None
    sections: Sequence[Section] = field(default_factory=tuple)
    banner: Sequence[str] = ()
    footer: str = ""


def with_footer(page: Page, footer: str) -> Page:
    """Return the page with a footer."""
    return dataclasses.replace(page, footer=footer)


def as_html(page: Page) -> str:
    """Return one self-contained HTML file."""
    out = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        '<link rel="icon" href="data:,">',
        f"<style>{STYLE}</style></head><body><main>",
        *(f'<p class="banner" role="alert">{escape(text)}</p>' for text in page.banner),
        f"<h1>{escape(page.title)}</h1>",
        *(f'<p class="answer">{escape(text)}</p>' for text in page.answer),
        _html(page.key) if page.key else "",
    ]
    for section in page.sections:
        out += [f"<section><h2>{escape(section.title)}</h2>", *(_html(part) for part in section.parts), "</section>"]
    out += [f"</main><footer>{escape(page.footer)}</footer>", f"<script>{SCRIPT}</script></body></html>\n"]
    return "\n".join(out)


def _html(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, Code):
        return f"<pre><code>{escape(part.text)}</code></pre>"
    if isinstance(part, Link):
        items = "".join(f'<li><a href="{escape(place)}">{escape(text)}</a></li>' for text, place in part.places)
        return f"<ul>{items}</ul>"
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode()
        caption = f"<figcaption>{escape(part.caption)}</figcaption>" if part.caption else ""
        image = f'<img alt="{escape(part.alternative)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}{caption}</figure>"
    if not part.rows:
        return ""
    label = escape(part.caption or "table")
    return f'<div class="wide" tabindex="0" role="region" aria-label="{label}">{table(part.rows, part.caption)}</div>'


def as_markdown(page: Page) -> str:
    """Return Markdown; pictures are told by their alternative texts, since they would need files of their own."""
    out = [f"# {_plain(page.title)}", *(f"**{_plain(text)}**" for text in page.banner)]
    out += [_plain(text) for text in page.answer]
    out += [_markdown(page.key)] if page.key else []
    for section in page.sections:
        out += [f"## {_plain(section.title)}", *(_markdown(part) for part in section.parts)]
    return "\n\n".join(text for text in [*out, _plain(page.footer)] if text) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, str):
        return _plain(part)
    if isinstance(part, Code):
        fence = "```" if "```" not in part.text else "~~~~"
        return f"{fence}\n{part.text}\n{fence}"
    if isinstance(part, Link):
        return "\n".join(f"- [{_plain(text)}](<{place}>)" for text, place in part.places)
    if isinstance(part, Picture):
        return f"*Figure: {_plain(part.alternative)} {_plain(part.caption)}*".replace(" *", "*")
    if not part.rows:
        return ""
    names = [_plain(name) for name in part.rows[0]]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_plain(cell) for cell in row.values()) + " |" for row in part.rows]
    return "\n".join([*([f"*{_plain(part.caption)}*", ""] if part.caption else []), *lines])


def _plain(text: str) -> str:
    """Return text in which no character means anything to Markdown or to HTML in it, on one line."""
    marks = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"})
    return " ".join(text.translate(marks).split())
