"""The faults that users and clusters bring about, a row for each. test_table.py tries them."""

from rows_checkpoints import CHECKPOINTS
from rows_cluster import MACHINES
from rows_texts import CELLS, METRICS
from rows_weights import WEIGHTS

TABLE = (*CELLS, *METRICS, *WEIGHTS, *CHECKPOINTS, *MACHINES)
