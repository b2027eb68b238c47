"""The addresses of servers: one type for every setting that holds one, and no secret in any of them."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_EXAMPLE = "expected something like http://127.0.0.1:8000/v1"
_REMEDY = (
    "an address without credentials is expected; put the key into the environment, and name its variable in api_key_env"
)
_WITH_CREDENTIALS = re.compile(r"://[^/?#\s\"'<>]{0,1000}@")
_KEY_IN_QUERY = re.compile(
    r"://[^\s\"'<>]{0,2000}[?&#;][\w.-]{0,40}(?:key|token|secret|passw\w{0,8}|pwd|sig|signature|credential)s?=",
    re.IGNORECASE,
)


def _address(address: str) -> str:
    # what was given is never shown: it may hold a password
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"this is no address; {_EXAMPLE}") from None
    if "@" in parts.netloc:
        raise ValueError(_REMEDY)
    if (
        not sound
        or re.search(r"[\s\\\x00-\x1f\x7f]", address)
        or "%" in parts.netloc.partition("]")[2 if "[" in parts.netloc else 0]
    ):
        raise ValueError(f"this is no address; {_EXAMPLE}")
    if parts.query or "?" in address:
        raise ValueError(f"nothing behind a ? is taken, where keys are found at times; {_REMEDY}")
    if parts.fragment or "#" in address:
        raise ValueError(f"nothing behind a # is taken; {_EXAMPLE}")
    return address


Address = Annotated[str, AfterValidator(_address)]
"""http or https with a host, and nothing that could be a secret: no user, password, query or fragment."""


def holds_credentials(text: str) -> bool:
    """Whether an address with a user, a password or a key in its query stands in the text."""
    return bool(_WITH_CREDENTIALS.search(text) or _KEY_IN_QUERY.search(text))


def require_none(value: object, where: str = "") -> None:
    """Raises ValueError, naming the place, where some text among the settings holds an address with credentials."""
    if isinstance(value, dict):
        for name, inner in value.items():
            require_none(inner, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            require_none(inner, f"{where}.{number}")
    elif isinstance(value, str) and holds_credentials(value):
        raise ValueError(f"{where}: {_REMEDY}")
