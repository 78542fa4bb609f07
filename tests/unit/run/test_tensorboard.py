"""What a run's TensorBoard shows, and that it never stops a run."""

import logging
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from darts_hpc.config.flags import flat
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.pictures.heat_map import draw
from darts_hpc.run import tensorboard
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


def text_of(events: EventAccumulator, tag: str, index: int = 0) -> str:
    return events.Tensors(f"{tag}/text_summary")[index].tensor_proto.string_val[0].decode()


def plugin_data(events: EventAccumulator, name: str):
    content = events.summary_metadata[f"_hparams_/{name}"].plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)  # pyright: ignore[reportAttributeAccessIssue]


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


def test_alphas_are_a_heat_map_and_each_operation_has_a_run_hence_a_color_of_its_own(tmp_path: Path):
    events = written(tmp_path, EPOCH, EPOCH | {"step": 40})
    assert set(events.Tags()["images"]) == {"alphas/normal", "alphas/reduce"}
    assert [image.step for image in events.Images("alphas/normal")] == [20, 40]
    assert {path.name for path in (tmp_path / "operations").iterdir()} == set(PRIMITIVES)
    for operation, share in {"none": 0.3, "sep_conv_3x3": 0.1}.items():
        own = events_of(tmp_path / "operations" / operation)
        assert own.Tags()["scalars"] == ["operations/normal", "operations/reduce"]
        points = [(point.step, point.value) for point in own.Scalars("operations/reduce")]
        assert points == [(20, pytest.approx(share)), (40, pytest.approx(share))]
    layout = layout_pb2.Layout()  # pyright: ignore[reportAttributeAccessIssue]
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    charts = layout.category[0].chart
    assert [list(chart.multiline.tag) for chart in charts] == [["operations/normal"], ["operations/reduce"]]


def test_a_picture_says_what_the_weights_of_operations_are(tmp_path: Path, monkeypatch):
    titles = []
    monkeypatch.setattr(tensorboard, "draw", lambda table: titles.append(table.title) or draw(table))
    board = TensorBoard(tmp_path, space={"primitives": PRIMITIVES, "weights": "sigmoid(alpha)"})
    board.write({"event": "epoch", "epoch": 0, "step": 5, "alphas/normal": EPOCH["alphas/normal"]})
    board.close()
    assert titles == ["sigmoid(alpha), normal cell"]


def test_an_operation_counts_where_an_edge_offers_it(tmp_path: Path):
    space = {"normal": [["none", "skip_connect"], ["skip_connect", "noise"]], "reduce": [["none", "noise"]] * 2}
    board = TensorBoard(tmp_path, space=space)
    board.write({"event": "epoch", "epoch": 0, "step": 5, "alphas/normal": [[0.25, 0.75], [0.5, 0.5]]})
    board.close()
    means = {"none": 0.25, "skip_connect": (0.75 + 0.5) / 2, "noise": 0.5}
    for operation, mean in means.items():
        own = events_of(tmp_path / "operations" / operation)
        assert own.Scalars("operations/normal")[0].value == pytest.approx(mean)


def test_a_search_has_some_thirty_scalar_tags_over_all(tmp_path: Path):
    rates = ("images_per_second", "seconds_per_step", "memory_bytes", "seconds", "data_wait_share")
    step = {"train/loss": 1.0, "train/accuracy": 10.0, "grad_norm/weights": 1.0, "grad_norm/alphas": 1.0}
    board = TensorBoard(tmp_path)
    board.write({"event": "step", "epoch": 0, "step": 5, **step})
    board.write({"epoch": 0, "step": 5, **{f"performance/{name}": 1.0 for name in rates}})
    board.write({**EPOCH, "edge_weights/normal": [0.5] * 14, "edge_weights/reduce": [0.5] * 14})
    board.finish(91.0, 20)
    board.close()
    folders = [tmp_path, *(tmp_path / "operations").iterdir()]
    tags = {tag for folder in folders for tag in events_of(folder).Tags()["scalars"]}
    assert {"train/loss", "final/accuracy", "operations/normal"} <= tags and len(tags) <= 30
    assert {"edge_weights/normal", "edge_weights/reduce"} <= set(events_of(tmp_path).Tags()["images"])


def test_a_decision_by_perturbation_is_shown_with_its_scores(tmp_path: Path):
    board = TensorBoard(tmp_path)
    scores = {"accuracy_without": [50.25, 61.0], "loss_without": [1.5, 1.25]}
    where = {"event": "selection", "epoch": 3, "step": 9, "cell": "reduce"}
    board.write({**where, "edges": [3], "operation": "sep_conv_3x3", **scores})
    board.close()
    events = events_of(tmp_path)
    (shown,) = events.Tensors("selection/reduce/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    assert "c_{k-1}→1: sep_conv_3x3" in text and "50.25 61" in text and "1.5 1.25" in text
    assert shown.step == 9 and events.Tags()["scalars"] == []


def test_flags_stand_beside_the_final_accuracy_and_as_text(tmp_path: Path):
    board = TensorBoard(tmp_path)
    config = flat(SearchConfig()) | {"learning_rate": 0.5, "seed": 7, "save": "elsewhere/"}
    board.describe("train_search", config, "python -m darts_hpc.train_search --seed 7 --save elsewhere/\n")
    board.finish(91.5, 40)
    board.close()
    events = events_of(tmp_path)
    columns = {info.name: info.differs for info in plugin_data(events, "experiment").experiment.hparam_infos}
    values = plugin_data(events, "session_start_info").session_start_info.hparams
    assert {name for name, differs in columns.items() if differs} == {"learning_rate", "seed"}
    assert set(columns) == set(values) and not {"save", "report_freq", "tensorboard"} & set(values)
    assert (values["learning_rate"].number_value, values["seed"].number_value) == (0.5, 7)
    assert values["unrolled"].string_value == "false" and values["dataset"].string_value == "cifar10"
    metrics = plugin_data(events, "experiment").experiment.metric_infos
    assert [metric.name.tag for metric in metrics] == ["final/accuracy"]
    assert plugin_data(events, "session_end_info").session_end_info.status == 1  # STATUS_SUCCESS
    assert [(point.step, point.value) for point in events.Scalars("final/accuracy")] == [(40, 91.5)]
    assert "    learning_rate: 0.5" in text_of(events, "config") and "--seed 7" in text_of(events, "command")


def test_a_run_that_has_not_ended_has_no_final_accuracy(tmp_path: Path):
    board = TensorBoard(tmp_path)
    board.describe("train", flat(TrainConfig()), "command")
    board.close()
    events = events_of(tmp_path)
    assert "final/accuracy" not in events.Tags()["scalars"]
    assert "_hparams_/session_end_info" not in events.summary_metadata


def test_alphas_that_are_not_finite_do_not_stop_the_run(tmp_path: Path):
    events = written(tmp_path, {**EPOCH, "alphas/normal": [[float("nan")] * 8] * 14, "train/loss": float("nan")})
    assert events.Tags()["images"] == ["alphas/reduce"]


def test_the_current_cell_is_text_at_each_change(tmp_path: Path):
    board = TensorBoard(tmp_path)
    for step, name in ((20, "DARTS"), (30, "DARTS"), (40, "DARTS_V1")):
        board.cells(GENOTYPES[name], step)
    board.close()
    events = events_of(tmp_path)
    assert [point.step for point in events.Tensors("genotype/text_summary")] == [20, 40]
    assert str(GENOTYPES["DARTS_V1"]) in text_of(events, "genotype", 1) and "cₖ₋₂" in text_of(events, "genotype")


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
