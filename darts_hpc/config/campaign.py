"""Flags of a campaign: what is searched, how cells are ranked and trained, and where its jobs run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from darts_hpc.config.checks import MAX_SEED, check_choice, check_not_negative, check_positive, check_save
from darts_hpc.config.flags import flag
from darts_hpc.config.train_search import Space
from darts_hpc.config.variants import Variant, read_variants

Order = Literal["first_order", "unrolled", "both"]


Executor = Literal["local", "slurm"]


@dataclass(frozen=True, kw_only=True)
class CampaignSearchConfig:
    """The searches."""

    search_config: str = flag("configs/search/cifar10.yaml", affects="named", path=True)
    """Preset of the searches."""
    search_flags: str = flag("", affects="named")
    """Flags of train_search that win over its preset, such as "--epochs 10 --image_size 16"."""
    order: Order = "first_order"
    """Order of the alphas' gradient; both makes two families of searches, ranked apart."""
    variants: tuple[str, ...] = flag((), affects="named")
    """Searches to compare with each other, each "NAME: FLAGS" or, for some of --spaces, "NAME in SPACE ...: FLAGS".
    FLAGS are those of train_search, a --config of a method's preset among them; they win over --search_flags, which win
    over the presets. Every found cell is trained in full with every final seed. More may be added later."""
    spaces: tuple[Space, ...] = flag((), affects="named")
    """Search spaces, in each of which --variants are searched, and random cells drawn; left out, that of the preset.
    More may be added later."""
    search_seeds: tuple[int, ...] = (0, 1, 2, 3)
    """One search per seed (and order, or variant and space)."""
    random_cells: int = 0
    """Number of cells drawn at random from the same space (each of --spaces), ranked among themselves and trained as
    the found ones are."""
    random_seed: int = 0
    """Seed of the first random cell; the others follow."""

    def __post_init__(self) -> None:
        check_choice(self, "order", Order)
        _check_seeds(self, "search_seeds")
        check_not_negative(self, "random_cells", "random_seed")
        for space in self.spaces:
            if space not in get_args(Space):
                raise ValueError(f"--spaces {space}: expected some of {', '.join(get_args(Space))}")
        _check_once(self, "spaces", "space")
        if self.variants and not self.spaces:
            raise ValueError("--variants without --spaces: expected the spaces to search in, such as --spaces darts")
        if self.variants and self.order != "first_order":
            raise ValueError(
                f"--order {self.order} with --variants: expected one of them; a variant may be 'unrolled: --unrolled'"
            )
        assert self.methods  # which raises ValueError for a variant that can't be read

    @property
    def methods(self) -> list[Variant]:
        """The searches that are compared: --variants, or else the orders of --order."""
        if self.variants:
            return read_variants(self.variants, self.spaces)
        orders = ("first_order", "unrolled") if self.order == "both" else (self.order,)
        flags = {"first_order": "--no_unrolled", "unrolled": "--unrolled"}
        return [Variant(order, self.spaces or ("",), (flags[order],)) for order in orders]


@dataclass(frozen=True, kw_only=True)
class CampaignTrainConfig:
    """The trainings: a short one of every cell for the ranking, then full ones."""

    train_config: str = flag("configs/train/cifar10.yaml", affects="named", path=True)
    """Preset of train, for the short and the full trainings."""
    train_flags: str = flag("", affects="named")
    """Flags of train that win over its preset, for the short and the full trainings."""
    select_epochs: int = 100
    """Epochs of the short trainings, which rank the cells."""
    select_seed: int = 0
    """Seed of the short trainings and of the images held out, the same for every cell."""
    held_out: float = 0.2
    """Share of the training images, between 0 and 1, that the short trainings are ranked on; the test images are not
    looked at."""
    anytime_shares: tuple[float, ...] = flag((), affects="named")
    """Shares of a search's epochs, between 0 and 1, after which its cell of then gets a short training too: how good
    its cell would have been, had it ended there. More may be added later."""
    final_seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """One full training of each best cell, with --variants of every cell, per seed."""
    train_all: bool = False
    """Also train every ranked cell in full once, with the first final seed: the average over cells, and how well the
    ranking predicted the result."""
    baselines: tuple[str, ...] = ("DARTS_V1", "DARTS_V2")
    """Published cells trained under the same recipe."""
    baseline_seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """One full training of each baseline per seed."""
    imagenet_config: str = flag("", affects="named", path=True)
    """Preset of train_imagenet: train the best cells on ImageNet too; empty for no ImageNet."""
    imagenet_flags: str = flag("", affects="named")
    """Flags of train_imagenet that win over its preset."""
    imagenet_seeds: tuple[int, ...] = (0,)
    """One training on ImageNet of each best cell per seed."""

    def __post_init__(self) -> None:
        check_positive(self, "select_epochs")
        check_not_negative(self, "select_seed")
        _check_seeds(self, "final_seeds")
        _check_seeds(self, "baseline_seeds")
        _check_seeds(self, "imagenet_seeds")
        if not 0 < self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share between 0 and 1, to rank cells on")
        _check_once(self, "baselines", "cell")
        _check_once(self, "anytime_shares", "share")
        for share in self.anytime_shares:
            if not 0 < share < 1:
                raise ValueError(
                    f"--anytime_shares {share}: expected shares of a search between 0 and 1, such as 0.25 0.5; its "
                    "end is ranked in any case"
                )


@dataclass(frozen=True, kw_only=True)
class CampaignJobsConfig:
    """Where and how jobs run; none of it changes a number, and a campaign may go on with other values."""

    save: str = flag("EXP", affects="nothing", path=True)
    """Name of the campaign, kept under runs/campaign-NAME; with a slash in it, its folder. The same again goes on."""
    data: Path | None = flag(None, affects="nothing")
    """Folder of the images, for searches and trainings, but not those on ImageNet; left out, what their presets say."""
    executor: Executor = flag("local", affects="nothing")
    """Where jobs run: local, in processes on this machine, or slurm, as jobs of Slurm."""
    jobs: int = flag(0, affects="nothing")
    """Number of jobs at once; 0 for as many as there are GPUs (without one: CPU cores), and on Slurm for all."""
    retries: int = flag(2, affects="nothing")
    """Number of times that a failed job is started again before it is given up."""
    hours: float = flag(24.0, affects="nothing")
    """Time limit of one Slurm job in hours; a job that reaches it saves, and goes on in the next."""
    slurm_flags: str = flag("", affects="nothing")
    """Flags of sbatch beside those of slurm/site.sh, such as "--partition=gpu --mem=32G"."""
    poll_seconds: float = flag(5.0, affects="nothing")
    """Time between two looks at the jobs in seconds."""
    dry_run: bool = flag(False, affects="nothing")
    """Print every job's command and what it may cost, and start nothing."""

    def __post_init__(self) -> None:
        check_choice(self, "executor", Executor)
        check_not_negative(self, "jobs", "retries")
        check_positive(self, "hours", "poll_seconds")
        check_save(self)


@dataclass(frozen=True, kw_only=True)
class CampaignSizeConfig:
    """The size of one job."""

    gpus_per_job: int = 1
    """Number of GPUs of a job, each with a process of its own; without effect where there is no GPU."""
    cpus_per_job: int = flag(1, affects="last_bits")
    """Number of threads of a process on the CPU, and of CPU cores that it asks Slurm for. Sums may round otherwise with
    another."""
    device: str = "auto"
    """Device of every job: auto (a GPU where there is one), cpu, or cuda."""

    def __post_init__(self) -> None:
        check_positive(self, "gpus_per_job", "cpus_per_job")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"--device {self.device!r}: expected auto, cpu or cuda")


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Search N cells, rank them on held-out images, train the best in full M times beside baselines, and report.

    Also: campaign status DIR, campaign report DIR, campaign cancel DIR.
    """

    where: CampaignJobsConfig = field(default_factory=CampaignJobsConfig)
    search: CampaignSearchConfig = field(default_factory=CampaignSearchConfig)
    train: CampaignTrainConfig = field(default_factory=CampaignTrainConfig)
    size: CampaignSizeConfig = field(default_factory=CampaignSizeConfig)


@dataclass(frozen=True, kw_only=True)
class CampaignFolderConfig:
    """Look at a campaign, report on it, or cancel it."""

    folder: Path
    """Folder of the campaign, such as runs/campaign-digits."""


def _check_once(cfg: object, flag: str, what: str) -> None:
    values = [f"{value:g}" if isinstance(value, float) else value for value in getattr(cfg, flag)]  # as jobs' names
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"--{flag} names {value} twice: expected each {what} once")


def _check_seeds(cfg: object, flag: str) -> None:
    seeds = getattr(cfg, flag)
    if not seeds:
        raise ValueError(f"--{flag} is empty: expected one seed or more, such as --{flag} 0 1 2")
    for seed in seeds:
        if seed < 0:
            raise ValueError(f"--{flag} {seed}: expected seeds of 0 or above")
        if seed > MAX_SEED:
            raise ValueError(f"--{flag} {seed}: expected at most {MAX_SEED}")
        if seeds.count(seed) > 1:
            raise ValueError(f"--{flag} names seed {seed} twice: expected each once, or one run would count for two")
