"""Planned batches on their way to those who compute them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Progress

Value = TypeVar("Value")


class Batches(Generic[Value]):
    """Batches of numbers, shared between those who compute; ``told`` hears of the value of each number."""

    def __init__(self, batches: Iterable[list[int]], told: Callable[[int, Value], None]) -> None:
        self._told = told
        self._todo = deque(batches)
        self._lock = threading.Lock()

    def next(self) -> list[int] | None:
        """A batch that is nobody's; None where there is none."""
        with self._lock:
            return self._todo.popleft() if self._todo else None

    @property
    def left(self) -> bool:
        """Whether a batch is with nobody."""
        return bool(self._todo)

    def put_back(self, members: list[int]) -> None:
        """A batch whose computer was lost: somebody else takes it next, as it is."""
        with self._lock:
            self._todo.appendleft(members)

    def done(self, members: list[int], found: Mapping[int, Value] | None) -> None:
        """The value of each of ``members``."""
        for number, value in (found or {}).items():
            self._told(number, value)


class BatchWork(Batches[float]):
    """Batches to do under the model ``source``, shared between those who compute; ``told`` hears of means, ``progress`` of tokens.

    No batch is larger than ``limit`` tokens once memory ran out.
    """

    def __init__(
        self,
        source: str,
        passes: Sequence[ForwardPass],
        batches: Iterable[list[int]],
        told: Callable[[int, float], None],
        progress: Progress | None,
    ) -> None:
        super().__init__(batches, told)
        self.passes, self._source, self._progress = passes, source, progress
        self.limit: int | None = None

    def size(self, members: Sequence[int]) -> int:
        return sum(len(self.passes[number].tokens) for number in members)

    def next(self) -> list[int] | None:
        with self._lock:
            if not self._todo:
                return None
            members = self._todo.popleft()
            while self.limit and len(members) > 1 and self.size(members) > self.limit:
                half = len(members) // 2
                self._todo.appendleft(members[half:])
                members = members[:half]
            return members

    def done(self, members: list[int], found: Mapping[int, float] | None) -> None:
        """The mean loss of each of ``members``; None where memory did not suffice: they are halved. Raises ModelError for a single one."""
        size = self.size(members)
        if found is not None:
            super().done(members, found)
            if self._progress:
                self._progress.advance(size)
        elif len(members) > 1:
            with self._lock:
                self.limit = min(self.limit or size, size) // 2
                self._todo.appendleft(members)
            if self._progress:
                self._progress.note(f"out of memory with {size:,} tokens in a batch: going on with {self.limit:,}")
        else:
            raise ModelError(
                f"scoring model {self._source!r}: memory does not suffice for one response of {size:,} tokens; lower "
                "scoring.max_length, take scoring.dtype bfloat16, or serve the model (scoring.small/large: MODEL@http://…/v1)"
            )
