"""Where the processes of a run meet: on one node at its loopback address, which no other machine can reach."""

import socket

LOOPBACK, LOOPBACK_INTERFACE = "127.0.0.1", "lo"
PROBED = ("192.0.2.1", 9)
"""No machine has this address, RFC 5737."""


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


def own_address() -> str:
    """Return the address at which other nodes reach this one: its name or, if unknown, that of its default route."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.connect(PROBED)  # which sends nothing
            return probe.getsockname()[0]
    return name
