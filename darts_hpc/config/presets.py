"""Configs as files: flat YAML whose keys are flag names, and the entry they are for."""

import re
from pathlib import Path
from typing import Any

import yaml

from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.flags import flat
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.config.yaml_text import meaning, parse_yaml
from darts_hpc.user_files import read_text

MAX_BYTES = 1 << 18
"""Of a preset; its longest line is the command that wrote it."""
ENTRY = "entry"
"""Key of the name of the entry point that a written config is for."""
ENTRIES = {
    "train_search": SearchConfig,
    "train": TrainConfig,
    "train_imagenet": ImageNetConfig,
    "campaign": CampaignConfig,
}
"""Entries that write their config, and its class."""
EXAMPLES: dict[str | None, str] = {
    "train_search": "configs/search/digits.yaml",
    "train": "configs/train/digits.yaml",
    "train_imagenet": "configs/imagenet/smoke.yaml",
    "campaign": "configs/campaign/digits.yaml",
}
"""Entry -> one of the shipped presets, which lie in a folder of the entry's own."""


def entry_of(cls: type) -> str | None:
    """Return the entry whose config this is; None where no entry writes it."""
    return next((entry for entry, config in ENTRIES.items() if config is cls), None)


def to_yaml(cfg: Any, header: str) -> str:
    """Write a config as a preset that --config reads back to an equal one; the header becomes its first comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    entry = entry_of(type(cfg))
    content = ({ENTRY: entry} if entry else {}) | flat(cfg)
    return comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a preset as they were written (parse_yaml).

    Raises ValueError, which names the file and the line of what is wrong.
    """
    return parse_yaml(read_text(path, MAX_BYTES), path)


def read_written(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the entry that wrote a config and its flags by name, typed. Raises ValueError as read_yaml does.

    Runs of older versions name their entry in a comment alone; None where there is none.
    """
    text = read_text(path, MAX_BYTES)
    flags = meaning(parse_yaml(text, path))
    entry = flags.pop(ENTRY, None)
    if entry is None:
        comment = re.match(rf"#.*?\b({'|'.join(ENTRIES)})\b", text)
        entry = comment[1] if comment else None
    return None if entry is None else str(entry), flags
