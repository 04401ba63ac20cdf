"""Draws the pictures of this folder from their texts: `python docs/pictures/draw.py` writes an .svg beside each .txt.

A line is a box (`name column row kind words`) or an arrow (`from -> to` and maybe `: words`).
"""

import re
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDE, HIGH, BOX, TALL, EDGE = 226, 84, 158, 44, 16  # of a cell, of a box, of the margin
COLOURS = {"step": "#e8f0fe", "data": "#fff4de", "decision": "#fde8e8", "person": "#e6f4ea"}
ARROW = re.compile(r"(\w+) -> (\w+)(?: : (.+))?")
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" \
font-family="system-ui, sans-serif" font-size="13" text-anchor="middle">
<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>
<rect width="{0}" height="{1}" rx="8" fill="#fff"/>"""


def border(start: tuple[float, float], to: tuple[float, float]) -> tuple[float, float]:
    """Where the line from one box's middle to another's leaves the first."""
    across, down = to[0] - start[0], to[1] - start[1]
    part = min((BOX / 2) / abs(across) if across else 9, (TALL / 2) / abs(down) if down else 9)
    return start[0] + part * across, start[1] + part * down


def drawn(text: str) -> str:
    """The picture."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    arrows = [found.groups() for line in lines if (found := ARROW.fullmatch(line))]
    boxes = {box[0]: box for box in (line.split(None, 4) for line in lines if " -> " not in line)}
    middles = {
        name: (EDGE + float(column) * WIDE + BOX / 2, EDGE + float(row) * HIGH + TALL / 2)
        for name, column, row, *_ in boxes.values()
    }
    sides = [round(max(place[axis] for place in middles.values()) + half + EDGE) for axis, half in ((0, 79), (1, 22))]
    parts = [HEAD.format(*sides)]
    for begin, end, words in arrows:
        (x, y), (to, below) = border(middles[begin], middles[end]), border(middles[end], middles[begin])
        line = f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{to:.0f}" y2="{below:.0f}" stroke="#555" marker-end="url(#end)"/>'
        said = f'<text x="{(x + to) / 2 + 4:.0f}" y="{(y + below) / 2 - 5:.0f}" font-size="11" fill="#555">{{}}</text>'
        parts += [line, *([said.format(escape(words))] if words else [])]
    for name, _, _, kind, words in boxes.values():
        x, y = middles[name]
        place = f'x="{x - BOX / 2:.0f}" y="{y - TALL / 2:.0f}" width="{BOX}" height="{TALL}"'
        parts.append(f'<rect {place} rx="{22 if kind == "data" else 6}" fill="{COLOURS[kind]}" stroke="#555"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="#111">{escape(words)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    for file in HERE.glob("*.txt"):
        file.with_suffix(".svg").write_text(drawn(file.read_text(encoding="utf-8")), encoding="utf-8")
