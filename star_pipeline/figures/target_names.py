"""What a target's name says: its size, and how it stands in a plot."""

import re

_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)
_UNITS = {"m": 1e6, "b": 1e9}


def size_of(target: str) -> float | None:
    """Parameters by the model's name (``Qwen2.5-1.5B`` → 1.5e9); None where the name does not tell."""
    found = _SIZE.findall(target.rstrip("/").rsplit("/", 1)[-1])
    return float(found[-1][0]) * _UNITS[found[-1][1].lower()] if found else None


def short_target(target: str) -> str:
    """A target's name in a plot: of a folder the last part."""
    return target.rstrip("/").rsplit("/", 1)[-1] if target.startswith(("/", "~", ".")) else target
