"""How far a run has come: bars on a terminal, plain lines in a log, or nothing."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from star_pipeline.core import ports as port


class SilentProgress:
    def stage(self, name: str, total: int, later: float = 0.0) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class NotesOnly:
    """Passes on what is noted; for work whose steps are counted elsewhere."""

    def __init__(self, progress: port.Progress) -> None:
        self._progress = progress

    def stage(self, name: str, total: int, later: float = 0.0) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None:
        self._progress.note(text)


class LineProgress:
    """Plain lines on standard error: the notes, and within a long stage one line every ``every_s`` seconds."""

    def __init__(self, every_s: float = 15.0) -> None:
        self._every_s = every_s
        self._name, self._total, self._done, self._later = "", 0, 0, 0.0
        self._began = self._last = 0.0

    def stage(self, name: str, total: int, later: float = 0.0) -> None:
        self._name, self._total, self._done, self._later = name, total, 0, later
        self._began = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            left = time_left(now - self._began, self._done, self._total + self._later)
            self.note(f"  {self._name}: {self._done:,} of {self._total:,}{f', about {left} left' if left else ''}")

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
            _TimeLeftColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int, later: float = 0.0) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(name, total=total, later=later)

    def advance(self, count: int = 1) -> None:
        if self._task is not None:
            self._bars.advance(self._task, count)

    def note(self, text: str) -> None:
        self._bars.console.print(text, highlight=False)


class _TimeLeftColumn(ProgressColumn):
    """Until this stage is done, and what is known to follow it."""

    def render(self, task: Task) -> Text:
        total = (task.total or 0) + task.fields["later"]
        left = time_left(task.elapsed or 0.0, task.completed, total)
        return Text(f"{left} left" if left else "", style="progress.remaining")


def time_left(elapsed_s: float, done: float, total: float) -> str:
    """How long the rest takes at the pace so far, rounded, such as ``12 min``; empty while nothing is done."""
    if not done or done >= total:
        return ""
    return in_words(elapsed_s / done * (total - done))


def in_words(seconds: float) -> str:
    """A duration as one says it: ``40 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


@contextmanager
def progress_on(console: Console) -> Iterator[port.Progress]:
    """Bars where the console is a terminal, else lines now and then."""
    if console.is_terminal:
        with BarProgress(console) as bars:
            yield bars
    else:
        yield LineProgress()
