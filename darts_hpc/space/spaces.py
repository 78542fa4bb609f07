"""Search spaces: the candidate operations of every edge of both cells (Zela et al. 2020, section 3, for s1 to s4)."""

import hashlib
from dataclasses import dataclass

from darts_hpc.space.genotypes import OPERATION_NAMES, PRIMITIVES
from darts_hpc.suggest import did_you_mean

EdgeLists = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SearchSpace:
    """The candidates of each edge, in the order of alpha's rows and columns.

    A cell of N nodes has E = N * (N + 3) / 2 edges: those into node 0 from states 0 and 1, then those into node 1, and
    so on. All edges have equally many candidates, O.

    Args:
        normal, reduce: E tuples of O operations, or one tuple of O operations that every edge of a 4-node cell has.
        name: what messages call it.

    Raises:
        ValueError: an unknown operation, rows of different lengths, or a number of edges that no cell has.
    """

    normal: EdgeLists
    reduce: EdgeLists
    name: str = "a space of your own"

    def __post_init__(self) -> None:
        for kind in ("normal", "reduce"):
            object.__setattr__(self, kind, _edge_lists(f"{kind} cell of {self.name}", getattr(self, kind)))
            _check(f"{kind} cell of {self.name}", getattr(self, kind))
        if (len(self.normal), len(self.normal[0])) != (len(self.reduce), len(self.reduce[0])):
            raise ValueError(
                f"{self.name}: the normal cell has {len(self.normal)} edges of {len(self.normal[0])} operations, the "
                f"reduction cell {len(self.reduce)} of {len(self.reduce[0])}; expected the same in both"
            )

    @property
    def num_nodes(self) -> int:
        """Nodes of a cell."""
        return _num_nodes(len(self.normal))

    @property
    def primitives(self) -> tuple[str, ...] | None:
        """The candidates, where all edges have the same ones; else None."""
        lists = {*self.normal, *self.reduce}
        return next(iter(lists)) if len(lists) == 1 else None

    def has(self, operation: str) -> bool:
        """Whether some edge has this candidate."""
        return any(operation in edge for edge in (*self.normal, *self.reduce))

    @property
    def most_skip_connects(self) -> int:
        """Most skip connections that a derived normal cell can have: two of each node's incoming edges are kept."""
        most, left = 0, list(self.normal)
        for node in range(self.num_nodes):
            incoming, left = left[: node + 2], left[node + 2 :]
            most += min(2, sum("skip_connect" in edge for edge in incoming))
        return most

    def digest(self) -> str:
        """Return a short digest of the candidates, different for every space."""
        return hashlib.sha256(repr((self.normal, self.reduce)).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, list]:
        """Return the candidates as plain lists: "primitives", or where edges differ "normal" and "reduce", by edge."""
        if self.primitives is not None:
            return {"primitives": list(self.primitives)}
        return {kind: [list(edge) for edge in getattr(self, kind)] for kind in ("normal", "reduce")}

    @property
    def column_labels(self) -> tuple[str, ...]:
        """Names of alpha's columns: the operations, or numbers where they differ between edges."""
        return self.primitives or tuple(f"operation {column}" for column in range(len(self.normal[0])))


def uniform_space(primitives: tuple[str, ...], num_nodes: int = 4, name: str = "a space of your own") -> SearchSpace:
    """Return the space in which every edge has the same candidates."""
    edges = (tuple(primitives),) * (num_nodes * (num_nodes + 3) // 2)
    return SearchSpace(edges, edges, name)


def _edge_lists(where: str, edges: EdgeLists | tuple[str, ...]) -> EdgeLists:
    if _are_names(edges):
        return (tuple(edges),) * 14  # pyright: ignore[reportReturnType]
    if not isinstance(edges, list | tuple) or not all(map(_are_names, edges)):
        raise ValueError(
            f"the {where} is {edges!r}: expected operations, such as ('skip_connect', 'sep_conv_3x3'), or such a tuple "
            "for each edge"
        )
    return tuple(tuple(edge) for edge in edges)


def _are_names(operations: object) -> bool:
    return isinstance(operations, list | tuple) and all(isinstance(name, str) for name in operations)


def _num_nodes(num_edges: int) -> int:
    return next((nodes for nodes in range(1, 32) if nodes * (nodes + 3) // 2 == num_edges), 0)


def _check(where: str, edges: EdgeLists) -> None:
    if not _num_nodes(len(edges)):
        raise ValueError(f"the {where} has {len(edges)} edges; expected 14 for 4 nodes, N * (N + 3) / 2 for N nodes")
    if not edges[0] or len({len(edge) for edge in edges}) > 1:
        counts = ", ".join(map(str, sorted({len(edge) for edge in edges})))
        raise ValueError(f"the {where} has edges of {counts} operations; expected one number above 0 for all edges")
    for position, edge in enumerate(edges):
        if set(edge) == {"none"} or len(set(edge)) < len(edge):
            raise ValueError(
                f"the {where} has {list(edge)} at edge {position}; expected distinct operations, not only none"
            )
        for operation in edge:
            if operation not in OPERATION_NAMES:
                hint = did_you_mean(operation, OPERATION_NAMES)
                raise ValueError(f"the {where} has the unknown operation {operation!r} at edge {position}; {hint}")


_SHORT = {
    "k": "skip_connect",
    "s3": "sep_conv_3x3",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
}


def _pairs(text: str) -> EdgeLists:
    return tuple(tuple(_SHORT[name] for name in pair.split(",")) for pair in text.split())


# name of --space -> space
SPACES = {
    "darts": uniform_space(PRIMITIVES, name="darts"),
    "darts_no_none": uniform_space(PRIMITIVES[1:], name="darts_no_none"),
    # the two operations that an edge's weights ended with in a DARTS search (RobustDARTS, src/spaces.py)
    "s1": SearchSpace(
        _pairs("k,d3 k,d5  k,d5 k,s3 k,d3  mp,k k,s3 k,s3 k,d3  k,s3 mp,k k,d3 d3,d5 d3,d5"),
        _pairs("mp,ap mp,d3  mp,ap mp,ap k,d5  mp,ap mp,s3 k,d3 k,d5  mp,ap mp,ap k,d5 k,d5 k,d5"),
        "s1",
    ),
    "s2": uniform_space(("skip_connect", "sep_conv_3x3"), name="s2"),
    "s3": uniform_space(("none", "skip_connect", "sep_conv_3x3"), name="s3"),
    "s4": uniform_space(("noise", "sep_conv_3x3"), name="s4"),
}
