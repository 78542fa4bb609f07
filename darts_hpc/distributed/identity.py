"""The identity of a launch: unique, and the same in all its processes and after its restarts."""

import os
from collections.abc import Mapping
from pathlib import Path

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""Set in everything that torchrun starts, and in nothing else."""


def identities(env: Mapping[str, str] = os.environ) -> list[str]:
    """Return the identities of this process's launch, which a restart keeps: torchrun's process, and Slurm's job.

    With a torchrun per node, each node's processes have their own. Without a launcher: this process.
    """
    own = [_torchrun_identity(env)] if RESTARTS in env else []
    own += [_slurm_identity(env)] if "SLURM_JOB_ID" in env else []
    return own or [process_identity(os.getpid())]


def earlier_identities(env: Mapping[str, str] = os.environ) -> list[str]:
    """Return those of `identities` whose launcher has started this process again; none if it is no restart."""
    own = [_torchrun_identity(env)] if env.get(RESTARTS, "0") != "0" else []
    return own + ([_slurm_identity(env)] if env.get("SLURM_RESTART_COUNT", "0") != "0" else [])


def process_identity(pid: int) -> str:
    """Return a unique identity of a process: pids are reused, after a reboot even at the same time since boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = _status(pid)[19]  # clock ticks after boot
    return f"{boot} {Path('/proc/self/ns/pid').readlink()} {pid} {started}"


def torchrun_agent() -> int:
    """Return the process id of the torchrun that started this process, maybe through a shell script."""
    pid = os.getppid()
    while pid > 1 and _was_started_by_torchrun(pid):
        pid = int(_status(pid)[1])
    return pid


def in_interactive_step() -> bool:
    """Whether this process was typed into a shell that srun --pty gave a terminal, alone of the step's tasks.

    Slurm's variables speak of all tasks, but the shells of the others ended at once. A script or a program in place of
    the shell runs in all of them.
    """
    pid = os.getpid()
    if _status(pid)[4] == "0":  # no terminal
        return False
    while pid > 1 and _name(parent := int(_status(pid)[1])) != "slurmstepd":
        pid = parent
    if pid <= 1:
        return False
    words = [word for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:] if word]
    return b"-c" not in words and all(word.startswith(b"-") for word in words)


def _torchrun_identity(env: Mapping[str, str]) -> str:
    # The run's id alone is "none" for every plain torchrun.
    return f"torchrun {env.get('TORCHELASTIC_RUN_ID', '')} {process_identity(torchrun_agent())}"


def _slurm_identity(env: Mapping[str, str]) -> str:
    # Each task of an array has a SLURM_JOB_ID of its own.
    return f"Slurm {env.get('SLURM_CLUSTER_NAME', '')} {env.get('SLURM_JOB_ID', '')}"


def _was_started_by_torchrun(pid: int) -> bool:
    try:
        return f"{RESTARTS}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # above the first process of a container
        return ""


def _status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, proc(5): state, parent, group, session, terminal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
