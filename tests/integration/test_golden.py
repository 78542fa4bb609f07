"""The original implementation's numbers, in float64, to 1e-9 relative. GOLDEN_DIR names the folder of .npz files."""

import ast
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.models.state_dicts import export_original, load_original
from darts_hpc.models.supernet.build import SUPERNETS, build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import load_genotype, parse_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.training.search_step import weight_step

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
TOLERANCE = 1e-9
WORLD = World(torch.device("cpu"))


def golden_files(kind: str) -> list:
    files = sorted(FOLDER.glob(f"*_{kind}_*.npz"))
    missing = pytest.mark.xfail(reason=f"no *_{kind}_*.npz in {FOLDER}", strict=True)
    return [pytest.param(path, id=path.stem) for path in files] or [pytest.param(None, marks=missing)]


def test_public_golden_files_are_present():
    assert {kind for kind in ("search", "cifar", "imagenet") if golden_files(kind)[0].values[0]} == {
        "search",
        "cifar",
        "imagenet",
    }


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    theirs_tensor = torch.as_tensor(theirs, dtype=torch.float64)
    scale = theirs_tensor.abs().max().clamp_min(1e-300)
    return ((ours.detach() - theirs_tensor).abs().max() / scale).item()


def assert_equal(name: str, ours: Tensor, theirs: np.ndarray) -> None:
    assert tuple(ours.shape) == tuple(theirs.shape), name
    error = relative_error(ours, theirs)
    assert error <= TOLERANCE, f"{name} differs by {error:.2e} relative"


def initial_state(golden: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    names = [name for name in golden if name.startswith("init/")]
    return {name.removeprefix("init/"): torch.as_tensor(golden[name]) for name in names}


def batch(golden: Mapping[str, np.ndarray], step: int, half: str) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(golden[f"step{step}/x{half}"], dtype=torch.float64)
    return images, torch.as_tensor(golden[f"step{step}/y{half}"], dtype=torch.int64)


@pytest.mark.parametrize("kind", ["plain", "stacked"])  # fused equals stacked: test_fused.py
@pytest.mark.parametrize("path", golden_files("search"))
def test_search_equals_the_original(path, kind):
    golden = dict(np.load(path))
    channels, layers, classes, _, _, steps, unrolled = (int(v) for v in golden["config"])
    supernet = build_supernet(kind, channels, layers, classes).double()
    load_original(supernet, initial_state(golden))
    with torch.no_grad():
        supernet.alphas_normal.copy_(torch.as_tensor(golden["init_alphas_normal"]))
        supernet.alphas_reduce.copy_(torch.as_tensor(golden["init_alphas_reduce"]))
    optimizer = torch.optim.SGD(supernet.weights(), 0.0, momentum=0.9, weight_decay=3e-4)
    method = "finite_difference" if unrolled else None
    architect = Architect(supernet, learning_rate=3e-3, weight_decay=1e-3, unrolled_method=method, world=WORLD)
    gradients, take = [], architect.gradient
    architect.gradient = lambda *args: gradients.append(take(*args)) or gradients[-1]  # pyright: ignore

    for step in range(steps):
        train, valid = batch(golden, step, "t"), batch(golden, step, "v")
        optimizer.param_groups[0]["lr"] = float(golden[f"step{step}/lr"])
        architect.step(train, valid, optimizer)
        for kind, gradient in zip(("normal", "reduce"), gradients[step], strict=True):
            assert_equal(f"step {step} alpha gradient {kind}", gradient, golden[f"step{step}/grad_alphas_{kind}"])
        for kind, alpha in zip(("normal", "reduce"), supernet.alphas(), strict=True):
            assert_equal(f"step {step} alphas {kind}", alpha, golden[f"step{step}/alphas_{kind}"])
        loss, logits, _ = weight_step(supernet, optimizer, train, grad_clip=5.0, world=WORLD)
        assert_equal(f"step {step} logits", logits, golden[f"step{step}/logits"])
        assert_equal(f"step {step} loss", loss, golden[f"step{step}/loss"])

    for name, weight in supernet.original_layout(supernet.named_weights()).items():
        total, norm = golden[f"final_sum_l2/{name}"]
        bound = TOLERANCE * weight.numel() ** 0.5 * norm  # a sum may cancel to nearly nothing: its terms set the scale
        assert abs(weight.sum().item() - total) <= bound, f"sum of {name}"
        assert weight.norm().item() == pytest.approx(norm, rel=TOLERANCE), f"norm of {name}"
    theirs = parse_genotype(ast.literal_eval(str(golden["genotype"])))
    assert derive_genotype(architect.architecture.strengths(), SPACES["darts"]) == theirs


FORMS = "plain", "fast"


def derived_network(path: Path, golden: Mapping[str, np.ndarray], form: str) -> torch.nn.Module:
    channels, layers, classes, _, _, auxiliary = (int(v) for v in golden["config"])
    stem = "cifar" if "_cifar_" in path.name else "imagenet"
    genotype = load_genotype(str(golden["arch"]))
    plain = DerivedNetwork(stem, channels, classes, layers, bool(auxiliary), genotype).double()
    network, chosen, _ = choose_network(form, plain, WORLD.device)
    assert chosen == form
    return network


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", golden_files("cifar") + golden_files("imagenet"))
def test_derived_network_equals_the_original(path, form):
    golden = dict(np.load(path))
    network = derived_network(path, golden, form)
    load_original(network, initial_state(golden))
    images, labels = torch.as_tensor(golden["x"], dtype=torch.float64), torch.as_tensor(golden["y"])

    network.eval()
    assert_equal("logits in evaluation", network(images)[0], golden["eval_logits"])
    network.train()
    logits, logits_auxiliary = network(images)
    loss = F.cross_entropy(logits, labels)
    assert_equal("logits in training", logits, golden["train_logits"])
    if golden["config"][5]:
        assert_equal("auxiliary logits", logits_auxiliary, golden["aux_logits"])
        loss = loss + 0.4 * F.cross_entropy(logits_auxiliary, labels)
    assert_equal("loss", loss, golden["loss"])
    loss.backward()
    gradients = list(
        network.original_layout({name: p.grad for name, p in network.named_parameters() if p.grad is not None}).values()  # pyright: ignore[reportCallIssue]
    )
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    assert_equal("gradient norm", norm, golden["grad_norm"])
    assert_equal("gradient of the first weight", gradients[0], golden["stem_grad"])


def assert_state_survives(model: torch.nn.Module, theirs: Mapping[str, Tensor]) -> None:
    load_original(model, {f"module.{name}": tensor for name, tensor in theirs.items()})
    ours = export_original(model)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name].double(), theirs[name].double()) for name in theirs)


@pytest.mark.parametrize("kind", SUPERNETS)
@pytest.mark.parametrize("path", golden_files("search"))
def test_original_search_state_survives_import_and_export(path, kind):
    golden = dict(np.load(path))
    channels, layers, classes = (int(v) for v in golden["config"][:3])
    assert_state_survives(build_supernet(kind, channels, layers, classes).double(), initial_state(golden))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", golden_files("cifar") + golden_files("imagenet"))
def test_original_state_dict_survives_import_and_export(path, form):
    golden = dict(np.load(path))
    assert_state_survives(derived_network(path, golden, form), initial_state(golden))
