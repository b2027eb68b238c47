"""Whether somebody has asked this process to stop, whatever became of it."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Within, the function that it gives tells whether Ctrl-C or SIGTERM has come.

    Dagster's handlers forget a signal that comes while a run begins or ends, and an exception that a handler raises is lost where
    Python itself drops exceptions, as in a ``__del__``. The interpreter, though, notes each signal before any handler runs. In any
    thread but the main one, which signals never reach, it tells of none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)

        def has_come() -> bool:
            # looked at and left: what is taken out may be lost to a handler that raises just then
            with suppress(BlockingIOError):
                return not {signal.SIGINT, signal.SIGTERM}.isdisjoint(here.recv(1 << 16, socket.MSG_PEEK))
            return False

        try:
            yield has_come
        finally:
            signal.set_wakeup_fd(before)
