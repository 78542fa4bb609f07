"""Detect this process's rank and the number of processes: from torchrun, else Slurm, else MPI, else it is alone."""

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from darts_hpc.distributed.addresses import LOOPBACK, own_address
from darts_hpc.distributed.identity import in_interactive_step, torchrun_agent

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals at which a run saves and stops."""
MISTAKE = signal.SIGRTMIN
"""Asks torchrun to stop because of a user's mistake: a signal that no terminal, scheduler or user sends."""
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
POLL_S = 0.5
FIRST_PORT, NUM_PORTS = 20000, 10000  # below the ports that systems hand out by themselves


@dataclass(frozen=True)
class RankInfo:
    """This process among `size`, on its node among the local ranks, and where all meet.

    on_one_node: all of them are on this node. agent_listens: torchrun itself listens there, and not rank 0.
    """

    launcher: str
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = LOOPBACK
    port: int = 0
    on_one_node: bool = False
    agent_listens: bool = False


def detect_launcher(env: Mapping[str, str] = os.environ) -> RankInfo:
    """Return what the innermost launcher says. Under MPI every rank must call it, because the address is broadcast.

    Raises ValueError when a launcher's variables are incomplete, or two launchers contradict each other.
    """
    if any(name in env for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        return _torchrun(env)
    # mpirun starts its own daemons with srun, whose variables then stay around; srun sets neither of these two.
    mpirun = "OMPI_COMM_WORLD_SIZE" in env or "MPI_LOCALNRANKS" in env
    # Without a step it is the batch script, or salloc's shell: one process, whatever --ntasks.
    if "SLURM_STEP_ID" in env and not mpirun and not in_interactive_step():
        return _slurm(env)
    size = next((env[name] for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") if name in env), "1")
    return _mpi(_number("the number of MPI ranks", size)) if size != "1" else RankInfo("none")


def job_name(env: Mapping[str, str] = os.environ) -> str:
    """Return this job's name in that of a run folder: mostly another than that of jobs started in the same second.

    Slurm's job and array task, or the run id that torchrun was given; the pid where there is neither.
    """
    job = env.get("SLURM_ARRAY_JOB_ID") or env.get("SLURM_JOB_ID")
    if job is not None:
        return "_".join(filter(None, (job, env.get("SLURM_ARRAY_TASK_ID"))))
    given = env.get("TORCHELASTIC_RUN_ID", "none")
    return re.sub(r"[^A-Za-z0-9_.]", "_", "" if given == "none" else given)[:12] or str(os.getpid())


def end_with_launcher() -> None:
    """From now on, end this process when its launcher is gone, as after kill -9."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def is_first_process(env: Mapping[str, str] = os.environ) -> bool:
    """Guess, before detect_launcher, whether this process is the one that prints to the user."""
    slurm = ("SLURM_PROCID",) if "SLURM_STEP_ID" in env else ()
    ranks = [env[name] for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", *slurm) if name in env]
    return not ranks or ranks[0] == "0"


def stop_restarts(number: int = MISTAKE, env: Mapping[str, str] = os.environ) -> None:
    """Signal torchrun, if it would start this process again, not to; by a signal that it handles."""
    if env.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        handled = env.get("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT").split(",")
        os.kill(torchrun_agent(), number if signal.Signals(number).name in handled else signal.SIGTERM)


def leave_stopped(number: int, env: Mapping[str, str] = os.environ) -> NoReturn:
    """End this process, which a signal has stopped cleanly, with the exit code of a death by that signal."""
    for each in STOPS:  # torchrun passes it on to its workers, and a scheduler may send another
        signal.signal(each, signal.SIG_IGN)
    if env.get("LOCAL_RANK") == "0":  # one process for each node's torchrun
        stop_restarts(number, env)
    sys.exit(128 + number)


def _torchrun(env: Mapping[str, str]) -> RankInfo:
    missing = [name for name in TORCHRUN if name not in env]
    if missing:
        given = ", ".join(name for name in TORCHRUN if name in env)
        raise ValueError(
            f"{given} set, but not {', '.join(missing)}: half of what torchrun says; start with torchrun, or unset them"
        )
    tasks, agents = env.get("SLURM_STEP_NUM_TASKS", "1"), env.get("GROUP_WORLD_SIZE", "1")
    if int(tasks) > int(agents) and not in_interactive_step():
        raise ValueError(
            f"srun started {tasks} torchruns of {agents} node(s) each, which would be as many runs; give torchrun "
            f"--nnodes={tasks} and one --rdzv_endpoint, and srun --ntasks-per-node=1"
        )
    rank, size, local_rank, port = (_number(name, env[name]) for name in (*TORCHRUN[:3], "MASTER_PORT"))
    if not 1 <= port <= 65535:  # at port 0 every rank would wait for the others for ever
        raise ValueError(f"MASTER_PORT={port}: expected 1 to 65535, a port that is free on {env['MASTER_ADDR']}")
    on_one_node = env.get("LOCAL_WORLD_SIZE") == env["WORLD_SIZE"]
    agent_listens = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address = LOOPBACK if on_one_node and not agent_listens else env["MASTER_ADDR"]
    return _checked(RankInfo("torchrun", rank, size, local_rank, address, port, on_one_node, agent_listens))


def _slurm(env: Mapping[str, str]) -> RankInfo:
    missing = [name for name in SLURM if name not in env]
    if missing:
        raise ValueError(f"srun set SLURM_STEP_ID, but not {', '.join(missing)}; start with srun or torchrun")
    rank, size, local_rank = (_number(name, env[name]) for name in SLURM[:3])
    job, step = _number("SLURM_JOB_ID", env["SLURM_JOB_ID"]), _number("SLURM_STEP_ID", env["SLURM_STEP_ID"])
    port = FIRST_PORT + (job * 16 + step) % NUM_PORTS  # steps of one job, and jobs that share a node, don't meet
    nodes = env["SLURM_STEP_NODELIST"]
    on_one_node = not re.search(r"[,\[]", nodes)
    address = LOOPBACK if on_one_node else first_host(nodes)
    return _checked(RankInfo("Slurm", rank, size, local_rank, address, port, on_one_node))


def _mpi(size: int) -> RankInfo:
    try:
        from mpi4py import MPI
    except ImportError:
        raise ValueError(
            f"mpirun started {size} processes, which need mpi4py to find each other: pip install 'darts_hpc[mpi]'"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"mpi4py found no MPI library ({error}); load the MPI whose mpirun started this") from None
    world = MPI.COMM_WORLD
    if world.size != size:
        library = MPI.Get_library_version().splitlines()[0]
        raise ValueError(
            f"mpirun started {size} processes, but mpi4py sees {world.size}: it uses another MPI ({library}) than that "
            "mpirun; start with the mpirun of that one, or install mpi4py for the other"
        )
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    on_one_node = node.size == world.size
    own = LOOPBACK if on_one_node else own_address()
    address, port = world.bcast((own, _free_port()) if world.rank == 0 else None, root=0)
    info = RankInfo("MPI", world.rank, world.size, node.rank, address, port, on_one_node)
    MPI.Finalize()  # torch takes over; a rank that leaves early must not wait for the others at its exit
    return info


def first_host(nodes: str) -> str:
    """Return the first name of Slurm's notation for nodes: node[07-09,12],login -> node07."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"SLURM_STEP_NODELIST={nodes!r} names no node; start with srun or torchrun")
    return re.sub(r"\[([^],-]*)[^\]]*\]", r"\1", first[0])


def _checked(info: RankInfo) -> RankInfo:
    if not 0 <= info.rank < info.size or not 0 <= info.local_rank < info.size:
        raise ValueError(
            f"{info.launcher} says rank {info.rank}, local rank {info.local_rank} of {info.size} processes, which "
            "can't be; are variables of another launcher left in the environment?"
        )
    return info


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"{name}={text!r}: expected a whole number, as the launcher sets it; unset or correct it")
    return int(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
