"""One event loop a thread, kept for the life of the process.

HTTP clients are bound to the loop they were made in: a new loop for every stage would leak the old one's sockets.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
_local = threading.local()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on this thread's loop, like ``asyncio.run`` but without closing the loop.

    In the main thread Ctrl-C and SIGTERM cancel it, so that what it has open is closed, and then do what they would have done
    elsewhere: raise. Python's own loop sees to that only where Python's own handler is in force; any other one's exception, such as
    Dagster's, would end up in whichever task the signal hit, and might be lost there.
    """
    if not hasattr(_local, "runner"):
        _local.runner = asyncio.Runner()
    runner: asyncio.Runner = _local.runner
    if threading.current_thread() is not threading.main_thread():
        return runner.run(work)
    return _run_until_a_signal(runner, work)


def _run_until_a_signal(runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))  # neither ignored nor the system's
    }
    came: list[int] = []
    main: list[asyncio.Task[Any]] = []
    loop = runner.get_loop()

    async def watched() -> T:
        task = asyncio.current_task()
        assert task
        main.append(task)
        if came:
            task.cancel()
        return await work

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:  # somebody does not want to wait
            handlers[number](number, frame)
        elif main:
            loop.call_soon_threadsafe(main[0].cancel)

    for number in handlers:
        signal.signal(number, interrupt)
    try:
        return runner.run(watched())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            handlers[came[0]](came[0], None)
