"""The faults that users and clusters bring about, a row for each. test_table.py tries them."""

from rows_checkpoints import CHECKPOINTS
from rows_cluster import IMAGES, MACHINES
from rows_paths import rows_of_paths
from rows_texts import CELLS, METRICS, PRESETS, RESULTS, SIZES
from rows_weights import WEIGHTS

TABLE = (*rows_of_paths(), *PRESETS, *SIZES, *CELLS, *RESULTS, *METRICS, *WEIGHTS, *CHECKPOINTS, *IMAGES, *MACHINES)
