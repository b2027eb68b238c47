"""How long to wait before a request is sent again."""

import random
import re
import time
from email.utils import parsedate_to_datetime

_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_WISH_S = 0.5, 60.0, 600.0

_WISH = r"(?:(?:try again|retry) (?:in|after)|retrydelay[\\\"]*:?) *[\\\"]*"
_IN_WORDS = re.compile(_WISH + r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,6})?) ?s)?")


def wait_s(tries: int, retry_after: float | None) -> float:
    """Seconds after ``tries`` failed ones: full jitter under a doubling bound, and never less than the server asks for."""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** max(tries - 1, 0))
    return max(random.uniform(0, longest), min(retry_after or 0.0, _LONGEST_WISH_S))


def retry_after_s(header: str | None) -> float | None:
    """The header Retry-After, which holds seconds or a date, in seconds from now; None where it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError, OSError):
            return None


def retry_after_said(text: str) -> float | None:
    """The same from words: ``try again in 1h2m3.5s``, or Google's ``"retryDelay": "34s"``; None where they say nothing."""
    found = _IN_WORDS.search(text)
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
