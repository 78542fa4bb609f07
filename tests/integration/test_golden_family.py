"""The numbers of DARTS' successors, from their authors' code, in float64 to 1e-9 relative (README_family.md there).

GOLDEN_DIR names the folder of .npz files. Not offered, and so not checked: P-DARTS' stages and its limit of skip
connections (*_stages*), DrNAS' pruning (pruned_*), FairDARTS' thresholds (selected/*), GDAS' choice of two operations
on one edge (genotype_gdas).
"""

import ast
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from darts_hpc.config.train_search import SelectionConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.state_dicts import load_original
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.conditions import Conditions, Draw
from darts_hpc.search.curvature import alpha_hessian_product, largest_alpha_eigenvalue, start_vector
from darts_hpc.search.derive import derive_genotype
from darts_hpc.search.regularisers import REGULARISERS
from darts_hpc.search.selection import PerturbationSelection
from darts_hpc.search.stop_rules import local_averages, rising_eigenvalue
from darts_hpc.space.genotypes import parse_genotype
from darts_hpc.space.operations import Noise
from darts_hpc.space.spaces import SPACES, SearchSpace, uniform_space
from darts_hpc.training.loops import score_batches
from darts_hpc.training.search_step import search_step

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
WORLD = World(torch.device("cpu"))
KINDS = ("normal", "reduce")
Golden = Mapping[str, np.ndarray]


def golden_files(kind: str) -> list:
    files = sorted(FOLDER.glob(f"*_{kind}*.npz"))
    missing = pytest.mark.xfail(reason=f"no *_{kind}*.npz in {FOLDER}", strict=True)
    return [pytest.param(path, id=path.stem) for path in files] or [pytest.param(None, marks=missing)]


def assert_equal(name: str, ours: Tensor, theirs: np.ndarray, tolerance: float = 1e-9) -> None:
    expected = torch.as_tensor(theirs, dtype=torch.float64)
    assert ours.shape == expected.shape, name
    error = ((ours.detach() - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()
    assert error <= tolerance, f"{name} differs by {error:.2e} relative"


def unpack(golden: Golden, group: str) -> dict[str, Tensor]:
    tensors, at = {}, 0
    for name, sides in zip(golden[f"{group}_names"], golden[f"{group}_shapes"], strict=True):
        shape = [int(side) for side in sides if side >= 0]
        values = golden[f"{group}_values"][at : at + math.prod(shape)]
        tensors[str(name)] = torch.as_tensor(values, dtype=torch.float64).view(shape)
        at += math.prod(shape)
    return tensors


def space_of(golden: Golden) -> SearchSpace:
    if "primitives_normal" in golden:
        normal, reduce = (tuple(map(tuple, golden[f"primitives_{kind}"].tolist())) for kind in KINDS)
        return SearchSpace(normal, reduce)
    return uniform_space(tuple(golden["primitives"].tolist())) if "primitives" in golden else SPACES["darts"]


def supernet_of(golden: Golden) -> RelaxedNetwork:
    channels, layers, classes = (int(value) for value in golden["config"][:3])
    supernet = build_supernet(
        "plain", channels, layers, classes, space=space_of(golden), edge_norm="init_betas_normal" in golden,
        partial_channels=int(golden.get("partial_channels", 1)), auxiliary_skip="decay" in golden,
    ).double()  # fmt: skip
    statistics = unpack(golden, "statistics") if "statistics_names" in golden else {}
    load_original(supernet, {**supernet.state_dict(), **unpack(golden, "init"), **statistics})
    with torch.no_grad():
        for name, parameter in supernet.named_alphas().items():
            parameter.copy_(torch.as_tensor(golden[f"init_{name}"]))
    return supernet


@dataclass(frozen=True)
class RecordedDraw(Draw):
    """The numbers that the reference drew for one pass and kind of cell."""

    golden: Golden
    at: str
    half: str

    def gumbel(self, shape):
        return torch.as_tensor(self.golden[f"{self.at}{self.half}_gumbel_{KINDS[self.kind]}"])

    def dirichlet(self, concentration):
        return torch.as_tensor(self.golden[f"{self.at}sample_{self.half}_{KINDS[self.kind]}"])

    def uniform(self, shape):
        return torch.as_tensor(self.golden[f"{self.at}noise_{KINDS[self.kind]}"] / self.golden[f"{self.at}epsilon"])


@dataclass(frozen=True, kw_only=True)
class RecordedConditions(Conditions):
    """The conditions under which the reference took a step."""

    golden: Golden
    at: str

    def draw(self, key, kind):
        return RecordedDraw(key, kind, self.golden, self.at, "train" if int(key) else "valid")


def conditions_of(golden: Golden, at: str) -> Conditions:
    def number(name: str, default: float = 0.0) -> Tensor:
        return torch.tensor(float(golden.get(f"{at}{name}", default)), dtype=torch.float64)

    fixed = golden.get("zero_one_weight", golden.get("regulariser_scale", 0.0))
    return RecordedConditions(
        alpha_key=torch.tensor(0), weight_key=torch.tensor(1), tau=number("tau", 1.0), epsilon=number("epsilon"),
        auxiliary_share=number("auxiliary_share"), regulariser_weight=number("beta_weight", float(fixed)),
        drop_path=number("drop_path"), golden=golden, at=at,
    )  # fmt: skip


def relaxation_of(path: Path, golden: Golden) -> str:
    if "zero_one_loss" in golden:
        return "sigmoid"
    return "gumbel" if "step0/tau" in golden else "dirichlet" if "regulariser" in golden else "softmax"


def regulariser_of(golden: Golden) -> str:
    if str(golden.get("regulariser", "")) == "kl":
        return "kl"
    return "beta" if "step0/beta_weight" in golden else "zero_one" if "zero_one_loss" in golden else "none"


def batch(golden: Golden, at: str, half: str) -> tuple[Tensor, Tensor]:
    images, labels = golden[f"{at}x{half}"], golden[f"{at}y{half}"]
    return torch.as_tensor(images, dtype=torch.float64), torch.as_tensor(labels, dtype=torch.int64)


def assert_final(supernet: RelaxedNetwork, golden: Golden) -> None:
    weights = supernet.named_weights()
    for name, (total, norm) in zip(golden["final_names"], golden["final_sum_l2"], strict=True):
        weight = weights[str(name)]
        bound = 1e-9 * weight.numel() ** 0.5 * norm  # a sum may cancel to nearly nothing: its terms set the scale
        assert abs(weight.sum().item() - total) <= bound, f"sum of {name}"
        assert weight.norm().item() == pytest.approx(norm, rel=1e-9), f"norm of {name}"


@pytest.fixture
def recorded_noise(monkeypatch):
    """The noise operation draws README_family.md's formula; the fixture is what it needs to know: step and pass."""
    now = {"step": 0, "pass": 0}

    def forward(self, x, keys=None):
        side = -(-x.shape[2] // self.stride)
        shape = (x.shape[0], x.shape[1], side, side)
        i = torch.arange(math.prod(shape), dtype=torch.float64).view(shape)
        cell, edge = divmod(self.place, 14)
        phase = 2.9 * (edge + 1) + 1.1 * (cell + 1) + 0.37 * (2 * now["step"] + now["pass"] + 1)
        return math.sqrt(2) * torch.cos(7.3 * (i + 1) + phase)

    monkeypatch.setattr(Noise, "forward", forward)
    return now


@pytest.mark.parametrize("path", golden_files("family_"))
def test_a_search_of_the_family_equals_its_reference(path, recorded_noise):
    golden = dict(np.load(path))
    supernet, steps, unrolled = supernet_of(golden), int(golden["config"][5]), bool(golden["config"][6])
    relaxation, regulariser = relaxation_of(path, golden), regulariser_of(golden)
    architecture = Architecture(supernet, relaxation, auxiliary_skip="decay" in golden)
    optimizer = torch.optim.SGD(supernet.weights(), 0.0, momentum=0.9, weight_decay=3e-4)
    architect = Architect(
        supernet, learning_rate=3e-3, weight_decay=0.0 if regulariser == "kl" else 1e-3, world=WORLD,
        unrolled_method="finite_difference" if unrolled else None, architecture=architecture, regulariser=regulariser,
        betas=tuple(golden.get("arch_betas", (0.5, 0.999))),
    )  # fmt: skip
    for step in range(steps):
        at = f"step{step}/"
        train, valid, conditions = batch(golden, at, "t"), batch(golden, at, "v"), conditions_of(golden, at)
        optimizer.param_groups[0]["lr"] = float(golden[f"{at}lr"])
        for kind, term in (("normal", "beta_normal"), ("reduce", "beta_reduce")):
            if f"{at}{term}" in golden:
                alphas = supernet.named_alphas()[f"alphas_{kind}"]
                assert_equal(f"{at}{term}", REGULARISERS["beta"]([alphas]), golden[f"{at}{term}"])
        if f"{at}zero_one" in golden:
            assert_equal(f"{at}zero_one", REGULARISERS["zero_one"](architecture.alphas()), golden[f"{at}zero_one"])

        recorded_noise |= {"step": step, "pass": 0}
        gradients = architect.gradient(train, valid, optimizer, conditions)
        for name, gradient in zip(supernet.named_alphas(), gradients, strict=True):
            assert_equal(f"{at}grad_{name}", gradient, golden[f"{at}grad_{name}"])
        architect.step(train, valid, optimizer, conditions)
        for name, alphas in supernet.named_alphas().items():
            assert_equal(f"{at}{name}", alphas, golden[f"{at}{name}"])
        if f"{at}kl" in golden:
            assert_equal(f"{at}kl", REGULARISERS["kl"](architecture.alphas()), golden[f"{at}kl"])
        recorded_noise["pass"] = 1
        numbers = search_step(
            supernet, architect, optimizer, train, valid, grad_clip=5.0, world=WORLD, conditions=conditions,
            perturb="random" if f"{at}epsilon" in golden else "none", with_alphas=False,
        )  # fmt: skip
        assert_equal(f"{at}logits", numbers.logits, golden[f"{at}logits"])
        assert_equal(f"{at}loss", numbers.loss, golden[f"{at}loss"])
        assert_equal(f"{at}weight_grad_norm", numbers.weight_norm, golden[f"{at}weight_grad_norm"])
    assert_final(supernet, golden)
    theirs = ast.literal_eval(str(golden["genotype" if "genotype" in golden else "selected/darts"]))
    concat = {f"{kind}_concat": [2, 3, 4, 5] for kind in KINDS}
    assert derive_genotype(architecture.strengths(), space_of(golden)) == parse_genotype({**concat, **theirs})


@pytest.mark.parametrize("path", golden_files("smooth_adversarial"))
def test_the_adversary_climbs_as_its_reference_does(path):
    golden = dict(np.load(path))
    supernet = supernet_of(golden)
    optimizer = torch.optim.SGD(supernet.weights(), float(golden["lr"]), momentum=0.9, weight_decay=3e-4)
    architect = Architect(supernet, learning_rate=0.0, weight_decay=0.0, unrolled_method=None, world=WORLD)
    supernet.train()
    train = batch(golden, "", "t")
    numbers = search_step(
        supernet, architect, optimizer, train, train, grad_clip=5.0, world=WORLD, with_alphas=False,
        conditions=conditions_of(golden, ""), perturb="adversarial",
    )  # fmt: skip
    assert numbers.loss_before is not None and numbers.loss_after is not None
    assert_equal("loss before", numbers.loss_before, golden["losses"][0])
    assert_equal("loss after", numbers.loss_after, golden["losses"][-1])
    assert_equal("logits", numbers.logits, golden["logits"])
    assert_equal("loss", numbers.loss, golden["loss"])
    assert_equal("weight_grad_norm", numbers.weight_norm, golden["weight_grad_norm"])
    assert_final(supernet, golden)


@pytest.mark.parametrize("path", golden_files("early_stop"))
def test_the_eigenvalue_rule_stops_where_its_reference_does(path):
    golden = dict(np.load(path))
    for case in sorted({name.split("/")[0] for name in golden}):
        at = {name: golden[f"{case}/{name}"].tolist() for name in ("every", "epochs", "window", "factor", "delta")}
        eigenvalues, stopped = golden[f"{case}/eigenvalues"].tolist(), bool(golden[f"{case}/stopped"])
        first_epoch = int(golden[f"{case}/start_epoch"])
        decisions = [
            rising_eigenvalue(
                eigenvalues[:seen], at["every"], at["factor"], first_epoch, window=at["window"], delta=at["delta"]
            )
            for seen in range(1, len(eigenvalues) + stopped)  # the last epoch's is not asked about
        ]
        found = [index for index, stop in enumerate(decisions) if stop is not None]
        averages = local_averages(eigenvalues, at["window"], ended=not stopped)
        assert averages == pytest.approx(golden[f"{case}/local_averages"].tolist(), rel=1e-12), case
        assert bool(found) == stopped, case
        if stopped:
            assert found == [len(eigenvalues) - 1] and found[0] * at["every"] == golden[f"{case}/decided_at_epoch"], (
                case
            )
            stop = decisions[found[0]]
            assert stop is not None and stop.epoch == golden[f"{case}/stop_epoch"], case


@pytest.mark.parametrize("path", golden_files("hessian_"))
def test_fifteen_products_give_the_largest_eigenvalue_of_the_whole_hessian(path):
    golden = dict(np.load(path))
    supernet, batch_ = supernet_of(golden), batch(golden, "", "v")
    architecture, decay = Architecture(supernet), float(golden["arch_weight_decay"])
    found = largest_alpha_eigenvalue(
        supernet, architecture, batch_, None, weight_decay=decay, world=WORLD,
        start=start_vector(0, 0, architecture.alphas()),
    )  # fmt: skip
    assert_equal("lambda_max", found, golden["lambda_max"])
    vector = torch.as_tensor(golden["vector"])
    value = alpha_hessian_product(supernet, architecture, batch_, None, weight_decay=decay, world=WORLD)(vector)
    assert_equal("Hessian-vector product", value, golden["hessian_vector"])


@pytest.mark.parametrize("path", golden_files("perturbation_selection"))
def test_perturbation_selects_what_its_reference_does(path):
    golden = dict(np.load(path))
    supernet, space = supernet_of(golden), space_of(golden)
    fixed = str(golden["method"]) == "blank-proj"
    architecture = Architecture(supernet)
    optimizer = torch.optim.SGD(supernet.weights(), float(golden["tune_lr"]), momentum=0.9, weight_decay=3e-4)
    architect = Architect(
        supernet, learning_rate=3e-3, weight_decay=1e-3, unrolled_method=None, world=WORLD, architecture=architecture
    )
    train, valid = (
        [
            (torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(y, dtype=torch.int64))
            for x, y in zip(golden[f"{half}_x"], golden[f"{half}_y"], strict=True)
        ]
        for half in ("train", "valid")
    )
    cfg = SelectionConfig(
        selection="perturbation", pt_criterion="loss" if str(golden["criterion"]) == "loss" else "accuracy",
        pt_epochs_between=int(golden["every_epochs"]),
    )  # fmt: skip
    orders = ({kind: golden[f"{name}_order_{kind}"].tolist() for kind in KINDS} for name in ("edge", "node"))
    selection = PerturbationSelection(architecture, space, cfg, *orders)
    selection.first_epoch = 0

    def score(mixing):
        # in float64, torch convolves channels last a fifth slower
        return score_batches(supernet, [(*each, None) for each in valid], mixing, WORLD, torch.contiguous_format)

    def assert_scores(name, scores, accuracies, losses):
        assert_equal(f"{name} losses", torch.tensor([s.loss for s in scores], dtype=torch.float64), losses)
        assert [s.accuracy for s in scores] == pytest.approx(accuracies.tolist(), rel=1e-6), name

    for index in range(selection.num_decisions):
        assert selection.is_due(index)
        for decision in selection.decide(score, None):
            kind = decision.kind
            if index < len(space.normal):
                scores = golden[f"op_accuracy_{kind}"][index], golden[f"op_loss_{kind}"][index]
                assert_scores(f"{kind} edge {decision.edges}", decision.scores, *scores)
                names = getattr(space, kind)[decision.edges[0]]
                assert decision.operation == names[golden[f"chosen_op_{kind}"][index]]
            else:
                at = index - len(space.normal)
                theirs = golden[f"edge_scores_{kind}/node{golden[f'node_order_{kind}'][at]}"]
                assert_scores(f"{kind} node {at}", decision.scores, theirs[:, 0], theirs[:, 1])
                assert list(decision.edges) == sorted(golden[f"kept_edges_{kind}"][at].tolist())
        for images in train:
            search_step(
                supernet, architect, optimizer, images, valid[0], grad_clip=5.0, world=WORLD, with_alphas=not fixed
            )
    for kind, alphas in zip(KINDS, architecture.alphas(), strict=True):
        assert_equal(f"final alphas {kind}", alphas, golden[f"final_alphas_{kind}"])
        mixed = getattr(architecture.mix_expected(None), kind).operations
        assert_equal(f"final weights {kind}", mixed, golden[f"final_weights_{kind}"])
    assert_final(supernet, golden)
    assert derive_genotype(architecture.strengths(), space) == parse_genotype(ast.literal_eval(str(golden["genotype"])))
