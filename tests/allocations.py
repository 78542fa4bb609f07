"""What torch's CPU allocator gave out while something ran, by torch's own record."""

import torch
from torch._C._profiler import _EventType  # pyright: ignore[reportPrivateUsage]
from torch.profiler import profile

STEP = "a step"
"""Name of a record_function around what is to be measured, if not all that was recorded."""


def most_allocated(recorded: profile) -> int:
    """Return the most bytes that were given out after any operation, or after any of a record_function(STEP)."""
    waiting = [(event, False) for event in recorded.profiler.kineto_results.experimental_event_tree()]  # pyright: ignore
    changes, ends, begin = [], [], 0
    while waiting:
        event, in_kernel = waiting.pop()
        # A convolution's temporary workspace differs between kinds of CPU.
        waiting += [(child, in_kernel or "convolution" in event.name) for child in event.children]
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))  # pyright: ignore
        elif event.name == STEP:
            begin = max(begin, event.start_time_ns)
        elif event.tag == _EventType.TorchOp and not in_kernel:
            ends.append(event.end_time_ns)
    times, sizes = torch.tensor(sorted(changes)).T.contiguous()
    assert len(sizes) > 1000
    last = (
        torch.searchsorted(times, torch.tensor([end for end in ends if end > begin]), right=True) - 1
    )  # change before the end of each operation
    return int(sizes.cumsum(0)[last[last >= 0]].max())
