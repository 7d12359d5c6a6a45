"""The comparison as a page: a table, a plot and a reading of what differs by more than chance.

The page has a part between two marks that is written anew; whatever else people wrote stays. It trains nothing itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console

from visavis.models.training.comparison import Entry, compare
from visavis.models.training.settings import TrainingSettings

BEGIN, END = "<!-- begin: visavis compare -->", "<!-- end: visavis compare -->"
Figures = Mapping[str, Mapping[str, Any]]
MEASURES = (("captions", "cider", "CIDEr"), ("questions", "accuracy", "DAQUAR"), ("dialogues", "accuracy", "dialogues"))
"""What runs are compared by: section, figure, name."""
COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("parameters, M", lambda run: f"{run['parameters'] / 1e6:.1f}"),
    ("beside the towers, M", lambda run: f"{run['beside_towers'] / 1e6:.1f}"),
    ("training, min", lambda run: f"{run['train_seconds'] / 60:.1f}"),
    ("first word / encoder", lambda run: _shown(run, "speed", "first_over_encoder", 2)),
    ("CIDEr", lambda run: _shown(run, "captions", "cider")),
    ("BLEU-4", lambda run: _shown(run, "captions", "bleu4")),
    ("DAQUAR", lambda run: _shown(run, "questions", "accuracy")),
    ("dialogues", lambda run: _shown(run, "dialogues", "accuracy")),
    ("dialogues, blind", lambda run: _shown(run, "dialogues", "blind")),
    ("retrieval R@10", lambda run: _shown(run, "retrieval", "r10")),
)
BAR, GAP, LEFT, WIDTH = 14, 26, 330, 760
COLORS = ("#4c78a8", "#f58518", "#54a24b")


def compare_command(
    base: TrainingSettings, steps: int, entries: Sequence[Entry], *, limit: int | None = None, page: Path | None = None
) -> None:
    """Compare, and print the table on standard output; the page is written after every run. Raises as `compare`."""
    console = Console(stderr=True)
    figures: Figures = {}
    for figures in compare(base, steps, entries=entries, limit=limit, tell=console.print):
        if page is not None:
            write_page(page, entries, figures)
    print(table(entries, figures))


def write_page(file: Path, entries: Sequence[Entry], figures: Figures) -> None:
    """Write table, plot (`images/<name>.svg` beside the page) and reading into the page."""
    plot = file.parent / "images" / f"{file.stem}.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(draw_plot(entries, figures), encoding="utf-8")
    image = f"![{plot.stem}](images/{plot.name})"
    part = "\n\n".join([BEGIN, table(entries, figures), image, reading(entries, figures), END])
    page = file.read_text(encoding="utf-8") if file.exists() else "# Comparison\n\n"
    before, found, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if found else "\n"
    file.write_text(before + part + after, encoding="utf-8")


def table(entries: Sequence[Entry], figures: Figures) -> str:
    """Markdown, a row a run that is done."""
    heads = ["run", *(name for name, _ in COLUMNS)]
    rows = [
        [entry.title, *(show(figures[entry.name]) for _, show in COLUMNS)] for entry in entries if entry.name in figures
    ]
    lines = [heads, ["---"] + ["---:"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def reading(entries: Sequence[Entry], figures: Figures) -> str:
    """How each run differs from the first one, in words; a difference counts from two standard errors on."""
    first = figures[entries[0].name]
    budget = first["budget"]
    items = f"at most {budget['limit']} items" if budget["limit"] else "all items"
    lines = [
        f"Every run: {budget['steps']} steps, seed {budget['seed']}, {items} of each development file. Compared with "
        f"*{entries[0].title}*; what lies within two standard errors is not called a difference."
    ]
    for entry in entries[1:]:
        if entry.name in figures:
            said = [_difference(first, figures[entry.name], *measure) for measure in MEASURES]
            lines.append(f"- *{entry.title}*: {'; '.join(part for part in said if part)}.")
    return "\n".join([lines[0], "", *lines[1:]])


def _difference(first: Mapping[str, Any], other: Mapping[str, Any], section: str, figure: str, name: str) -> str:
    if not (first.get(section) and other.get(section)):
        return ""
    change = other[section][figure] - first[section][figure]
    noise = 2 * math.hypot(first["errors"][section], other["errors"][section])
    if abs(change) <= noise:
        return f"{name} no different ({change:+.3f}, noise {noise:.3f})"
    return f"{name} {'better' if change > 0 else 'worse'} by {abs(change):.3f}"


def draw_plot(entries: Sequence[Entry], figures: Figures) -> str:
    """An SVG of bars: every measure of every run, as a share of the best run's."""
    done = [entry for entry in entries if entry.name in figures]
    best = {
        (section, figure): max((_value(figures[entry.name], section, figure) for entry in done), default=0.0) or 1.0
        for section, figure, _ in MEASURES
    }
    shapes, top = [], 34
    for number, (_, _, name) in enumerate(MEASURES):
        shapes.append(f'<rect x="{LEFT + 130 * number}" y="8" width="12" height="12" fill="{COLORS[number]}"/>')
        shapes.append(f'<text x="{LEFT + 130 * number + 18}" y="18">{escape(name)}</text>')
    for entry in done:
        shapes.append(f'<text x="8" y="{top + 27}">{escape(entry.title)}</text>')
        for number, (section, figure, _) in enumerate(MEASURES):
            value = _value(figures[entry.name], section, figure)
            length, y = value / best[section, figure] * (WIDTH - LEFT - 60), top + BAR * number
            shapes.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLORS[number]}"/>')
            shapes.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 10}" font-size="10">{value:.3f}</text>')
        top += BAR * len(MEASURES) + GAP - BAR
    size = f'width="{WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect {size} fill="white"/>', *shapes, "</svg>", ""])


def _value(run: Mapping[str, Any], section: str, figure: str) -> float:
    return float((run.get(section) or {}).get(figure) or 0.0)


def _shown(run: Mapping[str, Any], section: str, figure: str, digits: int = 3) -> str:
    value = (run.get(section) or {}).get(figure)
    return "-" if value is None else f"{value:.{digits}f}"
