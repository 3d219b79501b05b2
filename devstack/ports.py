"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below 32768, where Linux hands out the ports of outgoing connections.
CHOICES = range(15000, 32768)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A random free port from 15000 to 32767. Raises OSError when none is found in 200 tries."""
    for port in random.sample(CHOICES, 200):
        if is_free(port):
            return port
    raise OSError("no free port was found between 15000 and 32767")


def listen_from(port: int, tries: int = 50) -> socket.socket:
    """Listens on `port` of 127.0.0.1 or on the next free one. Raises OSError when all tries are taken.

    The socket is held, so nobody can take the port between this choice and the start of the server that
    inherits it, nor while that server restarts.
    """
    for candidate in range(port, port + tries):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, candidate))
            listener.listen(512)
        except OSError:
            listener.close()
            continue
        listener.set_inheritable(True)
        return listener
    raise OSError(f"the ports {port} to {port + tries - 1} are all taken")
