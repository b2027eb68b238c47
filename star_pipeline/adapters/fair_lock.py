"""A lock that goes to whoever has waited longest: of threads that hold it in short turns, none is left waiting for all of another's."""

import threading
from collections import deque


class FairLock:
    """Like ``threading.RLock``, first come first served. An interrupted wait gives its place up."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._owner == me or (self._owner is None and not self._waiting):
                self._owner, self._depth = me, self._depth + 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            with self._guard:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._hand_on()
            raise
        with self._guard:
            self._owner, self._depth = me, 1

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._depth -= 1
            if not self._depth:
                self._hand_on()

    def _hand_on(self) -> None:
        """To the first that waits; until it has woken, the lock is nobody's, and nobody passes by it."""
        self._owner = None
        if self._waiting:
            self._owner = -1
            self._waiting.popleft().release()
