"""Whose business it is to finish sending a batch: that of the process that began it, for as long as it lives."""

import os
import socket
import time

import psutil

from star_pipeline.core.journal import Batch

_OTHER_HOST_S = 600.0
SENDING: set[str] = set()
"""The markers of the batches that this process is sending."""


def this_process() -> str:
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_alive(batch: Batch) -> bool:
    """Whether the process that began to send a batch may still be at it."""
    host, pid, begun = batch.owner.rsplit(" ", 2)
    if host != socket.gethostname():
        return time.time() - batch.at < _OTHER_HOST_S
    if int(pid) == os.getpid():
        return batch.marker in SENDING
    try:
        process = psutil.Process(int(pid))
        return abs(process.create_time() - float(begun)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
