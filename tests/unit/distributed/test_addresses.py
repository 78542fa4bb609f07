"""On one node nothing of a run can be reached from another machine, and no name server is needed."""

import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from namespaces import add_network, lose_name, name_server, skip_without_namespaces
from ranks import forked, on_ranks
from torch.distributed.elastic.rendezvous import RendezvousParameters

from darts_hpc.distributed import elastic
from darts_hpc.distributed.addresses import (
    LOOPBACK,
    is_own,
    listen_on_loopback,
    named_address,
    own_address,
    own_interface,
)
from darts_hpc.distributed.elastic import ONE_NODE, rendezvous_on_one_node
from darts_hpc.distributed.world import World

LISTENING = "0A"  # Linux's TCP_LISTEN


def listening() -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses at which this process listens, of Linux's tables."""
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in own:
                address = fields[1].partition(":")[0]
                words = [int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(address), 8)]
                yield ipaddress.ip_address(b"".join(words))


def work() -> list[str]:
    with World.open("cpu") as world:
        world.barrier()
        return sorted(map(str, listening()))


def test_ranks_of_one_node_listen_at_its_loopback_address_alone():
    with_store, without = on_ranks(2, work)
    assert set(with_store) | set(without) == {LOOPBACK}
    assert len(with_store) > len(without)  # rank 0 hosts the store


def test_torchruns_own_store_listens_at_the_loopback_address_alone():
    def rendezvous() -> None:
        handler = rendezvous_on_one_node(RendezvousParameters(ONE_NODE, "", "run", 1, 1))
        info = handler.next_rendezvous()
        assert info.bootstrap_store_info is not None
        print(info.bootstrap_store_info.master_addr, *map(str, listening()))
        handler.shutdown()

    done = forked(rendezvous, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert done.returncode == 0 and done.stdout.split() == [LOOPBACK, LOOPBACK], done.stderr


def test_a_port_in_use_is_an_error():
    with listen_on_loopback() as first, pytest.raises(OSError, match="in use"):
        listen_on_loopback(first.getsockname()[1])


@pytest.fixture
def anonymous(tmp_path: Path) -> Callable[[Callable[[], object]], str]:
    """Run a function on a node whose name nobody knows; return what it says."""
    skip_without_namespaces()

    def run(function: Callable[[], object]) -> str:
        def on_node() -> None:
            lose_name(tmp_path)
            function()

        done = forked(on_node, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_ranks_and_torchrun_ask_no_name_server_for_the_name_of_their_node(anonymous):
    def run() -> None:
        asked = name_server()
        on_ranks(2, work)
        with contextlib.suppress(SystemExit):
            elastic.launch(["--standalone", "--nproc-per-node=2", "--no-python", "echo", "started"])
        print("asked", [name for name in asked if b"no-such-node" in name])

    assert anonymous(run).splitlines() == ["started", "started", "asked []"]


def test_a_node_of_unknown_name_is_reached_by_its_address(anonymous):
    def run() -> None:
        assert own_address() == LOOPBACK  # where there is no network
        add_network("10.9.8.7/24")
        assert named_address() is None
        assert own_address() == own_address("10.9.8.1") == own_address("10.9.8.7") == "10.9.8.7"
        assert own_address("localhost") == "localhost" and own_address("no-such-node") == "no-such-node"
        assert is_own("10.9.8.7") and not is_own("10.9.8.1")
        assert own_interface("10.9.8.1") == own_interface("10.9.8.7") == "n0"

    anonymous(run)


def test_nodes_of_unknown_names_compute_together(anonymous):
    def rank() -> str:
        os.environ.update(MASTER_ADDR="10.9.8.7", LOCAL_WORLD_SIZE="1")  # as on two nodes
        with World.open("cpu") as world:
            return f"{os.environ['GLOO_SOCKET_IFNAME']} {world.gather_objects(world.rank)}"

    def run() -> None:
        add_network("10.9.8.7/24")
        print(*on_ranks(2, rank), sep="\n")

    assert anonymous(run).splitlines()[:2] == ["n0 [0, 1]"] * 2


def test_a_name_that_is_loopback_as_debian_has_it_is_no_way_to_a_node(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert named_address() is None
