"""Draw the two cells of a genotype with graphviz: files, one picture for TensorBoard, or SVG inside a page."""

import functools
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import graphviz
import numpy as np

from darts_hpc.pictures.theme import COLORS, for_page, operation_color
from darts_hpc.pictures.typeset import plain
from darts_hpc.space.genotypes import Genotype

log = logging.getLogger(__name__)

CELLS = {"normal": "Normal cell", "reduce": "Reduction cell"}
FILE_SUFFIXES = {"normal": "normal", "reduce": "reduction"}
INSTALL_HINT = (
    "graphviz's `dot` program is not installed, so cells can't be drawn as pictures; install it with one of: "
    "apt install graphviz, brew install graphviz, conda install graphviz"
)

INDEX_POINTS, INDEX_DROP = 11, 4
"""Size of an index, and how far below the line it stands."""
WORDS = {"shape": "none", "style": "", "fontsize": "12", "width": "0", "height": "0", "margin": "0.04,0.03"}
"""How an operation's name is drawn."""
EDGE = re.compile(r"([^ ;&]+)-&gt;([^ ;&]+) \d+")
"""The states that an operation joins, in the title of its name or of either half of its edge."""


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


def cell_svgs(genotype: Genotype, cell: str) -> tuple[str, str]:
    """Return one cell ("normal" or "reduce") as SVG for a page: for a wide screen, and for a phone.

    Both are the same where the cell is narrowest from left to right. Both are "" without the `dot` program.
    """
    drawn = [_svg_for_page(genotype, cell, direction) for direction in ("LR", "TB")]
    wide, narrow = drawn
    return (wide, narrow) if narrow and _width(narrow) < _width(wide) else (wide, wide)


def describe_cell(genotype: Genotype, cell: str) -> list[str]:
    """Return one line per node, such as `0 = sep_conv_3x3(cₖ₋₂) + skip_connect(cₖ₋₁)`, and one for the output."""
    edges = getattr(genotype, cell)
    terms = [f"{operation}({state_name(state)})" for operation, state in edges]
    lines = [f"{node} = {terms[2 * node]} + {terms[2 * node + 1]}" for node in range(len(edges) // 2)]
    lines.append(f"c_{{k}} = concat({', '.join(state_name(s) for s in getattr(genotype, f'{cell}_concat'))})")
    return [plain(line) for line in lines]


def state_name(state: int) -> str:
    """Name a state of a cell: its inputs are c_{k-2} and c_{k-1}, then the nodes count from 0."""
    return ("c_{k-2}", "c_{k-1}")[state] if state < 2 else str(state - 2)


def _svg_for_page(genotype: Genotype, cell: str, direction: str) -> str:
    graph = _graph("transparent", direction)
    _add_cell(graph, genotype, cell)
    picture = _render(graph, "svg")
    if picture is None:
        return ""
    svg = re.sub(r"<title>(.*?)</title>", _hint, picture.decode().replace("&#45;", "-"))
    return for_page(svg, CELLS[cell])


def _hint(title: re.Match) -> str:
    """Write what the pointer shows: a node's or an edge's name, and not that of the graph, which is %3."""
    edge = EDGE.search(title[1])
    name = f"{edge[1]}-&gt;{edge[2]}" if edge else title[1]
    return "" if name.startswith("%") else f"<title>{plain(name).replace('-&gt;', '→')}</title>"


def _width(svg: str) -> float:
    return float(svg.partition('viewBox="')[2].split()[2])


def _graph(background: str, direction: str = "LR") -> graphviz.Digraph:
    return graphviz.Digraph(
        graph_attr={
            "rankdir": direction,
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
    """Add a cell's nodes and edges. An operation's name interrupts its edge; beside it, others would cross the name."""
    edges = getattr(genotype, cell)
    names = [prefix + state_name(state) for state in range(2 + len(edges) // 2)]
    output = prefix + "c_{k}"
    for name, index in zip(names, ("k-2", "k-1"), strict=False):
        graph.node(name, _indexed(index), fillcolor=COLORS["cell-input"], color=COLORS["cell-input-line"])
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
    graph.node(output, _indexed("k"), fillcolor=COLORS["cell-output"], color=COLORS["cell-output-line"])
    for position, (operation, state) in enumerate(edges):
        color = COLORS[operation_color(operation)]
        style = "dashed" if operation == "skip_connect" else "solid"
        source, target = names[state], names[2 + position // 2]
        words = f"{source}->{target} {position}"  # two edges may join the same states
        graph.node(words, graphviz.escape(operation), **WORDS, fontcolor=color)
        graph.edge(source, words, color=color, style=style, arrowhead="none")
        graph.edge(words, target, color=color, style=style)
    for state in getattr(genotype, f"{cell}_concat"):
        graph.edge(names[state], output, color=COLORS["cell-line"], penwidth="1.1")


def _indexed(index: str) -> str:
    return f'<c<SUB><FONT POINT-SIZE="{INDEX_POINTS}">{index}</FONT></SUB>>'


def _render(graph: graphviz.Digraph, kind: str) -> bytes | None:
    """Run dot; None when it is not installed. Raises ValueError when this dot can't write that format."""
    if kind == "png":  # dot crops an SVG that has a resolution
        graph = graph.copy()
        graph.attr(dpi="120")
    try:
        picture = graph.pipe(format=kind)
        if kind == "svg":  # half of the renderers don't know this attribute
            picture = picture.replace(b'baseline-shift="sub"', b'dy="%d"' % INDEX_DROP)
        return picture
    except graphviz.ExecutableNotFound:
        _hint_once()
        return None
    except graphviz.CalledProcessError as error:
        reason = (error.stderr or b"").decode(errors="replace").strip()
        raise ValueError(f"graphviz's `dot` could not write {kind}: {reason}") from None


@functools.cache
def _hint_once() -> None:
    log.warning(INSTALL_HINT)
