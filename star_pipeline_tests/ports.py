"""Ports for servers that are told theirs before they bind it, or that end and come back at the same one."""

import os
import random
import socket
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_LEAST = 10_000
_TAKEN: list[FileLock] = []
"""Held until this process ends."""


def free_port() -> int:
    """A port of loopback that nobody takes meanwhile: no other test does, in whichever process, and the system hands it to no client.

    A port that the system chose may be the next connection's own as soon as it is let go, and is lost to a server that starts anew.
    """
    folder = Path(tempfile.gettempdir(), f"star-pipeline-ports-{os.getuid() if hasattr(os, 'getuid') else 0}")
    folder.mkdir(exist_ok=True)
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(_LEAST, _first_of_clients())
        lock = FileLock(folder / str(port))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # of a service of the machine
                lock.release()
                continue
        _TAKEN.append(lock)
        return port


def _first_of_clients() -> int:
    """The first port that a connection without one of its own may be given."""
    try:
        return max(_LEAST + 5000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    except (OSError, ValueError):
        return 32_768
