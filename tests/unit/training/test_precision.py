"""Number formats: which is chosen, what is refused, and that a step which overflowed is left out whole."""

from unittest import mock

import pytest
import torch
from torch import nn

from darts_hpc.training.precision import Precision, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
ONE, NAN = torch.tensor(1.0), torch.tensor(float("nan"))


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_the_gpu_computes_in_it(has_bf16, expected):
    with mock.patch("torch.cuda.is_bf16_supported", return_value=has_bf16):
        assert choose_precision("auto", CUDA) == expected
        assert choose_precision("fp16", CUDA) == "fp16"
    assert choose_precision("auto", CPU) == "fp32" and choose_precision("bf16", CPU) == "bf16"


def test_what_the_machine_cannot_do_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^--precision fp16 needs a GPU, .*choose fp32, or bf16$"):
        choose_precision("fp16", CPU)
    with mock.patch("torch.cuda.is_bf16_supported", return_value=False), pytest.raises(ValueError, match="choose fp16"):
        choose_precision("bf16", CUDA)


def step(precision: Precision, weight: nn.Parameter, optimizer: torch.optim.Optimizer, factor: float) -> torch.Tensor:
    with precision.autocast():
        loss = (weight * factor).sum()
    precision.backward(loss)
    return precision.clip_and_step(optimizer, [weight], 5.0)


def scaled(weight: nn.Parameter) -> tuple[Precision, torch.optim.Optimizer]:
    """Loss scaling as in fp16, which torch also has on the CPU."""
    precision = Precision("fp16", CPU)
    assert precision.scaler.is_enabled() and precision.scaler.get_scale() == 65536
    return precision, torch.optim.SGD([weight], 0.1, momentum=0.9)


def test_gradients_are_unscaled_before_they_are_clipped():
    weight = nn.Parameter(torch.ones(1))
    precision, optimizer = scaled(weight)
    assert step(precision, weight, optimizer, 3.0) == 3  # the true norm, below the limit: nothing is clipped
    assert weight.item() == pytest.approx(1 - 0.1 * 3)
    assert step(precision, weight, optimizer, 50.0) == 50
    assert weight.item() == pytest.approx(0.7 - 0.1 * (0.9 * 3 + 5))


def test_an_overflow_is_counted_and_moves_neither_weights_nor_momentum():
    weight = nn.Parameter(torch.ones(1))
    precision, optimizer = scaled(weight)
    step(precision, weight, optimizer, 3.0)
    before = weight.item(), optimizer.state[weight]["momentum_buffer"].clone()
    step(precision, weight, optimizer, float("inf"))
    assert weight.item() == before[0] and optimizer.state[weight]["momentum_buffer"].equal(before[1])
    assert precision.skipped == 1 and precision.scaler.get_scale() == 32768 and weight.grad is None
    assert precision.can_continue(NAN, NAN)  # in fp16 overflows are normal
    restored = Precision("fp16", CPU)
    restored.load_state_dict(precision.state_dict())
    assert restored.skipped == 1 and restored.scaler.get_scale() == 32768


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_without_scaling_neither_loss_nor_gradient_may_be_other_than_finite(name):
    precision = Precision(name, CPU)
    assert precision.can_continue(ONE, ONE)
    for bad in (NAN, torch.tensor(float("inf"))):
        assert not precision.can_continue(bad, ONE) and not precision.can_continue(ONE, bad)


def test_in_fp16_a_gradient_that_fits_at_no_scale_ends_the_run():
    weight = nn.Parameter(torch.ones(1))
    precision, optimizer = scaled(weight)
    for _ in range(16):
        step(precision, weight, optimizer, float("nan"))
    assert precision.can_continue(NAN, NAN)
    step(precision, weight, optimizer, float("nan"))
    assert not precision.can_continue(NAN, NAN)


def test_autocast_computes_in_the_format_and_keeps_losses_in_float32():
    x = torch.randn(2, 3)
    with Precision("bf16", CPU).autocast():
        logits = nn.Linear(3, 4)(x)
        assert logits.dtype == torch.bfloat16
        assert nn.functional.cross_entropy(logits, torch.tensor([0, 1])).dtype == torch.float32
    with Precision("fp32", CPU).autocast():
        assert nn.Linear(3, 4)(x).dtype == torch.float32
