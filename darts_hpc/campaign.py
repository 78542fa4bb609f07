"""From N searches to a table: python -m darts_hpc.campaign --config FILE; campaign status|report|cancel DIR."""

import sys

from darts_hpc.config.campaign import CampaignConfig, CampaignFolderConfig
from darts_hpc.config.cli import refuse, run_entry
from darts_hpc.suggest import did_you_mean

ACTIONS = {
    "status": "Show the jobs of a campaign, live on a terminal.",
    "report": "Write the report of what a campaign has found so far.",
    "cancel": "Ask a campaign, and its jobs wherever they run, to save and stop.",
}


def main(cfg: CampaignConfig) -> None:
    """Start a campaign, or go on with it."""
    from darts_hpc.commands import campaign

    campaign.main(cfg)


def act(action: str, cfg: CampaignFolderConfig) -> None:
    """Do one of ACTIONS."""
    from darts_hpc.commands import campaign

    {"status": campaign.status, "report": campaign.report, "cancel": campaign.cancel}[action](cfg)


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ACTIONS:
        del sys.argv[1]
        run_entry(
            lambda cfg: act(word, cfg), CampaignFolderConfig, action=word, about=ACTIONS[word], imports_torch=False
        )
    elif word and not word.startswith("-"):
        refuse(ValueError(f"unknown action {word!r} of campaign; {did_you_mean(word, ACTIONS)}"))
    elif not word:
        refuse(
            ValueError(
                "campaign without flags would begin the paper's protocol, months of one GPU: give --config FILE.yaml, "
                "such as configs/campaign/digits.yaml or cifar10.yaml there; --dry_run beside it shows the jobs"
            )
        )
    else:
        run_entry(main, CampaignConfig, imports_torch=False)
