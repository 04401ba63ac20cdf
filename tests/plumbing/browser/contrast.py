"""How well a colour stands out from another, as WCAG 2.2 defines it; 4.5 is what normal text needs."""

import re
from functools import reduce

Colour = tuple[float, float, float, float]  # red, green, blue (0 to 255) and how opaque (0 to 1)

# the colour of an element's text, then the backgrounds from the element itself outwards
COLOURS = """
const found = [], element = document.querySelector(arguments[0]), style = getComputedStyle(element);
found.push(element instanceof SVGElement ? style.fill : style.color);
for (let node = element; node; node = node.parentElement) found.push(getComputedStyle(node).backgroundColor);
return found;
"""


def parse(text: str) -> Colour:
    """`rgb(1, 2, 3)` or `rgba(1, 2, 3, 0.5)`, as browsers write computed colours."""
    red, green, blue, *alpha = (float(part) for part in re.findall(r"[0-9.]+", text))
    return red, green, blue, alpha[0] if alpha else 1.0


def over(below: Colour, above: Colour) -> Colour:
    """What is seen of a colour through another."""
    red, green, blue = (a * above[3] + b * (1 - above[3]) for a, b in zip(above[:3], below[:3], strict=True))
    return red, green, blue, 1.0


def luminance(colour: Colour) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in colour[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(colours: list[str]) -> float:
    """The contrast of what `COLOURS` returns: 1 (invisible) to 21 (black on white)."""
    text, *backgrounds = (parse(colour) for colour in colours)
    ground = reduce(over, reversed(backgrounds), (255.0, 255.0, 255.0, 1.0))
    bright, dark = sorted((luminance(over(ground, text)), luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
