"""What holds for a search by every preset of the family: it goes on from a kill, and ranks search as one process."""

import functools
import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from ranks import on_ranks
from run_entries import FEW, TINY
from torch.nn.functional import elu

from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.errors import Diverged
from darts_hpc.memory.plan import plan_search
from darts_hpc.search import curvature
from darts_hpc.search.schedule import epoch_conditions
from darts_hpc.search.selection import Score
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.space.spaces import SPACES, SearchSpace, uniform_space
from darts_hpc.training import search_run
from darts_hpc.training.search_step import search_step

SHORT = [*TINY, *FEW, "--report_freq", "50"]
SHORT += ["--batch_size", "48", "--image_size", "4"]  # one step an epoch
FEW = ["--space", "s2"]  # two operations an edge: less than a third of the time
STEP = {  # preset -> what makes it short
    "pc_darts": [*FEW, "--alpha_warmup_epochs", "1"],
    "sdarts_rs": FEW,
    "sdarts_adv": FEW,
    "beta_darts": FEW,
    "darts_minus": ["--space", "s3"],
    "drnas": [*FEW, "--alpha_warmup_epochs", "1"],
    "gdas": ["--batch_size", "24"],  # two steps: it is killed between them
    "fair_darts": FEW,
}
BY_CURVATURE = ["--epochs", "9", "--early_stop_from", "1", "--eigenvalue_every", "1", "--no-unrolled", "--space", "s2"]
RULES = {"darts_es": BY_CURVATURE, "darts_ada": BY_CURVATURE}
PT = ["--epochs", "1", "--pt_epochs_between", "1", "--pt_batches", "1", "--space", "s2"]
STOPPED = ["--epochs", "2", "--early_stop", "skips", "--max_skips", "0", "--early_stop_from", "0"]
SELECTIONS = {"darts_pt": PT, "darts_pt_fixed": [*PT, *STOPPED]}
IN_A_DECISION = 14 * 8 + 4 + 8
"""Batches: 8 in each of 14 tunings and decisions of edges' operations, 4 in another tuning, and some of a decision."""
SPACES_OF_NOISE = {"s4": ["--space", "s4", "--search_drop_path", "0.2"], "s1": ["--space", "s1"]}


PLAIN = {"cifar10", "cifar10_unrolled", "digits", "tiny", "pc_darts_imagenet"}
SAME = {"robust": "darts_minus"}
"""What the recommended preset is, which needs no runs of its own."""
FAMILY = sorted({path.stem for path in Path("configs/search").glob("*.yaml")} - PLAIN - SAME.keys())
"""Every preset of the family: a new one is covered."""


WEIGHTS = {  # what space.json calls them -> the weights of operations that a run records
    "softmax(alpha)": lambda alphas: alphas.softmax(-1),
    "sigmoid(alpha)": torch.sigmoid,
    "mean of Dir(elu(alpha) + 1)": lambda alphas: (elu(alphas) + 1) / (elu(alphas) + 1).sum(-1, keepdim=True),
}


def flags_of(name: str) -> list[str]:
    extra = {**STEP, **RULES, **SELECTIONS, **SPACES_OF_NOISE}.get(name, FEW)
    preset = [] if name in SPACES_OF_NOISE else ["--config", f"configs/search/{name}.yaml"]
    return [*preset, *SHORT, *extra]


def config(name: str, *more: str) -> SearchConfig:
    return parse_config(SearchConfig, [*flags_of(name), *more])


@pytest.mark.parametrize("name", SAME)
def test_a_preset_of_two_names_is_one(name):
    one, other = (yaml.safe_load(Path(f"configs/search/{key}.yaml").read_text()) for key in (name, SAME[name]))
    assert one == other | {"save": name}


def search(name: str, folder: Path, monkeypatch, *more: str, kill_at: int | None = None) -> int:
    """Run a search; return how many batches it asked for.

    Where it asks for the kill_at-th, or the -kill_at-th from the end, what it leaves to whoever kills it there is
    copied to the folder "killed" beside it, and then goes on there.
    """
    calls, batch, killed = [0], BatchSource.batch, folder.with_name("killed")

    def counted(self, epoch, step):
        calls[0] += 1
        if kill_at is not None and kill_at in (calls[0], -abs(kill_at)):
            shutil.copytree(folder, folder.with_name(f"killed-{calls[0]}"))
        return batch(self, epoch, step)

    def run(save: Path) -> None:
        train_search.main(config(name, "--save", f"{save}/", "--resume", "auto", *more))

    with monkeypatch.context() as patch:
        patch.setattr(BatchSource, "batch", counted)
        run(folder)
    if kill_at is not None:
        at = kill_at if kill_at > 0 else calls[0] + kill_at
        folder.with_name(f"killed-{at}").rename(killed)
        run(killed)
    return calls[0]


def outcome(folder: Path) -> dict[str, bytes]:
    tensors = {
        f"{file}: {name}": tensor.contiguous().numpy().tobytes()
        for file in ("weights.pt", "alphas.pt")
        for name, tensor in torch.load(folder / file, weights_only=True).items()
    }
    return tensors | {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "genotypes.jsonl")}


def assert_same(folder: Path, reference: Path) -> None:
    ours, theirs = outcome(folder), outcome(reference)
    assert [name for name in theirs if ours[name] != theirs[name]] == [] and ours.keys() == theirs.keys()


@pytest.mark.parametrize("name", [*STEP, *SPACES_OF_NOISE])
def test_a_killed_search_goes_on_bitwise_the_same(name, tmp_path, monkeypatch):
    search(name, tmp_path / "whole", monkeypatch, "--checkpoint_freq", "1", kill_at=-3)
    assert_same(tmp_path / "killed", tmp_path / "whole")
    genotype = load_genotype(str(tmp_path / "whole"))
    assert len(genotype.normal) == len(genotype.reduce) == 8
    assert "collapse" in json.loads((tmp_path / "whole" / "result.json").read_text())
    alphas = torch.load(tmp_path / "whole" / "alphas.pt", weights_only=True)["alphas_normal"].double()
    recorded = torch.tensor(metrics(tmp_path / "whole", "epoch")[-1]["alphas/normal"], dtype=torch.float64)
    label = json.loads((tmp_path / "whole" / "space.json").read_text()).get("weights", "softmax(alpha)")
    torch.testing.assert_close(recorded, WEIGHTS[label](alphas))


@pytest.fixture
def rising_eigenvalues(monkeypatch):
    """Eigenvalues that double from epoch to epoch, whatever the search does; the real ones are tested elsewhere."""
    counted = []

    def eigenvalue(*args, start, **kwargs):
        counted.append(1)
        assert start.shape == (2 * 14 * 2,)
        return start.abs().sum() * 0 + 2.0 ** len(counted)

    monkeypatch.setattr(search_run, "largest_alpha_eigenvalue", eigenvalue)
    return counted


def metrics(folder: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_rising_eigenvalue_ends_the_search_with_the_cell_before_the_rise(tmp_path, rising_eigenvalues, monkeypatch):
    search("darts_es", tmp_path / "run", monkeypatch)
    epochs = metrics(tmp_path / "run", "epoch")
    # An average centred 2 epochs back, over one 4 epochs before that, which is epoch 1 at the earliest: epoch 7.
    assert len(epochs) == 8 and [line["eigenvalue"] for line in epochs] == [2.0**k for k in range(1, 9)]
    alphas = torch.load(tmp_path / "run" / "alphas.pt", weights_only=True)
    shares = torch.tensor(epochs[1]["alphas/normal"], dtype=torch.float64)
    torch.testing.assert_close(alphas["alphas_normal"].double().softmax(-1), shares)
    lines = (tmp_path / "run" / "genotypes.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["when"] == "selected"
    assert json.loads(lines[-1])["genotype"] == json.loads(lines[2])["genotype"]


def test_adaptive_goes_back_and_on_with_more_decay_also_when_killed_there(tmp_path, monkeypatch):
    def by_epoch(*args, start, **kwargs):  # the start vector is a function of the epoch: so is what it stands for
        return 2.0 ** seen.setdefault(float(start[0]), len(seen)) + start[0] * 0

    seen: dict[float, int] = {}
    monkeypatch.setattr(search_run, "largest_alpha_eigenvalue", by_epoch)
    kill_at = 14 * 5 + 2  # 5 batches an epoch: in the first after it went back for the second time
    calls = search("darts_ada", tmp_path / "whole", monkeypatch, kill_at=kill_at)
    went_back = metrics(tmp_path / "whole", "roll_back")
    assert [line["weight_decay"] for line in went_back] == pytest.approx([3e-3, 3e-2])
    epochs = [line["epoch"] for line in metrics(tmp_path / "whole", "epoch")]
    assert epochs == [*range(8), *range(2, 8), *range(2, 9)]
    steps = [line["step"] for line in metrics(tmp_path / "whole", "epoch")]
    assert all(before < after for before, after in pairwise(steps))
    assert not (tmp_path / "whole" / "epochs").exists()  # what it might have gone back to
    assert calls == 5 * len(epochs) and epochs[13:15] == [7, 2]
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_too_many_skip_connections_end_the_search(tmp_path):
    flags = ["--space", "s2", "--epochs", "4", "--early_stop", "skips", "--max_skips", "0", "--early_stop_from", "1"]
    train_search.main(parse_config(SearchConfig, [*SHORT, *flags, "--save", f"{tmp_path}/run"]))
    epochs = metrics(tmp_path / "run", "epoch")
    assert [line["skip_connects"] > 0 for line in epochs] == [True, True]  # 1 random cell of s2 in 256 has none
    assert load_genotype(str(tmp_path / "run")).num_skip_connects == epochs[1]["skip_connects"]


@pytest.mark.parametrize("name", SELECTIONS)
def test_perturbation_selects_a_whole_cell_and_goes_on_from_a_kill_in_a_decision(name, tmp_path, monkeypatch):
    is_killed = name == "darts_pt"  # what a decision saves is the same for both
    calls = search(name, tmp_path / "whole", monkeypatch, kill_at=IN_A_DECISION if is_killed else None)
    decided = metrics(tmp_path / "whole", "selection")
    assert len(decided) == 2 * (14 + 3)
    for cell in ("normal", "reduce"):
        chosen = {line["edges"][0]: line["operation"] for line in decided if line["cell"] == cell and line["operation"]}
        kept = [line["edges"] for line in decided if line["cell"] == cell and not line["operation"]]
        edges = sorted([0, 1, *(edge for pair in kept for edge in pair)])
        genotype = load_genotype(str(tmp_path / "whole"))
        assert sorted(chosen) == list(range(14))
        assert [operation for operation, _ in getattr(genotype, cell)] == [chosen[edge] for edge in edges]
    if name == "darts_pt_fixed":
        alphas = torch.load(tmp_path / "whole" / "alphas.pt", weights_only=True)
        assert alphas["alphas_normal"].abs().max() < 1e-2  # as they were drawn
        why = json.loads((tmp_path / "whole" / "result.json").read_text())["early_stop"]
        assert "than 0, and so has every one since the alphas move: the cell is selected by perturbation" in why
    else:
        assert calls > IN_A_DECISION + 3 * 14  # the last three decisions, between edges, take 14 or 15 batches
        assert_same(tmp_path / "killed", tmp_path / "whole")


def test_nothing_is_selected_by_scores_that_are_not_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(search_run, "score_batches", lambda *args: Score(10.0, float("nan")))
    with pytest.raises(Diverged, match="valid/loss without an operation or an edge is not finite"):
        search("darts_pt", tmp_path / "run", monkeypatch)
    assert metrics(tmp_path / "run", "selection") == [] and not (tmp_path / "run" / "result.json").exists()


def two_steps(
    name: str, form: str = "plain", *more: str, world: World | None = None, space: SearchSpace | None = None
) -> dict[str, torch.Tensor]:
    """Take two steps in float64, each rank on its part of the batch; return what they were like."""
    world = World(torch.device("cpu")) if world is None else world
    cfg, joined = config(name, *more), 8
    torch.manual_seed(0)
    supernet = search_run.build_search_supernet(form, cfg.model, 5, space or SPACES[cfg.model.space], False).double()
    synchronise_batch_norm(supernet, world)
    optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4)
    architect = search_run.build_architect(cfg, supernet, world)
    conditions = epoch_conditions(cfg, 1, world.device)
    share = joined // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    losses = []
    for step in range(2):
        images = torch.randn(2, joined, 3, 4, 4, dtype=torch.float64)
        labels, keys = torch.randint(5, (2, joined)), torch.randint(2**60, (2, joined))
        train, valid = ((images[half, mine], labels[half, mine], keys[half, mine]) for half in range(2))
        numbers = search_step(
            supernet, architect, optimizer, train, valid, grad_clip=5.0, world=world, perturb=cfg.optim.perturb,
            conditions=None if conditions is None else conditions(step),
        )  # fmt: skip
        losses.append(world.mean([numbers.loss])[0])
    return {
        **{key: value.detach().clone() for key, value in supernet.state_dict().items()},
        "losses": torch.stack(losses),
    }


GRADIENTS = {
    "first order": ("--no-unrolled",),
    "finite differences": ("--unrolled", "--unrolled_method", "finite_difference"),
    "exact": ("--unrolled", "--unrolled_method", "exact"),
}
TWO_NODES = uniform_space(("none", "skip_connect", "sep_conv_3x3"), num_nodes=2)
TOGETHER = {  # a preset or a space, and what is tried along with it
    "pc_darts": ("--alpha_regulariser", "beta", "--alpha_regulariser_weight", "50", "--perturb", "random"),
    "sdarts_adv": ("--auxiliary_skip", "linear"),
    "drnas": ("--alpha_regulariser", "kl"),
    "s4": (),
}


def is_plain(cfg: SearchConfig) -> bool:
    """Whether its steps are those of DARTS: tests/integration/test_data_parallel_search.py has them on ranks."""
    is_whole = cfg.model.partial_channels == 1 and not cfg.model.edge_norm
    return is_whole and epoch_conditions(cfg, 1, torch.device("cpu")) is None


def steps_of_all() -> dict[str, dict[str, torch.Tensor]]:
    """Take two steps by every preset that changes them, each with one of the gradients."""
    torch.set_num_threads(1)
    with World.open("cpu") as world:
        found = {}
        for number, name in enumerate([*FAMILY, "s4"]):
            if is_plain(config(name, *TOGETHER.get(name, ()))):
                continue
            space = None if name == "s4" else TWO_NODES
            narrow = () if name == "pc_darts" else ("--init_channels", "2")
            gradient = list(GRADIENTS.values())[number % len(GRADIENTS)]
            found[name] = two_steps(
                name, "plain", *narrow, *gradient, *TOGETHER.get(name, ()), world=world, space=space
            )
    return found


def test_two_ranks_step_as_one_process_on_the_joined_batch():
    (alone,) = on_ranks(1, steps_of_all)
    for rank in on_ranks(2, steps_of_all):
        for name, expected in alone.items():
            for key, value in expected.items():
                where = f"{name}, {key}: "
                torch.testing.assert_close(rank[name][key], value, rtol=1e-7, atol=1e-9, msg=lambda m, w=where: w + m)


@pytest.mark.parametrize(
    ("name", "more"),
    [("beta_darts", ("--edge_norm", "--perturb", "random")), ("sdarts_adv", ()), ("drnas", ())],
    ids=["beta, edge weights, random", "adversarial", "dirichlet"],
)
def test_the_fast_supernet_steps_as_the_plain_one_where_it_serves(name, more):
    plain, stacked = (
        two_steps(name, form, "--space", "darts", "--init_channels", "2", *more) for form in ("plain", "stacked")
    )
    for key, expected in plain.items():
        torch.testing.assert_close(stacked[key], expected, rtol=1e-7, atol=1e-9, msg=lambda m, n=key: f"{n}: {m}")


@pytest.mark.parametrize(
    ("flags", "served"),
    [
        ([], None),
        (["--edge_norm", "--perturb", "random"], None),
        (["--space", "s2"], "supports only the 8 default primitives"),
        (["--partial_channels", "4"], "--partial_channels"),
        (["--auxiliary_skip", "linear"], "--auxiliary_skip"),
        (["--relaxation", "gumbel"], "--relaxation gumbel"),
        (["--search_drop_path", "0.1"], "--search_drop_path"),
    ],
)
def test_a_line_says_why_a_search_takes_the_plain_supernet(flags, served):
    cfg = parse_config(SearchConfig, ["--supernet", "fast", *flags])
    plan = plan_search(cfg, DatasetFacts(100, 0, 8, 10), World(torch.device("cpu")))
    assert plan.step.supernet == ("plain" if served else "stacked")
    assert (plan.fallback is None) == (served is None) and (served or "") in (plan.fallback or "")


def test_recording_the_eigenvalue_changes_nothing_else(tmp_path, monkeypatch):
    by_few = functools.partial(curvature.largest_eigenvalue, num_products=2)  # of the 15, which take ten seconds
    monkeypatch.setattr(curvature, "largest_eigenvalue", by_few)
    own = ["--epochs", "3", "--eigenvalue_every", "5", "--record_eigenvalue"]
    search("sdarts_rs", tmp_path / "with", monkeypatch, *own)
    search("sdarts_rs", tmp_path / "without", monkeypatch, "--epochs", "3")
    recorded, plain = (metrics(tmp_path / name, "epoch") for name in ("with", "without"))
    assert ["eigenvalue" in line for line in recorded] == [True, False, True]
    assert [{key: value for key, value in line.items() if key != "eigenvalue"} for line in recorded] == plain
    tensors = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("with", "without")]
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
