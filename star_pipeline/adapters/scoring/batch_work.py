"""Planned batches on their way to those who compute them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Progress


class BatchWork:
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
        self.passes, self._source, self._told, self._progress = passes, source, told, progress
        self.limit: int | None = None
        self._todo = deque(batches)
        self._lock = threading.Lock()

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

    @property
    def left(self) -> bool:
        """Whether a batch is with nobody."""
        return bool(self._todo)

    def put_back(self, members: list[int]) -> None:
        """A batch whose computer was lost: somebody else takes it next, as it is."""
        with self._lock:
            self._todo.appendleft(members)

    def done(self, members: list[int], means: dict[int, float] | None) -> None:
        """The mean loss of each of ``members``; None where memory did not suffice: they are halved. Raises ModelError for a single one."""
        size = self.size(members)
        if means is not None:
            for number, mean in means.items():
                self._told(number, mean)
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
