"""Count the bytes of live tensors while something runs: on real tensors, or on meta tensors, which hold no memory."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

RESIZING = (
    "aten::resize", "aten::set_", "aten::as_strided", "aten::transpose", "aten::t_", "aten::squeeze", "aten::unsqueeze",
)  # fmt: skip
"""In-place operations that change a tensor's shape or storage: these are always run."""

BATCH_SIZE, HALF_INIT_CHANNELS = 65_537, 1_048_583
"""Primes that a step is traced with: as factors of a tensor's size they show how it grows with batch and channels."""

NUM_POWERS = 3
"""Number of powers of the channels that a size may have: 0 to 2, as the weights of pointwise convolutions."""


class LiveBytes(TorchDispatchMode):
    """While open, count the bytes of the storages that operations make: `bytes` are live now, `peak` is their maximum.

    A storage counts from the operation that makes it until the last tensor that uses it is gone: what autograd saves
    for backward counts, views do not. A kernel's temporary workspace is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.events: list[int] = []
        """In order: +n where a storage of n bytes is made, -n where it is gone."""
        self._live: dict[int, weakref.ref] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch.compile never sees this mode, and need not be shielded from it

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        self._count(result)
        return result

    def _count(self, result: Any) -> None:
        if isinstance(result, Tensor):
            self._count_storage(result.untyped_storage())
        elif isinstance(result, tuple | list):
            for item in result:
                self._count(item)

    def _count_storage(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return
        num_bytes = storage.nbytes()

        # torch keeps the Python object of a storage for as long as the storage lives in C++.
        def forget(_: weakref.ref) -> None:
            del self._live[key]
            self.bytes -= num_bytes
            self.events.append(-num_bytes)

        self._live[key] = weakref.ref(storage, forget)
        self.bytes += num_bytes
        self.events.append(num_bytes)
        self.peak = max(self.peak, self.bytes)


class Footprint:
    """The live bytes of one search step for any batch size and number of channels, from one trace of it.

    The trace ran with BATCH_SIZE images and 2 * HALF_INIT_CHANNELS channels. A size that BATCH_SIZE divides grows with
    the batch, and with that power of the channels that HALF_INIT_CHANNELS has in it. Any other size, such as that of
    all weights together, is a polynomial in the channels, whose coefficients are its digits in base HALF_INIT_CHANNELS.

    Args:
        events: those of a LiveBytes.
        scales_with_channels: False for a trace that ran with the channels of interest, and holds for these alone.
    """

    def __init__(self, events: list[int], scales_with_channels: bool = True):
        kinds = {size: kind for kind, size in enumerate(sorted({abs(event) for event in events}))}
        base = HALF_INIT_CHANNELS if scales_with_channels else None
        terms = [_decode(size, base) for size in kinds]
        self._with_batch = torch.tensor([with_batch for with_batch, _ in terms])
        self._coefficients = torch.tensor([coefficients for _, coefficients in terms])  # (sizes, powers of channels)
        self._kinds = torch.tensor([kinds[abs(event)] for event in events])
        self._signs = torch.tensor([1 if event > 0 else -1 for event in events])

    def peak(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the peak of live bytes, each storage rounded up to whole blocks of `block` bytes."""
        powers = torch.tensor([(init_channels // 2) ** power for power in range(NUM_POWERS)])
        sizes = (self._coefficients * powers).sum(1) * torch.where(self._with_batch, batch_size, 1)
        sizes = (sizes + block - 1) // block * block
        return int((sizes[self._kinds] * self._signs).cumsum(0).max())


def _decode(size: int, base: int | None) -> tuple[bool, list[int]]:
    """Return whether a size grows with the batch, and its coefficients by powers of half the channels."""
    with_batch = size > 0 and size % BATCH_SIZE == 0
    if with_batch:
        size //= BATCH_SIZE
    coefficients = [0] * NUM_POWERS
    if base is None:
        coefficients[0] = size
    elif with_batch:  # one term, whose factor may be larger than the base
        power = 0
        while size % base == 0:
            size, power = size // base, power + 1
        coefficients[power] = size
    else:
        for power in range(NUM_POWERS - 1):
            size, coefficients[power] = divmod(size, base)
        coefficients[-1] = size  # the rest, which may exceed the base: stacked weights in float64 do
    return with_batch, coefficients


class MetaLiveBytes(LiveBytes):
    """Count a computation on meta or fake tensors, a few times faster than torch runs it there.

    A supernet repeats a few hundred operations tens of thousands of times. What an operation makes depends on the
    shapes, strides and types of its arguments alone, so each runs once and its result is cached.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recipes: dict[Any, Callable[[tuple], Any]] = {}
        self._kinds: dict[Any, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation, or recreate its cached result; count that."""
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind == "other":
            return super().__torch_dispatch__(func, types, args, kwargs)
        key = (func, _cache_key(args), _cache_key(kwargs) if kwargs else None)
        recipe = self._recipes.get(key)
        if recipe is None:
            result = func(*args, **(kwargs or {}))
            self._recipes[key] = _first_argument if kind == "in place" else _recipe(result)
        else:
            result = recipe(args)
        self._count(result)
        return result


def _kind(func: Any) -> str:
    """Return "new" for an operation that makes new tensors, "in place" for one that only writes to its first."""
    if func.namespace != "aten":
        return "other"
    schema = func._schema
    aliases = [each.alias_info for each in schema.returns]
    if not schema.is_mutable and not any(aliases):
        return "new"
    written = [each.name for each in schema.arguments if each.alias_info is not None and each.alias_info.is_write]
    in_place = written == ["self"] and len(aliases) == 1 and aliases[0] is not None and aliases[0].is_write
    return "in place" if in_place and not schema.name.startswith(RESIZING) else "other"


def _cache_key(value: Any) -> Any:
    """Return a hashable key of everything that the result's shape depends on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, tuple | list):
        return tuple([_cache_key(item) for item in value])
    if isinstance(value, dict):
        return tuple([(name, _cache_key(item)) for name, item in value.items()])
    return value, type(value)  # 1 == 1.0 == True, but they promote differently


def _first_argument(args: tuple) -> Any:
    return args[0]


def _recipe(result: Any) -> Callable[[tuple], Any]:
    """Return a function that makes such a result again, in new storages."""
    leaves, tree = tree_flatten(result)
    makers = [_maker(leaf) for leaf in leaves]
    if isinstance(result, Tensor):
        return makers[0]
    return lambda args: tree_unflatten([make(args) for make in makers], tree)


def _maker(leaf: Any) -> Callable[[tuple], Any]:
    if not isinstance(leaf, Tensor):
        return lambda args: leaf
    shape, stride, dtype, device = leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    return lambda args: torch.empty_strided(shape, stride, dtype=dtype, device=device)
