"""A real two-node Slurm on this machine, for tests, or by hand: python tests/cluster/slurm_cluster.py [COMMAND ...]."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "munged", "ip", "unshare", "nsenter")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
DAEMONS = ("slurmd", "slurmstepd")
NAMESPACES = ("--pid", "--net", "--mount", "--uts")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def why_not() -> str | None:
    """Return what keeps Slurm from running here, None if nothing does."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt: slurmctld slurmd slurm-client munge iproute2)"
    unshare = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, check=False)
    return "namespaces for virtual nodes need root" if unshare.returncode else None


class Cluster:
    """Use it as a context manager. Any number may run at once, of one user or several: each is a world of its own.

    Attributes:
        nodes: node1, node2, ...
        folder: configuration, state and logs of the daemons.
        disk: a folder that is another one on each node, as a node-local disk is.
    """

    def __init__(self, num_nodes: int = 2, cpus: int = 4, gpus: int = 2):
        self.nodes = [f"node{i + 1}" for i in range(num_nodes)]
        self.cpus, self.gpus = cpus, gpus

    def __enter__(self) -> "Cluster":
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets want a short path
        self.disk = self.folder / "disk"
        # Whatever ends this process closes the pipe, and with it ends the cluster.
        self._owner = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", HERE / "cluster.sh", self.folder]
            + [str(number) for number in (len(self.nodes), self.cpus, self.gpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "cluster.log").open("wb"),
            env={**os.environ, "PATH": PATH},
        )
        try:
            self._first_process = self.wait_for(lambda: _children(self._owner.pid), "the first process")[0]
            for node in self.nodes:
                self.wait_for_node(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._owner.kill()
        self._owner.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        *command: object,
        cwd: Path | str = "/",
        check: bool = True,
        timeout_s: float = 240,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as on a login node, where sbatch, srun and scontrol find this cluster."""
        done = subprocess.run(
            [*self._enter(), "env", f"--chdir={cwd}", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf"), **(env or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
        return done

    def sbatch(self, *arguments: object, cwd: Path | str, env: Mapping[str, str] | None = None) -> str:
        """Submit a job; return its id."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd, env=env).stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """Return what `scontrol -o show job` says about a job (of an array: 7_2)."""
        fields = self.run("scontrol", "-o", "show", "job", job).stdout.splitlines()[0]
        return dict(re.findall(r"(\S+?)=(\S*)", fields))

    def wait(self, job: str, *states: str, timeout_s: float = 280) -> dict[str, str]:
        """Wait until a job is in one of the states, or has ended where none is named; return its fields."""
        # sbatch --wait polls ever more slowly: an 8 s job took 42 s.
        self.wait_for(lambda: self.job(job)["JobState"] in (states or ENDED), f"job {job} {states}", timeout_s)
        return self.job(job)

    def crash(self, node: str) -> None:
        """Power loss of a node: silence on the network, and every process of it killed at once."""
        self.run(HERE / "node.sh", "off", self.folder, node.removeprefix("node"))

    def power_on(self, node: str) -> None:
        """Start a crashed node again, and wait until Slurm has it back."""
        self.run(HERE / "node.sh", "on", self.folder, node.removeprefix("node"))
        self.wait_for_node(node)

    def wait_for_node(self, node: str, *states: str, timeout_s: float = 240) -> None:
        """Wait until a node is in one of the states, such as idle or down; fit for work where none is named."""
        states = states or ("idle", "mix", "alloc", "comp")

        def reached() -> bool:
            sinfo = self.run("sinfo", "--noheader", "--nodes", node, "--format", "%t", check=False)
            return sinfo.stdout.strip() in states

        self.wait_for(reached, f"{node} {states}", timeout_s)

    def processes(self, node: str) -> list[str]:
        """Return the command lines of what runs on a node beside Slurm itself."""
        table = self.run("ps", "-wweo", "pidns=,comm=,args=").stdout.splitlines()
        first = _children(int((self.folder / f"{node}.pid").read_text()), self._enter())
        mine = self.run("ps", "-o", "pidns=", "-p", first[0]).stdout.strip()
        rows = [row.split(maxsplit=2) for row in table]
        return [args for space, name, args in rows if space == mine and name not in DAEMONS and "node.sh" not in args]

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._first_process}", *NAMESPACES]

    def wait_for(self, reached, what: str, timeout_s: float = 240):
        """Return the first true value of reached()."""
        deadline = time.monotonic() + timeout_s
        while not (value := reached()):
            if self._owner.poll() is not None or time.monotonic() > deadline:
                logs = "".join(f"\n{path}: {_tail(path)}" for path in sorted(self.folder.glob("*.log")))
                raise TimeoutError(f"waited {timeout_s:.0f} s for {what}{logs}")
            time.sleep(0.5)  # to ask Slurm costs 40 ms of CPU
        return value


def _children(pid: int, enter: Sequence[str] = ()) -> list[str]:
    done = subprocess.run(
        [*enter, "cat", f"/proc/{pid}/task/{pid}/children"], capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])


def main(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command, or a shell, as on the login node of a fresh cluster."""
    reason = why_not()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    with Cluster() as cluster:
        enter = [*cluster._enter(), "env", f"--chdir={Path.cwd()}"]
        command = command or [environment.get("SHELL", "bash")]
        where = {**environment, "PATH": PATH, "SLURM_CONF": str(cluster.folder / "slurm.conf")}
        return subprocess.run([*enter, *command], env=where, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
