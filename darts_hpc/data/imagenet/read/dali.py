"""ImageNet through NVIDIA DALI: this process says which bytes to decode and which box to cut, DALI's threads do it.
Colours change afterwards, a batch at a time, on the device that trains.

Nothing is random inside the pipeline, and it holds no position: any epoch can be entered at any step.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darts_hpc.data.imagenet.read.augment_params import AugmentParams
from darts_hpc.data.imagenet.read.for_dali import as_png, for_dali
from darts_hpc.data.imagenet.read.jitter import jitter_batch, twist_batch
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.rgb import DamagedImage

log = logging.getLogger(__name__)

READ_TOGETHER = 8
"""Images that a reading thread takes at a time."""
HARDWARE_SHARE = 0.0
"""Share of the JPEGs for the GPU's decoding engine: none. It rounds otherwise than the GPU's kernels do, and takes
images by their place in a batch, so that pixels would depend on the number of processes."""
LARGEST_WIDTH, LARGEST_HEIGHT = 5980, 6430
"""Of ImageNet's images: memory for decoding is laid out once."""

OUT_OF_MEMORY = re.compile(r"alloc|out of memory", re.IGNORECASE)
NO_NEWS = ("Critical error in pipeline", "Current pipeline object")
"""What DALI says around every error."""


class DaliLoader:
    """Batches that DALI decodes, cuts, resizes and flips, on the GPU where `decode_on_gpu`."""

    def __init__(self, samples: Samples, *, exact_jitter: bool, decode_on_gpu: bool, num_threads: int, prefetch: int):
        self.samples, self.device = samples, samples.device
        self.num_samples, self.steps_per_epoch = samples.order.num_samples, samples.order.steps_per_epoch
        self.exact_jitter, self.decode_on_gpu, self.prefetch = exact_jitter, decode_on_gpu, prefetch
        self.num_threads = num_threads
        self._dali = import_dali()
        self._readers = ThreadPoolExecutor(num_threads, thread_name_prefix="read-images")
        self._pipeline: Any = None
        self._by_pillow: set[int] = set()
        self._feed = _Feed()
        self._waiting: deque[tuple[Tensor, AugmentParams | None]] = deque()

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on; without the damaged images, which are named."""
        step = first_step
        while step < self.steps_per_epoch:
            try:
                run = self._run(epoch, step)
                for batch in run:
                    step += 1
                    if step == self.steps_per_epoch:  # whoever takes this one may ask for no more
                        next(run, None)  # the pipeline comes back
                    yield batch
            except _DecodingError as error:
                self._refuse_culprits(epoch, step, str(error))

    def _run(self, epoch: int, first_step: int) -> Iterator[Batch]:
        if self._pipeline is None:
            self._pipeline = self._build(self.samples.order.batch_size, self.prefetch, self._feed)
        self._feed.inputs, self._waiting = self._inputs(epoch, first_step), deque()
        pipeline, self._pipeline = self._pipeline, None  # comes back when it has run to the end
        _attempt(pipeline.schedule_run)
        while (pixels := _next_pixels(pipeline, self.device)) is not None:
            yield from self._empty_batches(epoch)
            ids, params = self._waiting.popleft()
            pixels = pixels.to(self.device, non_blocking=True)
            if params is not None and self.samples.colours:
                if self.exact_jitter:
                    pixels = jitter_batch(pixels, params.factors, params.orders)
                else:
                    pixels = twist_batch(pixels, params.factors)
            yield self.samples.finish(epoch, ids, pixels)
        yield from self._empty_batches(epoch)
        pipeline.reset()
        self._pipeline = pipeline

    def _empty_batches(self, epoch: int) -> Iterator[Batch]:
        while self._waiting and not len(self._waiting[0][0]):
            ids, _ = self._waiting.popleft()
            yield self.samples.finish(epoch, ids, self.samples.no_pixels())

    def _inputs(self, epoch: int, first_step: int) -> Iterator[tuple]:
        """Yield what the pipeline takes for each batch that has an image; `_waiting` learns of the others too."""
        reading: deque[tuple[Tensor, list[Future]]] = deque()
        for step in range(first_step, self.steps_per_epoch + self.prefetch):
            if step < self.steps_per_epoch:
                ids = self.samples.order.ids(epoch, step)
                reading.append((ids, [self._readers.submit(self._read, part) for part in ids.split(READ_TOGETHER)]))
            if step - first_step < self.prefetch:
                continue
            if not reading:
                return
            ids, files = reading.popleft()
            contents = self._whole(ids, [content for file in files for content in file.result()])
            ids = torch.tensor(list(contents), dtype=torch.int64)
            params = self.samples.augment_params(epoch, ids) if self.samples.augment else None
            self._waiting.append((ids, params))
            if contents:
                images = [np.frombuffer(content, np.uint8) for content in contents.values()]
                yield images, *self._geometry(ids, params)

    def _read(self, ids: Tensor) -> list[bytes | DamagedImage]:
        contents: list[bytes | DamagedImage] = []
        for sample_id in ids.tolist():
            try:
                contents.append(self._content(sample_id))
            except DamagedImage as damage:
                contents.append(damage)
        return contents

    def _content(self, sample_id: int) -> bytes:
        content = self.samples.read(sample_id)
        return as_png(content) if sample_id in self._by_pillow else for_dali(content)

    def _whole(self, ids: Tensor, contents: list[bytes | DamagedImage]) -> dict[int, bytes]:
        whole = {}
        for sample_id, content in zip(ids.tolist(), contents, strict=True):
            if isinstance(content, DamagedImage):
                self.samples.leave_out(sample_id, str(content))
            else:
                whole[sample_id] = content
        return whole

    def _geometry(self, ids: Tensor, params: AugmentParams | None) -> tuple[np.ndarray, ...]:
        """Return the inputs of the pipeline after the images."""
        if params is None:
            sizes, corners = self.samples.centres(ids)
            return sizes.float().numpy(), corners.int().numpy()
        corners, shapes = params.boxes.int().split(2, dim=1)
        return tuple(tensor.contiguous().numpy() for tensor in (corners, shapes, params.flips.int()))

    def _build(self, batch_size: int, prefetch: int, source: "_Feed") -> Any:
        samples, types = self.samples, self._dali.types
        kinds = [types.INT32] * 3 if samples.augment else [types.FLOAT, types.INT32]
        pipeline = self._dali.Pipeline(
            batch_size=batch_size,
            num_threads=self.num_threads,
            device_id=self.device.index or 0 if self.decode_on_gpu else None,
            prefetch_queue_depth=prefetch,
            exec_dynamic=True,
        )
        with pipeline:
            inputs = self._dali.fn.external_source(
                source=source, num_outputs=1 + len(kinds), batch=True, dtype=[types.UINT8, *kinds]
            )
            pipeline.set_outputs(self._train_graph(*inputs) if samples.augment else self._valid_graph(*inputs))
        pipeline.build()
        return pipeline

    def _train_graph(self, content, corner, shape, flip):
        fn, size = self._dali.fn, self.samples.image_size
        axes = {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
        image = fn.decoders.image_slice(content, corner, shape, **axes, **self._decoding())
        image = fn.resize(image, size=[size, size], **self._resizing())
        return fn.flip(image, horizontal=flip)

    def _valid_graph(self, content, size, corner):
        fn, side = self._dali.fn, self.samples.image_size
        image = fn.resize(fn.decoders.image(content, **self._decoding()), size=size, **self._resizing())
        return fn.slice(image, corner, [side, side], axes=[0, 1])

    def _decoding(self) -> dict[str, Any]:
        """How to decode as Pillow does: no turning by EXIF, libjpeg's smooth upsampling of colours."""
        types = self._dali.types
        common = {"output_type": types.RGB, "adjust_orientation": False, "jpeg_fancy_upsampling": True}
        if not self.decode_on_gpu:
            return {"device": "cpu", **common}
        memory = {"preallocate_width_hint": LARGEST_WIDTH, "preallocate_height_hint": LARGEST_HEIGHT}
        return {"device": "mixed", "hw_decoder_load": HARDWARE_SHARE, **memory, **common}

    def _resizing(self) -> dict[str, Any]:
        """How to resize as Pillow's bilinear filter does."""
        return {"interp_type": self._dali.types.INTERP_LINEAR, "antialias": True, "subpixel_scale": False}

    def _refuse_culprits(self, epoch: int, step: int, reason: str) -> None:
        """Find the images of a step that DALI can't decode, though they are whole, one by one: Pillow decodes those."""
        ids = self.samples.order.ids(epoch, step)
        culprits = []
        for sample_id in ids.tolist():
            one = torch.tensor([sample_id])
            try:
                content = np.frombuffer(self._content(sample_id), np.uint8)
            except DamagedImage:
                continue  # found out already
            params = self.samples.augment_params(epoch, one) if self.samples.augment else None
            if (why := self._failure([content], *self._geometry(one, params))) is not None:
                culprits.append((sample_id, why))
        if not culprits:
            raise RuntimeError(f"DALI failed in epoch {epoch + 1}, step {step}: {reason}")
        for sample_id, why in culprits:
            if sample_id in self._by_pillow:
                self.samples.refuse(sample_id, f"DALI can't decode it: {why}")
            else:
                log.info("%s is left to Pillow, as DALI can't decode it: %s", self.samples.part.name(sample_id), why)
                self._by_pillow.add(sample_id)

    def _failure(self, *inputs: Any) -> str | None:
        """Return how DALI fails on a batch of one image, if it does."""
        try:
            pipeline = self._build(1, 1, _Feed(iter([inputs])))
            _attempt(pipeline.schedule_run)
            _next_pixels(pipeline, self.device)
        except _DecodingError as error:
            return str(error)
        return None


class _Feed:
    """What a pipeline calls for the inputs of its next batch; the StopIteration of the last ends its epoch.

    It keeps no loader alive: a pipeline in a reference cycle could be collected late, in a forked worker, and crash it.
    """

    def __init__(self, inputs: Iterator[tuple] = iter(())):  # noqa: B008 - empty for ever
        self.inputs = inputs

    def __call__(self) -> tuple:
        return next(self.inputs)


class _DecodingError(Exception):
    """DALI gave up on a batch."""


def _next_pixels(pipeline: Any, device: torch.device) -> Tensor | None:
    """Return a scheduled batch (B, H, W, 3) uint8 and schedule another one; None at the end of the pipeline's epoch."""
    stream = torch.cuda.current_stream(device) if pipeline.device_id is not None else None
    try:
        (output,) = _attempt(pipeline.share_outputs, stream)
    except StopIteration:
        return None
    pixels = torch.from_dlpack(output.as_tensor())
    pipeline.release_outputs()  # the tensor keeps its memory
    _attempt(pipeline.schedule_run)
    return pixels


def _attempt(call: Callable, *arguments: object) -> Any:
    try:
        return call(*arguments)
    except (RuntimeError, MemoryError) as error:
        reason = _reason(error)
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(reason):  # no fault of the images
            raise ValueError(
                f"memory ran out while images were prepared ({reason}); lower --resize, --batch_size, --num_threads or "
                "--prefetch"
            ) from None
        raise _DecodingError(reason) from None


def _reason(error: Exception) -> str:
    """Return what happened, out of DALI's many lines: what it was doing, and what it then encountered."""
    operator = re.search(r"Error in .*operator `[^`]*`", str(error))
    told = [line.strip() for line in str(error).rpartition("encountered:")[2].splitlines()]
    news = [line for line in told if line and not line.startswith(NO_NEWS)]
    return ": ".join([*([operator[0]] if operator else []), *news[:1]]) or type(error).__name__


def import_dali() -> Any:
    """Import DALI. Raises ValueError with a hint where it is missing."""
    try:
        from nvidia import dali
        from nvidia.dali import fn, types  # noqa: F401 - so that dali.fn and dali.types are there
    except ImportError:
        raise ValueError(
            "--loader dali needs NVIDIA DALI, which is not installed: pip install 'darts_hpc[dali]', "
            "or take --loader torchvision"
        ) from None
    return dali
