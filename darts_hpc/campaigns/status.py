"""campaign status: the jobs as a table, once or live."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from darts_hpc.campaigns.plan import STAGES
from darts_hpc.campaigns.state import JobState, hours_unit, last_lines
from darts_hpc.units import counted, readable_duration

HEADER = ("stage", "job", "state", "epoch", "accuracy", "took", "left")
COLORS = {"finished": "32", "running": "36", "failed": "31", "blocked": "31", "ready": "33", "waiting": "2"}
LIVE_SECONDS = 2.0


def status_text(folder: Path, states: Sequence[JobState], color: bool = False, height: int | None = None) -> str:
    """Return the table, what it cost so far, and the last lines of what failed.

    height: lines there are; jobs that are neither running nor failed are then counted instead of listed.
    """
    shown = list(states)
    if height is not None and len(states) + 6 > height:
        shown = [each for each in states if each.state in ("running", "failed")]
        shown += [each for each in states if each.state == "finished"][-max(0, height - len(shown) - 8) :]
        shown = [each for each in states if each in shown]
    rows = [_row(each) for each in shown]
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    lines = [_line(HEADER, widths, "1" if color else "")]
    for each, row in zip(shown, rows, strict=True):
        lines.append(_line(row, widths, COLORS[each.state] if color else ""))
    if len(shown) < len(states):
        lines.append(f"... and {counted(len(states) - len(shown), 'more job')}")
    lines += ["", summary_line(states)]
    for each in states:
        if each.state == "failed":
            lines += ["", f"{each.job.name} failed; its log ends:"]
            lines += [f"    {line}" for line in last_lines(folder, each.job)]
    return "\n".join(lines)


def summary_line(states: Sequence[JobState]) -> str:
    """Return how many jobs of each stage are done, what they took, and about how long the rest takes."""
    parts = []
    for stage in STAGES:
        own = [each for each in states if each.job.stage == stage]
        if own:
            parts.append(f"{stage} {sum(each.state == 'finished' for each in own)}/{len(own)}")
    begun = [each.progress for each in states if each.progress is not None]
    hours = sum(progress.device_seconds for progress in begun) / 3600
    left = work_left_s(states)
    words = f", about {readable_duration(left)} of work left" if left else ""
    return f"{', '.join(parts)} done; {hours:.2f} {hours_unit(states)} so far{words}"


def work_left_s(states: Sequence[JobState]) -> float | None:
    """Return the seconds of work left over all jobs, a job not begun taking what its stage's took; None if unknown."""
    total = 0.0
    for each in states:
        if each.state in ("finished", "failed", "blocked"):
            continue
        own = each.progress.seconds_left if each.progress is not None else None
        peers = [
            p.seconds + (p.seconds_left or 0)
            for p in (other.progress for other in states if other.job.stage == each.job.stage)
            if p is not None and (p.finished or p.seconds_left is not None)
        ]
        if own is None and not peers:
            return None
        total += own if own is not None else sum(peers) / len(peers)
    return total


def watch(folder: Path, look: Callable[[], Sequence[JobState]]) -> None:
    """Print the table; on a terminal, again and again until all is done or Ctrl-C."""
    if not sys.stdout.isatty():
        print(status_text(folder, look()))
        return
    import shutil

    while True:
        states = look()
        size = shutil.get_terminal_size()
        text = status_text(folder, states, color=True, height=size.lines)
        print(f"\x1b[H\x1b[2J{folder}\n\n{text}", flush=True)
        if not any(each.state in ("running", "ready", "waiting") for each in states):
            return
        time.sleep(LIVE_SECONDS)


def _row(each: JobState) -> tuple[str, ...]:
    progress = each.progress
    if progress is None:
        return each.job.stage, each.job.name, each.state, "-", "-", "-", "-"
    left = progress.seconds_left if each.state == "running" else None
    return (
        each.job.stage,
        each.job.name,
        each.state,
        f"{progress.epoch}/{progress.epochs}",
        "-" if progress.accuracy is None else f"{progress.accuracy:.2f} %",
        readable_duration(progress.seconds),
        "-" if left is None else readable_duration(left),
    )


def _line(cells: Sequence[str], widths: Sequence[int], color: str) -> str:
    text = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    return f"\x1b[{color}m{text}\x1b[0m" if color else text
