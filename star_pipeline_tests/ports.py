"""Ports of loopback for servers that are told theirs before they start."""

import contextlib
import itertools
import os
import socket
from pathlib import Path

_FIRST, _EACH = 10_000, 100
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_number = itertools.count()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has by now, and that the system gives to no connection: they stay free until their server binds them, also
    where it starts again. Processes at work at the same time look for them in different places."""
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    begin = _FIRST + os.getpid() % ((end - _FIRST) // _EACH) * _EACH
    found: list[int] = []
    for number in itertools.islice(_number, 10 * _EACH):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", begin + number % _EACH))
            found.append(begin + number % _EACH)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports from {begin} to {begin + _EACH - 1}")


def free_port() -> int:
    [found] = free_ports(1)
    return found
