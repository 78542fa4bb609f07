"""Search spaces against what RobustDARTS prints, and what a space of one's own is refused for."""

import os
from pathlib import Path

import numpy as np
import pytest

from darts_hpc.space.genotypes import OPERATION_NAMES, PRIMITIVES
from darts_hpc.space.operations import OPERATIONS
from darts_hpc.space.spaces import SPACES, SearchSpace, uniform_space

GOLDEN = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[2] / "golden"))


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_spaces_are_those_of_robust_darts(name):
    golden = np.load(GOLDEN / f"public_family_{name}.npz")
    assert [list(edge) for edge in SPACES[name].normal] == golden["primitives_normal"].tolist()
    assert [list(edge) for edge in SPACES[name].reduce] == golden["primitives_reduce"].tolist()


def test_every_operation_that_a_genotype_may_name_can_be_built():
    assert set(OPERATION_NAMES) == set(OPERATIONS)


def test_the_darts_space_has_the_primitives_on_every_edge_and_its_nodes_follow_from_the_edges():
    assert SPACES["darts"].primitives == PRIMITIVES and len(SPACES["darts"].normal) == 14
    assert SPACES["darts_no_none"].primitives == PRIMITIVES[1:]
    assert SPACES["s1"].primitives is None and SPACES["s1"].column_labels == ("operation 0", "operation 1")
    assert [uniform_space(("skip_connect",), nodes).num_nodes for nodes in (1, 2, 4)] == [1, 2, 4]
    assert SearchSpace(("skip_connect", "noise"), ("max_pool_3x3", "noise")).num_nodes == 4  # pyright: ignore


PAIR = ("skip_connect", "sep_conv_3x3")


@pytest.mark.parametrize(
    ("normal", "reduce", "message"),
    [
        (
            (("skip_connect", "sep_conv_3"),) * 14,
            (PAIR,) * 14,
            "unknown operation 'sep_conv_3'.*did you mean sep_conv_3x3",
        ),
        ((PAIR,) * 13, (PAIR,) * 14, "13 edges; expected 14"),
        ((PAIR,) * 13 + (("noise",),), (PAIR,) * 14, "edges of 1, 2 operations"),
        ((PAIR,) * 14, (PAIR,) * 5, "14 edges of 2 operations, the reduction cell 5 of 2"),
        (((),) * 14, (PAIR,) * 14, "edges of 0 operations"),
        ("noise", (PAIR,) * 14, "normal cell of .* is 'noise': expected operations, such as"),
        ((PAIR,) * 14, None, "reduce cell of .* is None: expected operations, such as"),
        ((PAIR,) * 14, (*PAIR, PAIR), "or such a tuple for each edge"),
        ((), (PAIR,) * 14, "0 operations|0 edges"),
        ((("none",),) * 14, (("none",),) * 14, "not only none"),
        ((("noise", "noise"),) * 14, (PAIR,) * 14, "distinct"),
    ],
)
def test_a_space_that_no_cell_can_have_is_refused(normal, reduce, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(normal, reduce)
