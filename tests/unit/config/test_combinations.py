"""Members of the family that contradict each other are refused before any work: one line, the reason, the way out."""

import pytest

from darts_hpc.config.cli import parse_config
from darts_hpc.config.combinations import check_space, remarks
from darts_hpc.config.idle_flags import idle_notes, random_cell_note
from darts_hpc.config.shared import RunConfig
from darts_hpc.config.train_search import EarlyStopConfig, SearchConfig
from darts_hpc.search.early_stop import EarlyStop
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.spaces import SPACES, SearchSpace, uniform_space

SKIPS = (("skip_connect", 0), ("skip_connect", 1)) * 4
ALL_SKIPS = Genotype(normal=SKIPS, normal_concat=(2, 3, 4, 5), reduce=SKIPS, reduce_concat=(2, 3, 4, 5))
REFUSED = {
    "--partial_channels 0": "--partial_channels 0",
    "--partial_channels 3": "expected a divisor of the channels.*try 2",
    "--partial_channels 32": "--partial_channels 32 with --init_channels 16",
    "--init_channels 6 --partial_channels 4": "a divisor.*try 3",
    "--init_channels 6 --partial_channels 6": None,  # 2 channels in reduction cells: even
    "--init_channels 10 --partial_channels 4": "a divisor.*try 2",
    "--edge_norm --relaxation gumbel": "--edge_norm with --relaxation gumbel: expected softmax or dirichlet, because",
    "--edge_norm --relaxation sigmoid": "--edge_norm with --relaxation sigmoid",
    "--edge_norm --relaxation dirichlet": None,
    "--perturb random --relaxation gumbel": "--perturb random with --relaxation gumbel",
    "--perturb adversarial --relaxation sigmoid": "--perturb adversarial with --relaxation sigmoid",
    "--perturb random --relaxation dirichlet": "random already",
    "--alpha_regulariser beta --relaxation sigmoid": "expected --relaxation softmax or gumbel",
    "--alpha_regulariser beta --relaxation dirichlet": "expected --relaxation softmax or gumbel",
    "--alpha_regulariser beta --relaxation gumbel": None,
    "--alpha_regulariser kl": "--alpha_regulariser kl with --relaxation softmax: expected --relaxation dirichlet",
    "--alpha_regulariser zero_one": "expected --relaxation sigmoid",
    "--alpha_regulariser_weight 3": "expected --alpha_regulariser beta or kl or zero_one beside it",
    "--tau_max 5": "--tau_max 5.0: expected --relaxation gumbel beside it, which alone reads it",
    "--perturb_epsilon 0.1": "expected --perturb random or adversarial beside it",
    "--early_stop skips --eigenvalue_every 3": "expected --early_stop eigenvalue or adaptive beside it",
    "--early_stop eigenvalue --adaptive_factor 3": "expected --early_stop adaptive beside it",
    "--pt_batches 3": "--pt_batches 3: expected --selection perturbation beside it",
    "--selection perturbation --relaxation gumbel": "--selection perturbation with --relaxation gumbel",
    "--selection perturbation --relaxation sigmoid": "--selection perturbation with --relaxation sigmoid",
    "--selection perturbation --relaxation dirichlet": None,
    "--early_stop eigenvalue --relaxation gumbel": "the curvature of a random loss is random; try --early_stop skips",
    "--early_stop adaptive --relaxation dirichlet": "--early_stop adaptive with --relaxation dirichlet",
    "--early_stop eigenvalue --compile": "--compile with --early_stop eigenvalue",
    "--record_eigenvalue --eigenvalue_every 3": None,
    "--record_eigenvalue --relaxation gumbel": "--record_eigenvalue with --relaxation gumbel: expected softmax",
    "--record_eigenvalue --compile": "--compile with --record_eigenvalue",
    "--early_stop adaptive": None,
    "--early_stop adaptive --weight_decay 0": "expected a number above 0.*try --weight_decay 3e-4",  # it would loop
    "--early_stop adaptive --weight_decay 0.01": "expected at most 0.003.*or give --adaptive_max_decay 0.1",
    "--early_stop adaptive --weight_decay 0.01 --adaptive_max_decay 0.1": None,
    "--early_stop eigenvalue --weight_decay 0": None,
    "--early_stop skips --space s4": "--early_stop skips with --space s4",
    "--auxiliary_skip linear --relaxation gumbel": None,
    "--auxiliary_skip linear --space s4": None,
    "--unrolled --relaxation dirichlet": None,
    "--unrolled --perturb adversarial": None,
    "--arch_learning_rate 0 --selection perturbation": None,
    "--alpha_warmup_epochs 50": "--alpha_warmup_epochs 50 with --epochs 50",
    "--relaxation gumbel --tau_min 20": "--tau_min 20.0: expected at most --tau_max 10.0",
    "--search_drop_path 1": "--search_drop_path 1.0",
    "--early_stop eigenvalue --eigenvalue_factor 1": "--eigenvalue_factor 1.0",
    "--space s5": "--space",
    "--selection perturbation --pt_batches 0": "--pt_batches 0",
    "--perturb random --perturb_epsilon 0": "--perturb_epsilon 0",
    "--record_eigenvalue --eigenvalue_every 50": None,  # the first and the last epoch's are recorded
    "--dataset imagenet --unrolled --record_eigenvalue": None,
    "--dataset imagenet --image_size 24": "--image_size 24: expected at least 32",
    "--dataset imagenet --image_size 288": "--resize 256: expected at least --image_size 288",
    "--dataset imagenet --cutout": "--cutout True: expected another --dataset than imagenet; its images get",
    "--dataset imagenet --split index": "--split index: expected another --dataset than imagenet",
    "--dataset imagenet --train_portion 0.1": "give --weight_share and --alpha_share",
    "--weight_share 0.2": "--weight_share 0.2: expected --dataset imagenet beside it, which alone reads it",
    "--loader torchvision --dataset digits": "--loader torchvision: expected --dataset imagenet beside it",
    "--stem imagenet --dataset digits": "--stem imagenet with images of 16 pixels: expected an --image_size of",
    "--stem imagenet --dataset folder --image_size 64": None,
    "--batch_size 1 --dataset digits --image_size 4": "--batch_size 1 with images of 4 pixels: expected at least 2",
    "--batch_size 1 --dataset digits --image_size 5": None,
    "--batch_size 1 --stem imagenet --image_size 32": "--batch_size 1 with images of 32 pixels",
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.items())
def test_a_combination_is_refused_in_one_line_or_taken(flags, message):
    if message is None:
        parse_config(SearchConfig, flags.split())
        return
    with pytest.raises(ValueError, match=message) as caught:
        parse_config(SearchConfig, flags.split())
    assert "\n" not in str(caught.value)


def test_kl_takes_the_place_of_the_alphas_decay_unless_the_user_gave_one():
    kl = ["--relaxation", "dirichlet", "--alpha_regulariser", "kl"]
    assert parse_config(SearchConfig, kl).arch_optim.arch_weight_decay == 0
    for decay in ("1e-3", "0.02"):
        cfg = parse_config(SearchConfig, [*kl, "--arch_weight_decay", decay])
        assert cfg.arch_optim.arch_weight_decay == float(decay)
    assert parse_config(SearchConfig, []).arch_optim.arch_weight_decay == 1e-3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--edge_norm", []),
        ("--edge_norm --relaxation dirichlet", ["not from a paper"]),
        ("--edge_norm --record_eigenvalue", ["of the alphas alone"]),
        ("--edge_norm --early_stop adaptive", ["of the alphas alone"]),
        ("--early_stop eigenvalue", []),
    ],
)
def test_what_is_to_be_known_about_a_combination_is_said(flags, said):
    found = remarks(parse_config(SearchConfig, flags.split()))
    assert len(found) == len(said) and all(words in line for words, line in zip(said, found, strict=True))


@pytest.mark.parametrize("rule", ["skips", "eigenvalue", "adaptive"])
@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (3, 2), (4, 3)])
def test_a_stop_rule_that_can_not_act_is_named(rule, start, every):
    every = 2 if rule == "skips" else every
    cfg = EarlyStopConfig(early_stop=rule, early_stop_from=start, eigenvalue_every=every)

    def acts(epochs: int) -> bool:
        """Whether the rule acts on cells and eigenvalues that are as bad as can be."""
        history = EarlyStop(cfg, epochs, 1e-4)
        for epoch in range(epochs):
            history.add(epoch, ALL_SKIPS, {}, 2.0**epoch if history.is_due(epoch) else None)
            if history.stop is not None:
                return True
        return False

    unnamed = []
    for epochs in range(1, 30):
        notes = list(idle_notes(SearchConfig(run=RunConfig(epochs=epochs), early_stop=cfg), SPACES["darts"]))
        assert all(note.startswith(f"--early_stop {rule} can't act in {epochs} epochs") for note in notes)
        unnamed += [] if notes else [epochs]
    assert unnamed == [epochs for epochs in range(1, 30) if acts(epochs)] != []


NAMED = {
    "--early_stop skips --early_stop_from 4 --alpha_warmup_epochs 9 --epochs 10": "after epoch 10 at the earliest",
    "--early_stop skips --max_skips 8": "with --max_skips 8: a normal cell of the space darts has at most 8 skip",
    "--alpha_regulariser beta --alpha_regulariser_weight 0": "beta has no effect: its weight is 0",
    "--alpha_regulariser beta --epochs 1": "beta has no effect in 1 epoch",
    "--search_drop_path 0.2 --epochs 1": "--search_drop_path has no effect in 1 epoch",
    "--early_stop skips --alpha_regulariser beta": None,
    "--arch_learning_rate 0 --unrolled": "--unrolled has no effect: the alphas never move",
    "--arch_learning_rate 0 --alpha_regulariser beta": "--alpha_regulariser beta has no effect: the alphas never move",
}


def test_a_cell_of_alphas_that_never_move_is_called_random():
    fixed = ["--arch_learning_rate", "0"]
    assert "the cell is a random one" in str(random_cell_note(parse_config(SearchConfig, fixed)))
    for flags in ([*fixed, "--selection", "perturbation"], []):
        assert random_cell_note(parse_config(SearchConfig, flags)) is None


@pytest.mark.parametrize(("flags", "note"), NAMED.items())
def test_what_can_not_act_in_a_search_is_named(flags, note):
    notes = list(idle_notes(parse_config(SearchConfig, flags.split()), SPACES["darts"]))
    assert len(notes) == (note is not None) and all(note in each for each in notes)


@pytest.mark.parametrize(
    ("space", "most"),
    [
        (SPACES["s2"], 8),
        (SPACES["s1"], 8),
        (SearchSpace((("skip_connect",), *[("sep_conv_3x3",)] * 4), (("noise",),) * 5, "one skip"), 1),
    ],
)
def test_more_skips_allowed_than_a_cell_can_have_are_named(space, most):
    for allowed, is_named in ((most - 1, False), (most, True)):
        cfg = parse_config(SearchConfig, ["--early_stop", "skips", "--max_skips", str(allowed)])
        assert any(f"the space {space.name} has at most {most}" in note for note in idle_notes(cfg, space)) == is_named


def test_a_space_of_ones_own_is_checked_like_the_named_ones():
    no_skip = uniform_space(("max_pool_3x3", "sep_conv_3x3"))
    with pytest.raises(
        ValueError, match="--early_stop skips with the space a space of your own: expected a space with"
    ):
        check_space(parse_config(SearchConfig, ["--early_stop", "skips"]), no_skip)
    check_space(parse_config(SearchConfig, ["--early_stop", "eigenvalue"]), no_skip)
    with pytest.raises(ValueError, match="expected a space with skip_connect"):  # the rule counts the normal cell's
        skips_in_reduction = SearchSpace(no_skip.normal, SPACES["s2"].reduce)
        check_space(parse_config(SearchConfig, ["--early_stop", "skips"]), skips_in_reduction)
