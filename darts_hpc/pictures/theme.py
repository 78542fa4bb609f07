"""The colors of all pictures, and an SVG made fit for a page, where a dark theme may set them anew."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

PALETTE = {
    "paper": ("#ffffff", "#10151f"),
    "panel": ("#f6f8fb", "#182030"),
    "rule": ("#dde3ec", "#2c374b"),
    "ink": ("#172033", "#e6ebf4"),
    "muted": ("#5a677b", "#9aa8bd"),
    "accent": ("#1a56db", "#7aa8ff"),
    "second": ("#b4530a", "#f4a55f"),
    "third": ("#0a7268", "#4ccdbc"),
    "cell-ink": ("#1e293b", "#e6ebf4"),
    "cell-line": ("#8b98aa", "#71809a"),
    "cell-input": ("#d3f0dc", "#17402a"),
    "cell-input-line": ("#3f9560", "#55b87c"),
    "cell-node": ("#dbe8fe", "#1d3563"),
    "cell-node-line": ("#4a7fe0", "#6f9ff2"),
    "cell-output": ("#fdeebd", "#4a3a0d"),
    "cell-output-line": ("#c0931a", "#d9ad3c"),
    "op-sep": ("#1d5fd6", "#7cabff"),
    "op-dil": ("#7c3aed", "#b794ff"),
    "op-conv": ("#0b7a70", "#4fd1c0"),
    "op-pool": ("#c2540a", "#f2a25c"),
    "op-skip": ("#5b6675", "#a3b0c4"),
    "op-other": ("#b0246a", "#f58bbd"),
}
"""Name -> color on light paper, and on dark. No two names share a light color: a page finds the name by it."""
COLORS = {name: light for name, (light, _) in PALETTE.items()}
FAMILIES = {"sep": "op-sep", "dil": "op-dil", "conv": "op-conv", "max": "op-pool", "avg": "op-pool"}
PLAIN = {"none": "op-skip", "skip_connect": "op-skip", "noise": "op-skip"}
DASHED = ("avg_pool_3x3", "sep_conv_5x5", "dil_conv_5x5", "skip_connect", "none", "noise")
"""Operations whose lines are dashed, beside another one of the same color."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def operation_color(operation: str) -> str:
    """Name the color of an operation's family, a key of COLORS."""
    return PLAIN.get(operation) or FAMILIES.get(operation.split("_")[0], "op-other")


def for_page(svg: str, label: str, hints: Mapping[str, str] | None = None) -> str:
    """Return an SVG drawn in COLORS as part of a page: as wide as there is room, in the colors of the page's theme.

    label: what a screen reader says. hints: id of a group -> what the pointer shows over it.
    """
    hints = hints or {}
    for prefix, uri in (("", SVG), ("xlink", XLINK)):
        ET.register_namespace(prefix, uri)
    root = ET.fromstring(svg)
    width = root.attrib.pop("width", "")
    root.attrib.pop("height", None)
    root.attrib |= {"role": "img", "aria-label": label, "style": f"max-width: {width}; stroke-linejoin: round"}
    used = set(re.findall(r"#([\w-]+)", " ".join(value for part in root.iter() for value in part.attrib.values())))
    for part in list(root.iter()):
        for child in list(part):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):  # the style would be the whole page's
                part.remove(child)
        if hint := hints.get(part.get("id", "")):
            title = ET.Element(f"{{{SVG}}}title")
            title.text = hint
            part.insert(0, title)
        if part.get("id") not in used:  # several pictures in one page would share them
            part.attrib.pop("id", None)
        for name, value in part.attrib.items():
            part.set(name, _variables(value))
    return ET.tostring(root, encoding="unicode")


def _variables(value: str) -> str:
    for name, color in COLORS.items():
        if color in value:
            value = value.replace(color, f"var(--{name}, {color})")
    return value
