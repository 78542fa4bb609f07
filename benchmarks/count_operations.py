"""Count the tensor operations of a step, and estimate the kernels and the memory traffic that they are on a GPU.

Every operation reads its inputs and writes its outputs once; the numbers of kernels are those of eager PyTorch on CUDA,
by reading its source. Neither caches nor fusion are thought of: the figures compare forms of a step, and predict no
time.
"""

from collections import Counter, defaultdict
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_LAUNCH = {  # views, and what only allocates or reads metadata
    "view", "_unsafe_view", "_reshape_alias", "expand", "slice", "select", "t", "transpose", "permute", "detach",
    "as_strided", "unsqueeze", "squeeze", "alias", "unbind", "split", "split_with_sizes", "empty", "empty_like",
    "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "diagonal", "is_same_size",
    "_record_function_enter_new", "_record_function_exit", "promote_types",
}  # fmt: skip
TENSORS_PER_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36}
"""Lists of tensors that a foreach operation takes -> how many tensors one of its kernels serves."""
ELEMENTS_PER_LAUNCH = 320 * 65536
"""320 blocks of 65,536 elements."""


class CountOperations(TorchDispatchMode):
    """Count tensor operations that do some work: about one kernel each on a GPU.

    Attributes:
        part: of the step under way, by which `parts` adds up operations, kernels and bytes.
    """

    def __init__(self):
        super().__init__()
        self.by_name: Counter[str] = Counter()
        self.part = "step"
        self.parts: dict[str, Counter[str]] = defaultdict(Counter)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        self.by_name[name] += 1
        result = func(*args, **(kwargs or {}))
        if name not in NO_LAUNCH:
            kernels, traffic = estimate(name, args, kwargs or {}, result)
            self.parts[self.part].update({"operations": 1, "kernels": kernels, "bytes": traffic})
        return result

    def total(self, what: str = "operations") -> int:
        """Return the number of operations, kernels or bytes of all parts."""
        return sum(part[what] for part in self.parts.values())


def estimate(name: str, args: Any, kwargs: Any, result: Any) -> tuple[int, int]:
    """Return the kernels that an operation is on CUDA, and the bytes that they read and write."""
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    read, written = (
        sum(map(num_bytes, tensors)) for tensors in (inputs, [t for t in tree_leaves(result) if isinstance(t, Tensor)])
    )
    if name.startswith(("_foreach", "_fused")):
        lists = [a for a in args if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)]
        first, num_lists = lists[0], len(lists)
        launches = -(-len(first) // TENSORS_PER_LAUNCH.get(num_lists, 30))
        launches = max(launches, -(-sum(t.numel() for t in first) // ELEMENTS_PER_LAUNCH))
        in_place = name.endswith("_")
        return launches + (name == "_foreach_norm"), read + (sum(map(num_bytes, first)) if in_place else written)
    if name == "convolution_backward":
        gradient, x, weight = map(num_bytes, inputs[:3])
        of_input, of_weight, _ = args[-1]
        # beside a weight's gradient, cuDNN clears memory or adds up its parts
        return of_input + 2 * of_weight, (gradient + x + weight) * (of_input + of_weight)
    if name == "native_batch_norm" and not args[5]:  # by running statistics, in evaluation
        return 1, 2 * num_bytes(inputs[0])
    if "batch_norm" in name:
        # statistics, then normalise: x twice, and the result; in backward x and its gradient twice, and the result
        return 2, (5 if "backward" in name else 3) * num_bytes(inputs[0])
    if name == "cat":
        return max(1, -(-len(inputs) // 128)), read + written
    if name == "max_pool2d_with_indices_backward":
        return 2, read + 2 * written
    if name == "index":  # of the first tensor what is taken
        return 1, 2 * written + read - num_bytes(inputs[0])
    if name in ("zero_", "fill_"):
        return 1, num_bytes(inputs[0])
    if name == "copy_":
        return 1, read
    return {"sort": 4, "topk": 2}.get(name, 1), read + written


def num_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; of an expanded one those that are there."""
    count = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count
