"""A machine of a test's own, in a forked process: another name, name server, network and /dev/shm. Needs root."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from ranks import forked

NEW_MOUNTS, NEW_NAME, NEW_NETWORK = 0x20000, 0x4000000, 0x40000000
PRIVATE, BIND = 0x44000, 0x1000
SET_FLAGS, UP = 0x8914, 1
UNKNOWN = b"\x81\x83"
"""The flags of an answer that there is no such name, RFC 1035."""
LIBC = ctypes.CDLL(None, use_errno=True)


def skip_without_namespaces() -> None:
    """Skip a test where nobody may make namespaces."""
    if forked(lambda: unshare(NEW_MOUNTS | NEW_NAME | NEW_NETWORK)).returncode:
        pytest.skip("namespaces need root")


def unshare(kinds: int) -> None:
    """Give this process namespaces of its own; what it mounts nobody else sees."""
    _call(LIBC.unshare(kinds))
    if kinds & NEW_MOUNTS:
        _call(LIBC.mount(b"none", b"/", None, PRIVATE, None))


def mount(source: Path | str, target: str, *, kind: str | None = None, options: str = "") -> None:
    """Mount a file or a folder over another, or a file system of a kind."""
    flags = 0 if kind else BIND
    words = [None if word is None else str(word).encode() for word in (source, target, kind)]
    _call(LIBC.mount(*words, flags, options.encode() or None))


def lose_name(folder: Path) -> None:
    """Let this process's node have a name that nobody knows, and neither a network nor a name server."""
    unshare(NEW_MOUNTS | NEW_NAME | NEW_NETWORK)
    socket.sethostname("no-such-node")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", UP))
    for name, text in (("hosts", "127.0.0.1 localhost\n"), ("resolv.conf", "nameserver 127.0.0.1\n")):
        (folder / name).write_text(text)
        mount(folder / name, f"/etc/{name}")


def name_server() -> list[bytes]:
    """Start a name server that knows no name; return the list of what it is asked, as it grows."""
    asked: list[bytes] = []
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def answer() -> None:
        while True:
            question, client = server.recvfrom(512)
            asked.append(question[12:])
            server.sendto(question[:2] + UNKNOWN + question[4:], client)

    threading.Thread(target=answer, daemon=True).start()
    return asked


def add_network(address: str) -> None:
    """Give a node without a network one, n0, at an address such as 10.9.8.7/24; there is nobody else."""
    for command in ("link add n0 type veth peer name n1", f"addr add {address} dev n0", "link set n0 up"):
        subprocess.run(["ip", *command.split()], check=True)


def _call(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
