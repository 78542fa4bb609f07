"""Draw the two cells of a genotype with graphviz: files, one picture for TensorBoard, or SVG inside a page."""

import functools
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import graphviz
import numpy as np

from darts_hpc.space.genotypes import Genotype

log = logging.getLogger(__name__)

CELLS = {"normal": "Normal cell", "reduce": "Reduction cell"}
FILE_SUFFIXES = {"normal": "normal", "reduce": "reduction"}
INSTALL_HINT = (
    "graphviz's `dot` program is not installed, so cells can't be drawn as pictures; install it with one of: "
    "apt install graphviz, brew install graphviz, conda install graphviz"
)

COLORS = {
    "cell-ink": "#1e293b",
    "cell-line": "#8b98aa",
    "cell-input": "#d3f0dc",
    "cell-input-line": "#3f9560",
    "cell-node": "#dbe8fe",
    "cell-node-line": "#4a7fe0",
    "cell-output": "#fdeebd",
    "cell-output-line": "#c0931a",
    "op-sep": "#1d5fd6",
    "op-dil": "#7c3aed",
    "op-conv": "#0b7a70",
    "op-pool": "#c2540a",
    "op-skip": "#5b6675",
}
"""Every color by its name. In a page each is a CSS variable of that name, which a dark theme may set anew."""


def draw_genotype(genotype: Genotype, stem: Path, formats: Sequence[str] = ("svg", "pdf", "png")) -> list[Path]:
    """Write both cells as `<stem>_normal.<format>` and `<stem>_reduction.<format>`; return the paths.

    Without the `dot` program the .gv sources are written instead, and an install hint is logged.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for cell, suffix in FILE_SUFFIXES.items():
        graph = _graph(background="white")
        _add_cell(graph, genotype, cell)
        pictures = {kind: _render(graph, kind) for kind in formats}
        if None in pictures.values():
            pictures = {"gv": graph.source.encode()}
        for kind, picture in pictures.items():
            paths.append(stem.with_name(f"{stem.name}_{suffix}.{kind}"))
            paths[-1].write_bytes(picture or b"")
    return paths


def cell_image(genotype: Genotype) -> np.ndarray | None:
    """Return one picture of both cells, uint8 (H, W, 3); None without the `dot` program."""
    graph = _graph(background="white")
    for cell, title in reversed(CELLS.items()):  # dot stacks them from the bottom up
        box = {"label": f"<<B>{title}</B>>", "labeljust": "l", "fontsize": "15", "pencolor": "none", "margin": "14"}
        cluster = graphviz.Digraph(name=f"cluster_{cell}", graph_attr=box)
        _add_cell(cluster, genotype, cell, prefix=cell)
        graph.subgraph(cluster)
    picture = _render(graph, "png")
    if picture is None:
        return None
    from PIL import Image

    return np.array(Image.open(io.BytesIO(picture)).convert("RGB"))


def cell_svg(genotype: Genotype, cell: str) -> str:
    """Return one cell ("normal" or "reduce") as SVG for a page of either theme; "" without the `dot` program."""
    graph = _graph(background="transparent")
    _add_cell(graph, genotype, cell)
    picture = _render(graph, "svg")
    if picture is None:
        return ""
    svg = picture.decode()
    svg = svg[svg.index("<svg") :]
    for name, color in COLORS.items():
        svg = svg.replace(f'"{color}"', f'"var(--{name}, {color})"')
    svg = re.sub(r' id="[^"]*"', "", svg)  # several cells in one page would share them
    return svg.replace("<svg ", f'<svg role="img" aria-label="{CELLS[cell]}" ', 1)


def describe_cell(genotype: Genotype, cell: str) -> list[str]:
    """Return one line a node, such as `0 = sep_conv_3x3(c_{k-2}) + skip_connect(c_{k-1})`, and one for the output."""
    edges = getattr(genotype, cell)
    terms = [f"{operation}({state_name(state)})" for operation, state in edges]
    lines = [f"{node} = {terms[2 * node]} + {terms[2 * node + 1]}" for node in range(len(edges) // 2)]
    return [*lines, f"c_{{k}} = concat({', '.join(state_name(s) for s in getattr(genotype, f'{cell}_concat'))})"]


def state_name(state: int) -> str:
    """Name a state of a cell: its inputs are c_{k-2} and c_{k-1}, then the nodes count from 0."""
    return ("c_{k-2}", "c_{k-1}")[state] if state < 2 else str(state - 2)


def operation_color(operation: str) -> str:
    """Name the color of an operation's family, a key of COLORS."""
    if operation.endswith("pool_3x3"):
        return "op-pool"
    family = operation.split("_")[0]
    return {"sep": "op-sep", "dil": "op-dil", "conv": "op-conv"}.get(family, "op-skip")


def _graph(background: str) -> graphviz.Digraph:
    return graphviz.Digraph(
        graph_attr={
            "rankdir": "LR",
            "bgcolor": background,
            "pad": "0.15",
            "nodesep": "0.28",
            "ranksep": "0.45",
            "fontname": "Helvetica",
            "fontcolor": COLORS["cell-ink"],
        },
        node_attr={
            "shape": "box",
            "style": "filled,rounded",
            "penwidth": "1.4",
            "width": "0.62",
            "height": "0.5",
            "margin": "0.12,0.04",
            "fontname": "Helvetica",
            "fontsize": "16",
            "fontcolor": COLORS["cell-ink"],
        },
        edge_attr={"fontname": "Helvetica", "fontsize": "12", "penwidth": "1.6", "arrowsize": "0.7"},
    )


def _add_cell(graph: graphviz.Digraph, genotype: Genotype, cell: str, prefix: str = "") -> None:
    edges = getattr(genotype, cell)
    names = [prefix + state_name(state) for state in range(2 + len(edges) // 2)]
    output = prefix + "c_{k}"
    for name, label in ((names[0], "<c<SUB>k-2</SUB>>"), (names[1], "<c<SUB>k-1</SUB>>")):
        graph.node(name, label, fillcolor=COLORS["cell-input"], color=COLORS["cell-input-line"])
    for node, name in enumerate(names[2:]):
        graph.node(
            name,
            str(node),
            fillcolor=COLORS["cell-node"],
            color=COLORS["cell-node-line"],
            shape="circle",
            width="0.5",
            margin="0.02",
        )
    graph.node(output, "<c<SUB>k</SUB>>", fillcolor=COLORS["cell-output"], color=COLORS["cell-output-line"])
    for position, (operation, state) in enumerate(edges):
        color = COLORS[operation_color(operation)]
        style = "dashed" if operation == "skip_connect" else "solid"
        target = names[2 + position // 2]
        graph.edge(names[state], target, label=f" {operation} ", color=color, fontcolor=color, style=style)
    for state in getattr(genotype, f"{cell}_concat"):
        graph.edge(names[state], output, color=COLORS["cell-line"], penwidth="1.1")


def _render(graph: graphviz.Digraph, kind: str) -> bytes | None:
    """Run dot; None when it is not installed. Raises ValueError when this dot can't write that format."""
    if kind == "png":  # dot crops an SVG that has a resolution
        graph = graph.copy()
        graph.attr(dpi="120")
    try:
        return graph.pipe(format=kind)
    except graphviz.ExecutableNotFound:
        _hint_once()
        return None
    except graphviz.CalledProcessError as error:
        reason = (error.stderr or b"").decode(errors="replace").strip()
        raise ValueError(f"graphviz's `dot` could not write {kind}: {reason}") from None


@functools.cache
def _hint_once() -> None:
    log.warning(INSTALL_HINT)
