"""What a Grad-CAM study says in tables and sentences; the numbers come from `gradcam.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mddes.studies.findings import verdict

Cell = Mapping[str, Any]


def same_place(a: Cell, b: Cell) -> bool:
    """Return whether two rows are of the same poison, kind of network and copy of the images."""
    return all(a[name] == b[name] for name in ("row", "model", "images"))


def look_table(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Return a row for each poison, network and copy of the images."""
    return [
        {
            "model": cell["model"],
            "poison": cell["row"],
            "network": cell["network"],
            "test images": cell["images"],
            "accuracy (%)": "" if cell["accuracy"] is None else f"{100 * cell['accuracy']:.1f}",
            "near the pixel (%)": _percent(cell, "near"),
            "near random places (%)": _percent(cell, "null"),
            "on the border (%)": _percent(cell, "border"),
            "entropy (0 to 1)": _spread(cell, "entropy", 1, 3),
            "zero maps": f"{cell['zero']} of {cell['maps']}",
            "compared": str(cell["compared"]),
            "n": str(cell["n"]),
        }
        for cell in cells
    ]


def _percent(cell: Cell, name: str) -> str:
    return _spread(cell, name, 100, 1)


def _spread(cell: Cell, name: str, scale: int, digits: int) -> str:
    mean, std = cell[f"{name}_mean"], cell[f"{name}_std"]
    if mean is None:
        return ""
    return f"{scale * mean:.{digits}f}" + ("" if std is None else f" ± {scale * std:.{digits}f}")


def comparison_table(comparisons: Sequence[Cell]) -> list[dict[str, str]]:
    """Return a row for each comparison."""
    rows = []
    for c in comparisons:
        scale, digits = (1, 3) if c["what"] == "entropy" else (100, 1)
        low, high = c["low"], c["high"]
        interval = "" if low is None else f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}"
        rows.append(
            {
                "model": c["model"],
                "poison": c["row"],
                "test images": c["images"],
                "of the poisoned network": c["what"],
                "minus that of": c["against"],
                "difference": f"{scale * c['difference']:+.{digits}f}",
                "95 % interval, uncorrected": interval,
                "p (Holm)": "" if c["p_holm"] is None else f"{c['p_holm']:.2g}",
                "pairs": str(c["n"]),
            }
        )
    return rows


def answer(cells: Sequence[Cell], comparisons: Sequence[Cell], radius: float) -> list[str]:
    """Return in two sentences where networks look that were trained on the last poison named, with and without it."""
    last = next((c for c in reversed(cells) if c["network"] == "poisoned" and c["n"]), None)
    said = []
    for copy, start in (("poisoned", "Where the poison is in the image"), ("clean", "On clean test images")):
        place = None if last is None else {**last, "images": copy}
        found = [c for c in cells if place and same_place(c, place)]
        if len(found) < len(("clean", "poisoned")):
            continue
        rival, cell = (next(c for c in found if c["network"] == network) for network in ("clean", "poisoned"))
        own = [c for c in comparisons if same_place(c, cell)]
        text = f"{start}, {_percent(cell, 'near')} % of the Grad-CAM of {cell['model']} trained on {cell['row']} lies "
        text += f"within {radius:g} pixels of it, of a clean network's {_percent(rival, 'near')} % "
        text += f"({_told(own, 'near', 'the clean network')}), and near random places {_percent(cell, 'null')} % "
        said.append(f"{text}({_told(own, 'near', 'random places')}; {cell['dataset']}, n = {_pairs(cell)}).")
    return said


def sentences(cells: Sequence[Cell], comparisons: Sequence[Cell], radius: float) -> list[str]:
    """Return, for each poison and network, whether attention moves to the poison's pixels and to the border."""
    said = []
    for cell in (cell for cell in cells if cell["network"] == "poisoned" and cell["n"]):
        rival = next(c for c in cells if c["network"] == "clean" and same_place(c, cell))
        own = [c for c in comparisons if same_place(c, cell)]
        text = f"{cell['dataset']}, {cell['model']}, {cell['row']}, {cell['images']} test images: of a poisoned "
        text += (
            f"network's attention {_percent(cell, 'near')} % lies within {radius:g} pixels of the class's own poison, "
        )
        text += f"of a clean network's {_percent(rival, 'near')} % ({_told(own, 'near', 'the clean network')}), near "
        text += f"random places {_percent(cell, 'null')} % ({_told(own, 'near', 'random places')}); on the border "
        text += f"{_percent(cell, 'border')} % against {_percent(rival, 'border')} % "
        text += f"({_told(own, 'border', 'the clean network')}; n = {_pairs(cell)} of networks, mean ± sd). "
        of = f"{cell['maps']} maps ({cell['maps'] // cell['n']} images, {_pairs(cell)})"
        text += f"These are of the {cell['compared']} of {of} that are zero in neither network "
        text += f"(zero: {cell['zero']} of the poisoned network's, {rival['zero']} of the clean one's)."
        said.append(text)
    return said


def _pairs(cell: Cell) -> str:
    return f"{cell['n']} {'pair' if cell['n'] == 1 else 'pairs'}"


def _told(comparisons: Sequence[Cell], what: str, rival: str) -> str:
    c = next((c for c in comparisons if (c["what"], c["against"]) == (what, rival)), None)
    if c is None or c["p_holm"] is None:
        return "not tested"
    word = {"lower than": "lower", "higher than": "higher"}.get(
        verdict(c["difference"], c["p_holm"]), "no difference told"
    )
    return f"{word}, p = {c['p_holm']:.2g}"
