"""The family's twelve rules of combination, by command: refused in one line before any work, or taken as they say."""

import logging
import re
import runpy
import sys
from pathlib import Path

import pytest
from run_entries import FEW, TINY

from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig

STEP = [*TINY, *FEW, "--batch_size", "48", "--image_size", "4", "--epochs", "1"]
"""One step, of one epoch."""
REFUSED = [  # rule, flags, what the line says
    (
        1,
        "--partial_channels 3",
        "--partial_channels 3 with --init_channels 4: expected a divisor of the channels.*try 2",
    ),
    (1, "--partial_channels 0", "--partial_channels 0 with --init_channels 4: expected a divisor.*try 1"),
    (1, "--partial_channels 8", "--partial_channels 8 with --init_channels 4: expected a divisor.*try 4"),
    (2, "--edge_norm --relaxation gumbel", "an edge's only operation runs whole, which an edge weight would undo"),
    (2, "--edge_norm --relaxation sigmoid", "its gates do not compete, which an edge weight would undo"),
    (3, "--perturb random --relaxation gumbel", "its weights of operations are no mixture; leave out one of them"),
    (3, "--perturb adversarial --relaxation sigmoid", "do not lie on the simplex; leave out one of them"),
    (3, "--perturb adversarial --relaxation dirichlet", "are random already; leave out one of them"),
    (4, "--alpha_regulariser beta --relaxation sigmoid --epochs 2", "expected --relaxation softmax or gumbel, because"),
    (
        4,
        "--alpha_regulariser beta --relaxation dirichlet --epochs 2",
        "expected --relaxation softmax or gumbel, because",
    ),
    (4, "--alpha_regulariser kl", "expected --relaxation dirichlet, because it is the distance between Dirichlet"),
    (4, "--alpha_regulariser zero_one --relaxation gumbel", "expected --relaxation sigmoid, because it drives"),
    (5, "--selection perturbation --relaxation gumbel", "a mixture of all; leave it at --selection magnitude"),
    (5, "--selection perturbation --relaxation sigmoid", "a mixture of all; leave it at --selection magnitude"),
    (6, "--early_stop eigenvalue --relaxation gumbel", "of a random loss is random; try --early_stop skips"),
    (6, "--early_stop adaptive --relaxation dirichlet", "of a random loss is random; try --early_stop skips"),
    (6, "--record_eigenvalue --relaxation dirichlet", "the curvature of a random loss is random"),
    (6, "--early_stop eigenvalue --compile", "compiled cells can't be differentiated twice"),
    (7, "--early_stop skips --space s4", "expected a space with skip_connect.*try --early_stop eigenvalue"),
    (9, "--unrolled --unrolled_method exact --compile", "compiled cells can't be differentiated twice"),
]
TAKEN = [  # rules, flags, a line of the log
    ({2, 9}, "--space s2 --edge_norm --relaxation dirichlet --unrolled", "dirichlet is not from a paper"),
    (
        {8, 10, 11, 12},
        "--space s4 --auxiliary_skip linear --supernet fast --search_drop_path 0.2 --partial_channels 2 --epochs 2 "
        "--arch_learning_rate 0",
        "the cell is a random one",
    ),
]


@pytest.mark.parametrize(("rule", "flags", "said"), REFUSED, ids=[f"{rule}: {flags}" for rule, flags, _ in REFUSED])
def test_what_a_rule_forbids_is_refused_in_one_line_and_nothing_is_written(
    rule, flags, said, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["train_search", *STEP, *flags.split(), "--save", f"{tmp_path}/run/"])
    monkeypatch.delitem(sys.modules, "darts_hpc.train_search", raising=False)  # else Python warns
    with pytest.raises(SystemExit) as end:
        runpy.run_module("darts_hpc.train_search", run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: --")
    assert re.search(said, line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rules", "flags", "said"), TAKEN, ids=[flags for _, flags, _ in TAKEN])
def test_what_rules_allow_searches_a_cell(rules, flags, said, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "darts_hpc")
    run = train_search.main(parse_config(SearchConfig, [*STEP, *flags.split(), "--save", f"{tmp_path}/run/"]))
    assert (run / "result.json").exists() and said in caplog.text


def test_every_rule_has_a_row():
    assert {rule for rule, *_ in REFUSED}.union(*(rules for rules, *_ in TAKEN)) == set(range(1, 13))
