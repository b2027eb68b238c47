"""One event loop a thread, kept for the life of the process.

HTTP clients are bound to the loop they were made in: a new loop for every stage would leak the old one's sockets.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")
_local = threading.local()


def run(work: Coroutine[object, None, T]) -> T:
    """Run a coroutine to its end on this thread's loop, like ``asyncio.run`` but without closing the loop."""
    if not hasattr(_local, "runner"):
        _local.runner = asyncio.Runner()
    runner: asyncio.Runner = _local.runner
    return runner.run(work)
