"""JSON that others wrote: whatever stands in it gives a value or an error with its place, never a surprise."""

import json
from collections.abc import Sequence
from decimal import Decimal


class Repeated(dict[str, object]):
    """An object that names a field twice, where a plain one would keep the last value in silence; ``field`` is the first such."""

    field: str


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = Repeated(found)
    names = [name for name, _ in pairs]
    repeated.field = next(name for name in names if names.count(name) > 1)
    return repeated


def _integer(digits: str) -> int | Decimal:
    """Python refuses to make an int of thousands of digits."""
    return int(digits) if len(digits) < 1000 else Decimal(digits)


_USUAL = json.JSONDecoder(object_pairs_hook=_object)
_PATIENT = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer
)  # three times slower where there are many integers


def parse(text: str) -> object:
    """The value that a text holds. Raises JSONDecodeError for what is no JSON, RecursionError for what is nested too deeply."""
    try:
        return _USUAL.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a long integer
        return _PATIENT.decode(text)


def parse_from(text: str, start: int) -> tuple[object, int]:
    """(the value that begins at ``start``, where it ends). Raises as ``parse`` does."""
    try:
        return _USUAL.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _PATIENT.raw_decode(text, start)
