"""Weights of all kinds: what is read, and what is refused in which words."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from row import EVALUATE, Fault, Row, copied, flip

State = dict[str, torch.Tensor]


class Attack:
    """What would leave a folder behind where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("attacked",)


def saved(content: Callable[[State], object]) -> Fault:
    """Save something made of the training's state dict as {new}/model.pt."""

    def save(things: Path, new: Path) -> None:
        torch.save(content(torch.load(things / "weights" / "bare.pt", weights_only=True)), new / "model.pt")

    return save


def cut_short(things: Path, new: Path) -> None:
    """Save the first part of a file of weights as {new}/model.pt."""
    (new / "model.pt").write_bytes((things / "weights" / "bare.pt").read_bytes()[:5000])


TEST = (*EVALUATE, "--model_path", "{new}/model.pt")
HEAD = {"auxiliary_head.features.6.running_mean": torch.zeros(768), "auxiliary_head.classifier.bias": torch.zeros(7)}
READ = {
    "numbers of numpy beside them": lambda state: {"state_dict": state, "best_acc_top1": np.float64(93.2)},
    "under model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {}},
    "of a compiled network": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "of a parallel network": lambda state: {"net": {f"module.{name}": value for name, value in state.items()}},
    "an auxiliary head of another layout": lambda state: {**state, **HEAD},
}


def other(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], object]:
    """Change one tensor."""
    return lambda state: {**state, name: change(state[name])}


REFUSED = {
    "not finite": (other("stem.0.weight", lambda value: value * float("nan")), "stem.0.weight is not finite"),
    "sparse": (other("classifier.weight", torch.Tensor.to_sparse), "classifier.weight is sparse"),
    "complex": (other("classifier.bias", lambda value: value + 1j), "classifier.bias is complex"),
    "without values": (other("stem.0.weight", lambda value: value.to("meta")), "stem.0.weight has no values"),
    "whole numbers": (other("classifier.bias", torch.Tensor.int), "classifier.bias holds torch.int32"),
    "of another size": (other("classifier.bias", lambda value: value[:3]), "classifier.bias is (3,) in the state dict"),
    "an optimizer's": (lambda state: {"optimizer": {}}, "holds no state dict but a dictionary with optimizer"),
    "code": (lambda state: {"state_dict": state, "x": Attack()}, "holds an object of posix.mkdir"),
    "a list": (lambda state: [1, 2], "holds no state dict but a list"),
}
OF_RUN = ("evaluate", "--model_path", "{new}/run/weights.pt")
WEIGHTS = (
    *(Row(f"weights are read: {kind}", TEST, fault=saved(content), code=0) for kind, content in READ.items()),
    *(Row(f"weights are refused: {kind}", TEST, said, saved(content)) for kind, (content, said) in REFUSED.items()),
    Row("weights that are cut short", TEST, "is damaged", cut_short),
    Row(
        "weights of a run with a flipped bit", OF_RUN, "its digest is not the one in result.json",
        lambda things, new: flip(copied(things, new, "runs/train") / "weights.pt"),
    ),
    Row("weights of a terabyte", (*EVALUATE, "--model_path", "{things}/odd/huge"), "has 1099511627776 bytes"),
    Row("weights of a search", ("evaluate", "--model_path", "{things}/runs/search"), "train its cell first"),
)  # fmt: skip
