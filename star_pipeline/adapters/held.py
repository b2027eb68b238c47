"""Whether this process still holds the lakes that it holds: asked before each write of one, since a lock in a database can be lost."""

import threading
from collections.abc import Callable

_checks: dict[str, Callable[[], None]] = {}
_guard = threading.Lock()


def watch(root: str, check: Callable[[], None]) -> None:
    """From now on ``check`` is asked before a write of the lake at ``root``; it raises LakeError where the lock is lost."""
    with _guard:
        _checks[root] = check


def unwatch(root: str) -> None:
    with _guard:
        _checks.pop(root, None)


def require_held(root: str) -> None:
    """Raises LakeError where this process has held the lake, and lost it."""
    if check := _checks.get(root):
        check()
