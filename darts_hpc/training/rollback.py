"""Roll back a step that runs out of memory, so that the run can be saved as it was before the step."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from darts_hpc.errors import RolledBack, is_out_of_memory
from darts_hpc.search.architect import Architect


@contextmanager
def between_steps() -> Iterator[None]:
    """Raise RolledBack where work that does not change the run's state runs out of memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold tensors
        raise RolledBack(str(error)) from None


class Rollback:
    """Run each step in `with`: out of memory, it restores what the step had changed so far and raises RolledBack.

    Until the weights' optimizer steps, that is the buffers and the alphas with their optimizer, all small: their copies
    cost next to nothing. The weights come last, when the activations are gone; if memory runs out even there, the step
    can't be rolled back, and the error is passed on.

    Args:
        network: whose buffers a step changes.
        optimizer: of the weights.
        architect: of the alphas, in a search.
        others: further tensors that a step changes, such as a meter's.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        architect: Architect | None = None,
        others: Iterable[Tensor] = (),
    ):
        self.optimizer, self.architect = optimizer, architect
        self._alphas = [] if architect is None else list(architect.supernet.alphas())
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        changed = [*network.buffers(), *others]
        dtypes = dict.fromkeys(tensor.dtype for tensor in changed)
        self._buffers = [[tensor for tensor in changed if tensor.dtype == dtype] for dtype in dtypes]
        self._old_buffers = [[torch.empty_like(buffer) for buffer in group] for group in self._buffers]

    def __enter__(self) -> None:
        self._old_alphas = [alpha.detach().clone() for alpha in self._alphas]
        if self.architect is not None:
            self._old_architect = tree_map_only(Tensor, torch.clone, self.architect.state_dict())
        self._old_versions = [weight._version for weight in self._weights]
        for old, buffers in zip(self._old_buffers, self._buffers, strict=True):
            _copy(old, buffers)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not is_out_of_memory(error):
            return
        traceback.clear_frames(trace)  # they hold the step's activations
        if self._old_versions != [weight._version for weight in self._weights]:
            return
        with torch.no_grad():
            for old, buffers in zip(self._old_buffers, self._buffers, strict=True):
                _copy(buffers, old)
            for alpha, old in zip(self._alphas, self._old_alphas, strict=True):
                alpha.copy_(old)
        self.optimizer.zero_grad()
        if self.architect is not None:
            self.architect.load_state_dict(self._old_architect)
            self.architect.optimizer.zero_grad()
        raise RolledBack(str(error)) from None


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    torch._foreach_copy_(to, source)  # pyright: ignore[reportPrivateImportUsage]
