"""One table, a header and rows of words, in the forms that people read: terminal, Markdown, LaTeX and CSV."""

import csv
import io
import textwrap
from collections.abc import Sequence

from darts_hpc.pictures.typeset import INDEXED

Rows = Sequence[Sequence[str]]
TERMINAL = 80
"""Columns of a terminal."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "→": r"$\to$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def blocks(header: Sequence[str], rows: Rows) -> str:
    """Return a table for the terminal, one block per row: for rows that are too long for its lines."""
    width = max(map(len, header))
    lines = ["\n".join(f"{name:<{width}}  {value}" for name, value in zip(header, row, strict=True)) for row in rows]
    return "\n\n".join(lines)


def aligned(header: Sequence[str], rows: Rows, width: int = TERMINAL) -> str:
    """Return a table for the terminal in columns; the words of the first one are wrapped to fit `width`."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = max(12, width - sum(widths[1:]) - 2 * len(widths[1:]))
    lines = []
    for first, *others in [header, *rows]:
        pieces = textwrap.wrap(first, room, subsequent_indent="  ", break_on_hyphens=False) or [""]
        end = "  ".join(cell.ljust(w) for cell, w in zip(others, widths[1:], strict=True))
        lines.append(f"{pieces[0]:<{min(room, widths[0])}}  {end}".rstrip())
        lines += pieces[1:]
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Rows) -> str:
    """Return a table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(header: Sequence[str], rows: Rows, caption: str = "") -> str:
    """Return a table for a paper that loads the package booktabs."""
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    lines += [_latex_line(header), r"\midrule", *map(_latex_line, rows), r"\bottomrule", r"\end{tabular}"]
    if caption:
        lines.append(rf"\caption{{{latex_text(caption)}}}")
    return "\n".join([*lines, r"\end{table}"])


def latex_text(text: str) -> str:
    """Return text as LaTeX that prints it; states of a cell have their subscripts."""
    pieces = INDEXED.split(text)  # words and indices by turns
    written = ["".join(LATEX.get(character, character) for character in words) for words in pieces[::2]]
    indices = [f"$c_{{{index}}}$" for index in pieces[1::2]]
    return "".join(part for pair in zip(written, [*indices, ""], strict=True) for part in pair)


def comma_separated(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV; None is an empty field."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([header, *rows])
    return file.getvalue()


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
