"""A genotype is two cells as lists of (operation, input state). JSON and the original's text are read and written."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from darts_hpc.space.genotype_text import LARGEST, fields_of, is_text, shortened
from darts_hpc.suggest import did_you_mean
from darts_hpc.user_files import exists, is_file, is_folder, read_file, read_text, shown

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Candidate operations of an edge in the search (paper, section 3.1), in the order of alpha's columns."""

OPERATION_NAMES = [*PRIMITIVES, "sep_conv_7x7", "conv_7x1_1x7", "noise", "max_pool_3x3_bn", "avg_pool_3x3_bn"]
"""Every operation that a genotype may name; OPERATIONS in operations.py builds each. Add your own to both.

NASNet and AmoebaNet need sep_conv_7x7 and conv_7x1_1x7; noise is a candidate of the space s4. DrNAS trains its networks
with a BatchNorm behind each pool, and writes max_pool_3x3 for max_pool_3x3_bn.
"""

PARAMETER_FREE = frozenset(
    {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "max_pool_3x3_bn", "avg_pool_3x3_bn", "noise"}
)
"""Operations without weights, but for a BatchNorm's."""

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")

Edges = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Genotype:
    """Two derived cells. States 0 and 1 are the two previous cells; edges 2i and 2i+1 enter node i, which is state i+2.

    Raises ValueError, naming the field, where an operation, an input or a concatenated state can't exist.
    """

    normal: Edges
    normal_concat: tuple[int, ...]
    reduce: Edges
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            _check_edges(cell, getattr(self, cell))
            _check_concat(f"{cell}_concat", getattr(self, f"{cell}_concat"), 2 + len(getattr(self, cell)) // 2)

    @property
    def num_skip_connects(self) -> int:
        """Skip connections in the normal cell: many of them are the sign of a collapsed search."""
        return sum(operation == "skip_connect" for operation, _ in self.normal)

    @property
    def num_parameter_free(self) -> int:
        """Edges of the normal cell whose operation has no weights: skip connections, pools and noise."""
        return sum(operation in PARAMETER_FREE for operation, _ in self.normal)

    def to_dict(self) -> dict[str, list]:
        """Plain lists, as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """Return the original's text, as its logs and forks print it."""
        concat = [_range_text(self.normal_concat), _range_text(self.reduce_concat)]
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={concat[0]}, "
            f"reduce={list(self.reduce)}, reduce_concat={concat[1]})"
        )


def parse_genotype(source: str | Mapping) -> Genotype:
    """Read a genotype from a mapping, JSON text or the original's `Genotype(normal=[...], ...)` text.

    The text may be a line of a log, a Python file with an assignment, a run's genotypes.jsonl or result.json. It is
    parsed, never evaluated. Nested pairs per node, as pt.darts prints them, are accepted.
    Raises ValueError with one line that says what is wrong.
    """
    fields = fields_of(source)
    missing = [name for name in FIELDS if name not in fields]
    if missing:
        raise ValueError(f"genotype has no {missing[0]!r}; it needs {', '.join(FIELDS)}")
    return Genotype(
        normal=_edges("normal", fields["normal"]),
        normal_concat=_states("normal_concat", fields["normal_concat"]),
        reduce=_edges("reduce", fields["reduce"]),
        reduce_concat=_states("reduce_concat", fields["reduce_concat"]),
    )


def load_genotype(name_or_path: str, *, unfinished: bool = False, flag: str = "--arch") -> Genotype:
    """Return a published cell by name, or the cell in a genotype file, a run folder, or the text itself.

    A run folder gives the last line of its genotypes.jsonl, which is the final cell. That of a search which has not
    come to its end is refused, unless `unfinished` asks for the cell so far. `flag` is what it was given by.
    Raises ValueError for anything else, with the nearest name.
    """
    if name_or_path in GENOTYPES:
        return GENOTYPES[name_or_path]
    if is_text(name_or_path):
        return parse_genotype(name_or_path)
    path = Path(name_or_path)
    try:
        is_run, is_there = is_folder(path), exists(path)
    except ValueError as error:  # too long, or in a folder that this user may not enter
        raise ValueError(f"{flag} {error}".strip()) from None
    if is_run:
        genotype = _genotype_of_run(path)
        if not unfinished and is_unfinished_search(path):
            raise ValueError(
                f"--arch {path}: this search has not come to its end, so its cell is not final; go on with the search: "
                f"python -m darts_hpc.train_search --config {path}/config.yaml --save {path}/ --resume auto; or name "
                f'the cell itself, or a file with it: --arch "{genotype}"'
            )
        return genotype
    if is_there:
        text = read_text(path)
        try:
            return parse_genotype(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    hint = did_you_mean(name_or_path, GENOTYPES)
    given = f"{flag} {shown(repr(name_or_path))}".strip()
    raise ValueError(f"{given} is no published cell, genotype file or run folder; {hint}")


def is_unfinished_search(path: Path) -> bool:
    """Whether this is the run folder of a search that has not come to its end: a training's cell is final at once."""
    try:
        config = read_text(path / "config.yaml")
    except ValueError:
        return False
    is_search = re.search(r"^(#.*|entry: *)\btrain_search\b", config, re.MULTILINE) is not None
    return is_search and not is_file(path / "result.json")


def _genotype_of_run(run: Path) -> Genotype:
    history = run / "genotypes.jsonl"
    try:
        lines = read_file(history).decode().split("\n")[:-1]  # a last line without its end is still being written
    except ValueError:
        raise ValueError(
            f"{run} holds no genotypes.jsonl; give the run folder of a search, or a genotype file"
        ) from None
    if not lines:
        raise ValueError(f"{history} is empty: the search has not finished an epoch yet")
    try:
        return parse_genotype(json.loads(lines[-1])["genotype"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{history} line {len(lines)}: {error}") from None


def _edges(field: str, value: object) -> Edges:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > 2 * LARGEST:
        raise ValueError(f"genotype {field}: expected a list of (operation, input) pairs, got {shortened(value)}")
    pairs = []
    for item in value:
        is_pair = isinstance(item, Sequence) and len(item) == 2 and isinstance(item[0], str)
        pairs += [item] if is_pair or not isinstance(item, Sequence) or isinstance(item, str) else item
    for pair in pairs:
        if not (isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int):
            raise ValueError(f"genotype {field}: expected an (operation, input) pair, got {shortened(pair)}")
    return tuple((operation, state) for operation, state in pairs)


def _states(field: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(type(state) is int for state in value):
        raise ValueError(f"genotype {field}: expected a list of state numbers, got {shortened(value)}")
    return tuple(value)


def _check_edges(cell: str, edges: Edges) -> None:
    if not edges or len(edges) % 2:
        raise ValueError(f"genotype {cell}: {len(edges)} edges; every node takes two, so an even number is needed")
    for position, (operation, state) in enumerate(edges):
        node = position // 2
        if operation not in OPERATION_NAMES:
            hint = did_you_mean(operation[:100], OPERATION_NAMES)
            raise ValueError(f"genotype {cell}: unknown operation {shortened(operation)} at node {node}; {hint}")
        if not 0 <= state < node + 2:
            raise ValueError(
                f"genotype {cell}: node {node} can't read state {shortened(state)}; it sees states 0 to {node + 1}"
            )


def _check_concat(field: str, states: tuple[int, ...], num_states: int) -> None:
    if not states or len(set(states)) != len(states) or not all(2 <= state < num_states for state in states):
        raise ValueError(
            f"genotype {field}: {shortened(list(states))} must be distinct states between 2 and {num_states - 1}"
        )


def _range_text(states: tuple[int, ...]) -> str:
    if states == tuple(range(states[0], states[-1] + 1)):
        return f"range({states[0]}, {states[-1] + 1})"
    return str(list(states))


def _published() -> dict[str, dict]:
    text = resources.files("darts_hpc.space").joinpath("published_cells.json").read_text(encoding="utf-8")
    return json.loads(text)


GENOTYPES = {name: parse_genotype(cell) for name, cell in _published().items()}
"""Published cells by name; `published_cells.json` says where each was read, its paper and its published error."""
NOTES = {name: cell["note"] for name, cell in _published().items() if "note" in cell}
"""Name of a published cell -> how its paper's network differs from ours."""
GENOTYPES["DARTS"] = GENOTYPES["DARTS_V2"]
