"""A script by which a shell completes commands, flags and the values of flags, without starting Python."""

from pathlib import Path
from typing import Literal, get_args, get_origin

from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import shipped_presets
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.config.export import ExportConfig
from darts_hpc.config.flags import Flag, flags_of
from darts_hpc.config.pack import PackConfig
from darts_hpc.config.presets import EXAMPLES, entry_of
from darts_hpc.config.report import ReportConfig
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.stage import StageConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.config.visualize import VisualizeConfig

CONFIGS = {
    "search": (SearchConfig,),
    "plan": (SearchConfig, TrainConfig, ImageNetConfig),
    "select_cell": (SelectCellConfig,),
    "campaign": (CampaignConfig,),
    "train": (TrainConfig,),
    "train_imagenet": (ImageNetConfig,),
    "evaluate": (EvaluateConfig, EvaluateImageNetConfig),
    "report": (ReportConfig,),
    "visualize": (VisualizeConfig,),
    "export": (ExportConfig,),
    "pack": (PackConfig,),
    "stage": (StageConfig,),
}
"""Command -> the classes that its flags come from."""
ACTIONS = {
    "plan": ("search", "train", "train_imagenet"),
    "campaign": ("status", "report", "cancel"),
    "completion": ("bash", "zsh"),
}
"""Command -> words that may follow it."""
BASH = r"""_darts() {
    local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]} words=
    if [ "$word" = = ]; then word=; elif [ "$flag" = = ]; then flag=${COMP_WORDS[COMP_CWORD-2]}; fi
    case $COMP_CWORD:${COMP_WORDS[1]}:$flag in
        1:*) words="COMMANDS" ;;
VALUES
    esac
    if [[ -z $words && $word == -* ]]; then
        case ${COMP_WORDS[1]} in
FLAGS
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _darts darts"""
SHELLS = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}
"""Shell -> what comes before the script."""


def completion(shell: str) -> str:
    """Return the script for a shell. Raises ValueError for one that is not in SHELLS."""
    if shell not in SHELLS:
        raise ValueError(f"no completion for {shell!r}; choose from {', '.join(SHELLS)}")
    values = [f'        2:{command}:*) words="{" ".join(words)}" ;;' for command, words in ACTIONS.items()]
    flags = []
    for command, classes in CONFIGS.items():
        known = [flag for cls in classes for flag in flags_of(cls).values() if not flag.positional]
        choices: dict[str, list[str]] = {"config": [file for cls in classes for file in _presets(cls)]}
        for flag in known:
            choices[flag.name] = [*choices.get(flag.name, []), *_choices(flag)]
        for name, words in choices.items():
            if words:
                values.append(f'        *:{command}:--{name}) words="{" ".join(dict.fromkeys(words))}" ;;')
        names = dict.fromkeys(spelling for flag in known for spelling in _spellings(flag))
        flags.append(f'            {command}) words="--config {" ".join(names)} --help --version" ;;')
    script = BASH.replace("VALUES", "\n".join(values)).replace("FLAGS", "\n".join(flags))
    return SHELLS[shell] + script.replace("COMMANDS", " ".join([*CONFIGS, "completion", "--help", "--version"]))


def _presets(cls: type) -> list[str]:
    example = EXAMPLES.get(entry_of(cls))
    return [file for file in shipped_presets() if example and Path(file).parent == Path(example).parent]


def _choices(flag: Flag) -> tuple[str, ...]:
    kind = get_args(flag.type)[0] if flag.is_list else flag.type
    return get_args(kind) if get_origin(kind) is Literal else ()


def _spellings(flag: Flag) -> list[str]:
    return [f"--{flag.name}"] + ([f"--no_{flag.name}"] if flag.type is bool else [])
