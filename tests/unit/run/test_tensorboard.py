"""What a run's TensorBoard shows, and that it never stops a run."""

import logging
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from darts_hpc.run.tensorboard import TensorBoard
from darts_hpc.space.genotypes import GENOTYPES, PRIMITIVES

EPOCH = {
    "event": "epoch", "epoch": 0, "step": 20, "train/loss": 1.5, "valid/accuracy": 91.0, "learning_rate": 0.025,
    "alphas/normal": [[0.125] * 8] * 14, "alphas/reduce": [[0.3, *[0.1] * 7]] * 14, "skip_connects": 2,
}  # fmt: skip


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    return events


def written(folder: Path, *records: dict) -> EventAccumulator:
    board = TensorBoard(folder)
    for record in records:
        board.write(record)
    board.close()
    return events_of(folder)


def test_every_number_is_a_scalar_at_its_global_step(tmp_path: Path):
    events = written(tmp_path, EPOCH)
    numbers = {name: value for name, value in EPOCH.items() if isinstance(value, float)} | {"skip_connects": 2}
    for tag, value in numbers.items():
        scalar = events.Scalars(tag)[0]
        assert (scalar.step, scalar.value) == (20, pytest.approx(value))
    assert not {"epoch", "step"} & set(events.Tags()["scalars"])


def test_an_epochs_last_step_has_one_point_though_its_numbers_are_the_epochs_too(tmp_path: Path):
    step = {"event": "step", "epoch": 0, "step": 20, "train/loss": 1.5, "learning_rate": 0.025}
    events = written(tmp_path / "whole", step | {"step": 15, "train/loss": 1.75}, step, EPOCH)
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(15, 1.75), (20, 1.5)]
    assert len(events.Scalars("valid/accuracy")) == 1 and len(events.Scalars("learning_rate")) == 2

    written(tmp_path / "stopped", step)  # and stopped in its evaluation
    board = TensorBoard(tmp_path / "stopped", purge_step=20)
    board.skip(step)
    board.write(EPOCH)
    board.close()
    events = events_of(tmp_path / "stopped")
    assert len(events.Scalars("train/loss")) == 1 and len(events.Scalars("valid/accuracy")) == 1


@pytest.mark.parametrize("prefix", ["", "performance/"])
def test_performance_numbers_are_kept_apart(tmp_path: Path, prefix: str):
    events = written(tmp_path, {"epoch": 0, "step": 5, f"{prefix}images_per_second": 900.0})
    assert events.Tags()["scalars"] == ["performance/images_per_second"]


def test_alphas_are_a_heat_map_and_one_chart_of_eight_curves_an_edge(tmp_path: Path):
    events = written(tmp_path, EPOCH, EPOCH | {"step": 40})
    assert set(events.Tags()["images"]) == {"alphas/normal", "alphas/reduce"}
    assert [image.step for image in events.Images("alphas/normal")] == [20, 40]
    curves = [tag for tag in events.Tags()["scalars"] if tag.startswith("softmax_alphas_")]
    assert len(curves) == 2 * 14 * 8
    layout = layout_pb2.Layout()  # pyright: ignore[reportAttributeAccessIssue]
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["alphas, normal cell", "alphas, reduction cell"]
    charts = layout.category[1].chart
    assert [charts[0].title, charts[13].title] == ["c_{k-2}→0", "2→3"]
    tag = charts[0].multiline.tag[0].removesuffix(".*")
    assert [curve for curve in curves if curve.startswith(tag)] == [f"{tag}{name}" for name in PRIMITIVES]
    assert events.Scalars(f"{tag}none")[0].value == pytest.approx(0.3)


def test_curves_of_alphas_have_the_names_of_the_searchs_own_primitives(tmp_path: Path):
    board = TensorBoard(tmp_path, primitives=[f"mine_{i}" for i in range(8)])
    board.write(EPOCH)
    board.close()
    curves = [tag for tag in events_of(tmp_path).Tags()["scalars"] if tag.startswith("softmax_alphas_")]
    assert {tag.rpartition("/")[2] for tag in curves} == {f"mine_{i}" for i in range(8)}


def test_alphas_that_are_not_finite_do_not_stop_the_run(tmp_path: Path):
    events = written(tmp_path, {**EPOCH, "alphas/normal": [[float("nan")] * 8] * 14, "train/loss": float("nan")})
    assert events.Tags()["images"] == ["alphas/reduce"]


def test_the_current_cell_is_an_image_where_dot_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    board = TensorBoard(tmp_path)
    for step in (20, 30):  # the same cell is not drawn anew
        board.cells(GENOTYPES["DARTS"], step)
    board.cells(GENOTYPES["DARTS_V1"], 40)
    board.close()
    events = events_of(tmp_path)
    drawn = [20, 40] if shutil.which("dot") else []
    assert [image.step for tag in events.Tags()["images"] for image in events.Images(tag)] == drawn
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    without = TensorBoard(tmp_path / "without")
    without.cells(GENOTYPES["DARTS"], 20)
    without.close()
    assert events_of(tmp_path / "without").Tags()["images"] == []


def test_a_resumed_run_hides_what_was_written_beyond_its_checkpoint_and_nothing_else(tmp_path: Path):
    first = TensorBoard(tmp_path)
    for step in (10, 20, 30):
        first.write({"event": "step", "epoch": 0, "step": step, "train/loss": 1.0})
    first.close()
    second = TensorBoard(tmp_path, purge_step=20)
    second.write({"event": "step", "epoch": 0, "step": 25, "train/loss": 2.0})
    second.close()
    assert [scalar.step for scalar in events_of(tmp_path).Scalars("train/loss")] == [10, 20, 25]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_logged_once_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    board = TensorBoard(tmp_path)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)  # in the writer's thread
    with caplog.at_level(logging.WARNING):
        for step in range(300):
            board.write({"event": "step", "epoch": 0, "step": step, "train/loss": 1.0})
        board.cells(GENOTYPES["DARTS"], 300)
        board.close()
    assert [record.message for record in caplog.records if "No space left" in record.message] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_folder_that_can_not_be_written_is_logged_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(SummaryWriter, "__init__", refused)
    board = TensorBoard(tmp_path)
    board.write(EPOCH)
    board.cells(GENOTYPES["DARTS"], 1)
    board.close()
    assert len(caplog.messages) == 1
