"""How fast a run is and what it waits for; GPU utilisation by a stand-in of NVIDIA's library."""

import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest
import torch

from darts_hpc.run import performance
from darts_hpc.run.performance import DataWait, Window

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


class Clock:
    """A stand-in of the time module that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(performance, "time", clock)
    return clock


def test_only_the_time_until_a_batch_comes_is_waiting(clock):
    def batches():
        for index in range(3):
            clock.sleep(0.25)
            yield index

    wait = DataWait(CPU)
    seen = []
    for index in wait.timed(batches()):
        seen.append(index)
        clock.sleep(2)  # the step itself
    assert seen == [0, 1, 2] and wait.read() == 0.75 and wait.read() == 0


def test_a_window_counts_the_images_of_all_processes_and_starts_anew(clock):
    window = Window(CPU, size=4)
    window.add(8)
    window.add(8)
    clock.sleep(0.5)
    numbers = window.read()
    assert numbers["images_per_second"] == pytest.approx(4 * numbers["images_per_second_per_process"])
    assert numbers["images_per_second"] == pytest.approx(128) and numbers["seconds_per_step"] == pytest.approx(0.25)
    assert "data_wait_share" not in numbers and "gpu_utilisation_percent" not in numbers
    assert window.images == 0 and window.steps == 0


@pytest.fixture
def library(monkeypatch):
    """A stand-in of pynvml: two GPUs by UUID."""
    used = {b"GPU-first": 7, b"GPU-second": 93}
    module = ModuleType("pynvml")
    module.__dict__.update(
        NVMLError=type("NVMLError", (Exception,), {}),
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid.encode(),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=used[handle]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    for cached in (performance._open_library, performance._handle, performance._log_once):
        cached.cache_clear()
    yield module
    for cached in (performance._open_library, performance._handle, performance._log_once):
        cached.cache_clear()


def test_utilisation_is_that_of_torchs_gpu_by_its_uuid_not_of_the_same_number(library):
    with mock.patch("torch.cuda.get_device_properties", return_value=SimpleNamespace(uuid="second")):
        assert performance.gpu_utilisation(CUDA) == 93
    assert performance.gpu_utilisation(CPU) is None


def test_without_the_library_or_its_answer_there_is_no_number_and_one_line(library, monkeypatch, caplog):
    def fail(handle):
        raise library.NVMLError("not supported")

    library.nvmlDeviceGetUtilizationRates = fail
    with (
        mock.patch("torch.cuda.get_device_properties", return_value=SimpleNamespace(uuid="first")),
        caplog.at_level(20),
    ):
        assert [performance.gpu_utilisation(CUDA) for _ in range(2)] == [None, None]
        performance._open_library.cache_clear()
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert [performance.gpu_utilisation(CUDA) for _ in range(2)] == [None, None]
    assert [record.message for record in caplog.records] == [
        "no GPU utilisation in the metrics: not supported",
        "no GPU utilisation in the metrics without nvidia-ml-py: pip install 'darts_hpc[gpu]'",
    ]
