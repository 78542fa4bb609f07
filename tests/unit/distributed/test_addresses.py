"""On one node nothing of a run can be reached from another machine."""

import ipaddress
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ranks import forked, on_ranks
from torch.distributed.elastic.rendezvous import RendezvousParameters

from darts_hpc.distributed import addresses
from darts_hpc.distributed.addresses import LOOPBACK, listen_on_loopback, own_address
from darts_hpc.distributed.torchrun import loopback_rendezvous
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
        handler = loopback_rendezvous(RendezvousParameters("loopback", "", "run", 1, 1))
        info = handler.next_rendezvous()
        assert info.bootstrap_store_info is not None
        print(info.bootstrap_store_info.master_addr, *map(str, listening()))
        handler.shutdown()

    done = forked(rendezvous, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert done.returncode == 0 and done.stdout.split() == [LOOPBACK, LOOPBACK], done.stderr


def test_a_port_in_use_is_an_error():
    with listen_on_loopback() as first, pytest.raises(OSError, match="in use"):
        listen_on_loopback(first.getsockname()[1])


def test_a_node_whose_own_name_is_unknown_is_reached_by_its_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert own_address() == "localhost"
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-node.invalid")
    monkeypatch.setattr(addresses, "PROBED", (LOOPBACK, 9))
    assert own_address() == LOOPBACK
