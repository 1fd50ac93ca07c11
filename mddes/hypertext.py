"""Text as HTML: what every page and every notebook shows of a table, escaped."""

import html
from collections.abc import Mapping, Sequence

escape = html.escape


def table(rows: Sequence[Mapping[str, str]], caption: str = "") -> str:
    """Return rows of text, all with the same columns, as a table; nothing for no rows.

    >>> table([{"a": "<1>"}]).partition("<tbody>")[2]
    '<tr><td>&lt;1&gt;</td></tr></tbody></table>'
    """
    if not rows:
        return ""
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in rows)
    return f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraphs(texts: Sequence[str]) -> str:
    """Return each text as a paragraph.

    >>> paragraphs(["a & b"])
    '<p>a &amp; b</p>'
    """
    return "".join(f"<p>{escape(text)}</p>" for text in texts)
