"""Meters against one pass over all images, and record files under a full disk."""

import json

import pytest
import torch
import torch.nn.functional as F
from full_disk import files_up_to

from darts_hpc.distributed.world import World
from darts_hpc.run.metrics import JsonLines, Meter

WORLD = World(torch.device("cpu"))


def test_a_meter_over_uneven_batches_equals_one_pass_over_all_images():
    logits, labels = torch.randn(50, 12), torch.randint(12, (50,))
    meter = Meter(WORLD.device)
    for part in (slice(0, 20), slice(20, 21), slice(21, 50)):
        meter.update(F.cross_entropy(logits[part], labels[part]), logits[part], labels[part])
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)  # classes that beat the right one
    assert meter.compute(WORLD) == pytest.approx(
        {
            "loss": F.cross_entropy(logits, labels).item(),
            "accuracy": 100 * (ranks < 1).double().mean().item(),
            "accuracy_top5": 100 * (ranks < 5).double().mean().item(),
        },
        rel=1e-6,
    )


def test_top_5_of_fewer_classes_is_everything_and_an_empty_meter_has_no_numbers():
    meter = Meter(WORLD.device)
    assert meter.compute(WORLD) == {}
    meter.update(torch.tensor(1.0), torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    assert meter.compute(WORLD)["accuracy_top5"] == 100
    meter.reset()
    assert meter.compute(WORLD) == {}


def read(path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_records_are_rewound_to_a_checkpoint_and_go_on_from_there(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write({"n": 1})
    position = lines.position()
    lines.write({"n": 2})
    again = JsonLines(tmp_path / "metrics.jsonl")
    again.rewind(position)
    again.write({"n": 3})
    assert read(tmp_path / "metrics.jsonl") == [1, 3]


def test_half_a_line_of_a_killed_process_is_cut_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.write({"n": 1})
    position = lines.position()
    with path.open("ab") as file:
        file.write(b'{"n": ')
    lines = JsonLines(path)
    lines.rewind(position)
    assert read(path) == [1]


@pytest.mark.parametrize(("content", "left"), [(b'{"n": 1}\n', [1]), (b'{"n": 1}\n{"n"', [1]), (b"", []), (None, [])])
def test_a_file_that_is_shorter_than_its_checkpoint_goes_on_from_its_whole_lines(content, left, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_bytes(content)
    lines = JsonLines(path)
    lines.rewind(1000)
    lines.write({"n": 7})
    assert read(path) == [*left, 7] and caplog.text.count("was cut, overwritten or removed") == 1


@pytest.mark.parametrize("last", ["{", "[1]", "null", '{"n": 1}', '{"step": "x"}', "[" * 100_000, "\x00", "9" * 5000])
def test_a_damaged_last_line_counts_as_none(last, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 3}}\n{last}\n')
    assert JsonLines(tmp_path / "metrics.jsonl").last() is None


def test_on_a_full_disk_whole_lines_wait_and_none_is_lost(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.write({"n": 0})
    with files_up_to(path.stat().st_size + 4):  # room for half a line
        for n in (1, 2):
            lines.write({"n": n})
        with pytest.raises(OSError, match=r"large|part"):  # a checkpoint now would lose the lines that wait
            lines.position()
        whole = path.read_bytes()
    assert whole.startswith(b'{"n": 0}\n') and b"1" not in whole and caplog.text.count("kept in memory") == 1
    assert lines.position() == path.stat().st_size
    assert read(path) == [0, 1, 2]


def test_numbers_that_are_not_finite_are_null_which_every_reader_takes(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write({"loss": float("nan"), "alphas": [[float("inf"), 0.5]], "step": 3})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"loss": null, "alphas": [[null, 0.5]], "step": 3}\n'
