"""How far a run has come: bars on a terminal, plain lines in a log, or nothing."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class SilentProgress:
    def stage(self, name: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class LineProgress:
    """Plain lines on standard error: the notes, and within a long stage one line every ``every_s`` seconds."""

    def __init__(self, every_s: float = 15.0) -> None:
        self._every_s = every_s
        self._name, self._total, self._done, self._last = "", 0, 0, 0.0

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._last = name, total, 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self.note(f"  {self._name}: {self._done:,} of {self._total:,}")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class BarProgress:
    """One bar a stage on the terminal; notes scroll above it."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: int | None = None

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)  # type: ignore[arg-type]
        self._task = self._bars.add_task(name, total=total)

    def advance(self, count: int = 1) -> None:
        if self._task is not None:
            self._bars.advance(self._task, count)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._bars.console.print(text, highlight=False)
