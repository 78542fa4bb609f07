"""benchmarks/gpu: make gpu keeps what was measured, whatever fails, hangs or is missing."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks import forked

GPU_BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "gpu"
FACTS = {"machine": "A GPU, 80 GB", "quick": True, "versions": {"torch": "2.11.0", "triton": None}}
RESULT = {"benchmark": "entry_steps", "images_per_s": 1234.5, "seconds_per_step": 0.02, "batch_size": 24}
RESULT |= {"memory_bytes": 1 << 30, "data_wait_share": 0.25}


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(GPU_BENCHMARKS)
    return importlib.import_module("suite")


def program(suite, name: str, code: str, budget_s: int = 240, missing: str = ""):
    return suite.Command(name, ("-c", code), budget_s, missing)


def test_every_outcome_is_in_the_file_and_in_the_table(suite, monkeypatch, tmp_path):
    hangs = f"""
import pathlib, subprocess, time
print("measured first", flush=True)
print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
pathlib.Path({str(tmp_path / "hangs")!r}).touch()
time.sleep(1000)
"""

    class Popen(subprocess.Popen):
        def communicate(self, input=None, timeout=None):
            while timeout == 1 and not (tmp_path / "hangs").exists():  # its second begins when it hangs
                time.sleep(0.01)
            return super().communicate(input, timeout)

    monkeypatch.setattr(suite.subprocess, "Popen", Popen)
    commands = [
        program(suite, "measures", f"print('some lines'); print({json.dumps(json.dumps(RESULT))})"),
        program(suite, "fails", "print('before'); raise ValueError('out of memory')"),
        program(suite, "hangs", hangs, budget_s=1),
        program(suite, "lacks", "", missing="DALI is not installed"),
        program(suite, "prints", "print('3 passed in 1.00s')"),
    ]
    outcomes = suite.run_part("train", commands, dict(os.environ), FACTS, tmp_path)
    written = json.loads((tmp_path / "gpu_train-a_gpu_80_gb.json").read_text())
    assert written == {"benchmark": "gpu_train", **FACTS, "commands": outcomes}
    assert {name: outcome["status"] for name, outcome in outcomes.items()} == {
        "measures": "ok",
        "fails": "failed",
        "hangs": "cut off",
        "lacks": "skipped",
        "prints": "ok",
    }
    assert outcomes["measures"]["result"] == RESULT
    assert outcomes["measures"]["printed"] == ["some lines"]
    printed, child = outcomes["hangs"]["printed"]
    assert printed == "measured first"
    while not is_gone(int(child)):  # it was killed, and needs a moment to die
        time.sleep(0.01)
    table = " ".join(suite.table({"train": outcomes}, FACTS).split())
    assert table.startswith("A GPU, 80 GB; torch 2.11.0 part program took result train measures")
    assert "1,234 images/s, 20.0 ms per step of 24, 1.0 GiB at most, 25.0% waiting for images" in table
    assert "FAILED: exit code 1: ValueError: out of memory" in table
    assert "CUT OFF: after 1 s" in table
    assert "SKIPPED: DALI is not installed" in table
    assert "3 passed in 1.00s" in table


def is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def run_with(suite, parts: dict, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run main in a fork, with these parts in place of the real ones."""

    def run() -> None:
        suite.PARTS.clear()
        suite.PARTS.update({name: lambda quick, commands=commands: commands for name, commands in parts.items()})
        sys.argv = ["suite.py", "--device", "cpu", "--quick", "--output", str(tmp_path)]
        suite.main()

    return forked(run)


def test_a_part_that_fails_does_not_stop_the_others_and_the_exit_code_says_it(suite, tmp_path):
    good = [program(suite, "good", "print('all is well')")]
    done = run_with(suite, {"one": [program(suite, "bad", "raise SystemExit(3)")], "two": good}, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "FAILED: exit code 3: it printed nothing" in done.stdout
    assert "all is well" in done.stdout
    assert len(list(tmp_path.glob("gpu_*.json"))) == 2
    assert run_with(suite, {"two": good}, tmp_path).returncode == 0


def test_what_is_done_is_kept_when_it_is_cut_off(suite, tmp_path):
    ends_it = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(1000)"
    parts = {"one": [program(suite, "good", "print('all is well')")], "two": [program(suite, "bad", ends_it)]}
    done = run_with(suite, parts, tmp_path)
    assert done.returncode == 143
    assert "all is well" in done.stdout
    (kept,) = tmp_path.glob("gpu_one-*.json")
    assert json.loads(kept.read_text())["commands"]["good"]["printed"] == ["all is well"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("flags", "reason"), [([], "no GPU here"), (["--device", "cpu"], "expected --quick beside it")]
)
def test_without_a_gpu_it_says_so_in_one_line(suite, flags, reason, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["suite.py", *flags])
    with pytest.raises(SystemExit) as ended:
        suite.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert reason in said.err
    assert not said.out


def test_the_parts_take_nine_minutes_at_most_and_name_what_is_there(suite):
    commands = [command for part in suite.PARTS.values() for command in part(False)]
    assert sum(command.budget_s for command in commands) <= 9 * 60
    for command in commands:
        files = [Path(word) for word in command.argv if word.startswith(("benchmarks/", "tests/"))]
        assert files
        assert all((suite.ROOT / file).exists() for file in files), command


def test_without_dali_its_programs_are_skipped(suite, monkeypatch):
    def find_spec(name: str) -> None:
        raise ModuleNotFoundError(f"no module named {name}")

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    skipped = {command.name for part in suite.PARTS.values() for command in part(False) if command.missing}
    assert skipped == {"train_imagenet_dali", "loader"}
