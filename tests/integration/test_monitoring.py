"""Other tools read what a run wrote, by the code that docs/monitoring.md shows."""

import importlib
import json
import os
import re
import runpy
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from ranks import forked
from run_entries import TINY, entry

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- runnable with (\w+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = dict(BLOCK.findall((ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a small search in runs/my-search."""
    folder = tmp_path_factory.mktemp("reader")
    flags = [flag for flag in TINY if flag != "--no-tensorboard"]
    done = entry(
        "train_search",
        *flags,
        "--image_size",
        "4",
        "--space",
        "s2",
        "--save",
        f"{folder}/runs/my-search/",
    )
    assert done.returncode == 0, done.stderr
    return folder


def epochs(folder: Path) -> list[dict]:
    lines = (folder / "runs/my-search/metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == "epoch"]


def run_block(tool: str, folder: Path) -> str:
    """Run the page's code for a tool in a process of its own; return what it printed."""
    file = folder / f"with_{tool}.py"
    file.write_text(BLOCKS[tool], encoding="utf-8")

    def program() -> None:
        os.chdir(folder)
        runpy.run_path(str(file), run_name="__main__")

    done = forked(program, WANDB_SILENT="true", WANDB_ERROR_REPORTING="false", MLFLOW_DISABLE_TELEMETRY="true")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tensorboards_own_reader_shows_every_epoch(reader: Path):
    printed = [line.split() for line in run_block("tensorboard", reader).splitlines()]
    wanted = [(record["step"], record["valid/accuracy"]) for record in epochs(reader)]
    assert [(int(step), pytest.approx(float(value))) for step, value in printed] == wanted


def logged(data: bytes, header: int = 7, block: int = 1 << 15) -> Iterator[bytes]:
    """Yield the records of LevelDB's log format, in which W&B keeps a run: checksum, length, kind, bytes."""
    position, record = header, b""
    while position + 7 <= len(data):
        if block - position % block < 7:  # too little for the head of a piece
            position += block - position % block
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


@pytest.mark.slow
def test_an_offline_run_of_wandb_has_the_flags_and_every_epoch(reader: Path):
    pytest.importorskip("wandb")
    run_block("wandb", reader)
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    (file,) = reader.glob("wandb/offline-run-*/run-*.wandb")
    history, config = [], {}
    for record in map(messages.Record.FromString, logged(file.read_bytes())):
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        history += [items] if items else []
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    accuracies = [items["valid/accuracy"] for items in history if "valid/accuracy" in items]
    assert accuracies == pytest.approx([record["valid/accuracy"] for record in epochs(reader)])
    assert config["dataset"] == "digits" and config["layers"] == 3


@pytest.mark.slow
def test_mlflows_file_store_has_the_flags_and_every_epoch(reader: Path):
    pytest.importorskip("mlflow")
    run_block("mlflow", reader)
    (folder,) = (path.parent for path in reader.glob("mlruns/*/*/params"))
    points = [line.split() for line in (folder / "metrics/valid/accuracy").read_text().splitlines()]
    wanted = [(record["step"], record["valid/accuracy"]) for record in epochs(reader)]
    assert [(int(step), pytest.approx(float(value))) for _, value, step in points] == wanted
    assert (folder / "params/dataset").read_text() == "digits"
    assert (folder / "artifacts/genotypes.jsonl").is_file()
