"""Where the processes of a run meet: on one node at its loopback address, which no other machine can reach."""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator

LOOPBACK, LOOPBACK_INTERFACE = "127.0.0.1", "lo"
PROBED = "192.0.2.1"
"""No machine has this address, RFC 5737: what would go there takes the default route."""
ANY_PORT = 9
SIOCGIFADDR = 0x8915
"""Linux's request for the IPv4 address of a network interface, netdevice(7)."""


def listen_on_loopback(port: int = 0) -> socket.socket:
    """Return a socket that listens at the loopback address, for a TCPStore: torch's own listens on every interface.

    port: 0 for any that is free. Raises OSError where it is in use.
    """
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


def own_address(head: str | None = None) -> str:
    """Return where other nodes reach this one, whose own name need not be known, to others or to itself.

    head: a node that all reach by this name: itself is reached by it, the others by their addresses on the way to it.
    Without one, it is the address that this node's name has, else that of its default route.
    """
    if head is not None and is_own(head):
        return head
    found = source_towards(head) if head is not None else named_address()
    return found or source_towards(PROBED) or next((address for _, address in _interfaces()), LOOPBACK)


def is_own(host: str) -> bool:
    """Whether a name or an address is this node's: to others' addresses no socket can be bound."""
    for family, address in _resolved(host):
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind((address, 0))
            return True
    return host == socket.gethostname()


def named_address() -> str | None:
    """Return the address of this node's own name; None where that is unknown or loopback, as in Debian's /etc/hosts."""
    return next((address for _, address in _resolved(socket.gethostname()) if _is_reachable(address)), None)


def source_towards(host: str) -> str | None:
    """Return the address from which this node would talk to a host; None where no way leads there."""
    for family, address in _resolved(host):
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((address, ANY_PORT))  # which sends nothing
            if _is_reachable(own := probe.getsockname()[0]):
                return own
    return None


def own_interface(head: str) -> str | None:
    """Return the network interface at which others reach this node, as own_address has it; None where unknown."""
    own = source_towards(head) or own_address()
    return next((name for name, address in _interfaces() if address == own), None)


def _resolved(host: str) -> Iterator[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, ANY_PORT, type=socket.SOCK_DGRAM)
    except OSError:
        return
    yield from ((family, str(address[0])) for family, _, _, _, address in found)


def _is_reachable(address: str) -> bool:
    """Whether an address may be another node's way to this one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)


def _interfaces() -> Iterator[tuple[str, str]]:
    """Yield the names and IPv4 addresses of network interfaces other than loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if _is_reachable(address := socket.inet_ntoa(answer[20:24])):
                    yield name, address
