"""Benchmarks refuse arguments that they can't run with in one line, before they compute anything."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize(
    ("benchmark", "flags", "expected"),
    [
        ("train_step", "--rounds 0", "'0': expected a whole number above 0"),
        ("train_step", "--batch_size -1", "'-1': expected a whole number above 0"),
        ("train_step", "--device gpu", "'gpu': expected cpu"),
        ("train_step", "--device cuda:99", "'cuda:99': expected cpu"),
        ("train_step", "--times_only --counts_only", "not allowed with argument"),
        ("search_step", "--threads 1.5", "'1.5': expected a whole number above 0"),
        ("data_parallel", "--processes 0", "'0': expected a whole number above 0"),
        ("data_parallel", "--rounds 0", "'0': expected a whole number above 0"),
        ("scaling", "--plot /nowhere/x.svg", "expected a file in a folder that is there"),
        ("scaling", "--plot .", "expected a file in a folder that is there"),
        ("scaling", "--nvlink 0 1", "'0': expected a number above 0"),
        ("scaling", "--host_us -1", "'-1': expected a number above 0"),
        ("scaling", "--step train=96:nan", "expected NAME=IMAGES:SECONDS"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_at_once(benchmark, flags, expected, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [benchmark, *flags.split()])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(benchmark).main()
    assert ended.value.code == 2 and expected in capsys.readouterr().err.splitlines()[-1]
