"""How S3 is reached: by the variables and profiles that other tools read too."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from star_pipeline.adapters.stores.profiles import Said, profile_of
from star_pipeline.core.errors import ConfigError

CONNECT_S, REQUEST_S = 5, 30
MOST_RETRIES, RETRIES_S = 6, 10
"""A store that starts again or stumbles is waited for so long; one that is gone stops the command."""
_BOOLEANS = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_SKIP_SIGNATURE")
_TRUE = {"1", "true", "on", "yes", "y"}
_BOOLEAN = {"", *_TRUE, "0", "false", "off", "no", "n"}
"""As obstore reads them."""
_KEY_AND_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_CREDENTIALS = dict(zip(("key_id", "secret", "token"), (*_KEY_AND_SECRET, "AWS_SESSION_TOKEN"), strict=True))
_REGION = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, repr=False)  # what it holds is secret
class S3Settings:
    """``key_id`` and ``secret`` are empty where a role of the machine is to be taken; ``endpoint`` is empty for Amazon's own."""

    endpoint: str
    region: str
    key_id: str
    secret: str
    token: str
    others: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "S3Settings":
        """What the variables say, and what they leave out as the profile of ``~/.aws`` says it (``profiles``).

        Raises ConfigError for values with which no client can be made: obstore aborts in a panic on some of them.
        """
        set_to = {name: value.strip() for name, value in environment.items() if name.startswith("AWS_")}
        said = {name: Said(name, value) for name, value in set_to.items() if value}
        for one, other in (_KEY_AND_SECRET, _KEY_AND_SECRET[::-1]):
            if one in said and other not in said:
                raise ConfigError(
                    f"{one} is set, and {other} is not; set both, or neither to take the role of this machine"
                )
        unsigned = set_to.get("AWS_SKIP_SIGNATURE", "").lower() in _TRUE
        profile = profile_of(environment, keys=not (unsigned or _KEY_AND_SECRET[0] in said))
        if _KEY_AND_SECRET[0] in profile:
            said.pop("AWS_SESSION_TOKEN", None)  # of other keys
        if "AWS_DEFAULT_REGION" in said:
            profile.pop("AWS_REGION", None)
        said = profile | said
        for name in _BOOLEANS:
            if (found := said.get(name)) and found.value.lower() not in _BOOLEAN:
                raise ConfigError(f"{name}={found.value}: expected true or false; mend it, or leave it out")
        for name in (*_KEY_AND_SECRET, "AWS_SESSION_TOKEN"):
            if found := said.get(name):
                _require_secret(found)
        return cls(
            endpoint=_endpoint(said),
            region=_region(said),
            **{name: said[variable].value if variable in said else "" for name, variable in _CREDENTIALS.items()},
            others=tuple((name.lower(), said[name].value) for name in _BOOLEANS if said.get(name)),
        )

    @property
    def where(self) -> str:
        """What to call it."""
        return self.endpoint or f"Amazon S3 in {self.region}"

    @property
    def options(self) -> dict[str, str]:
        """As obstore and LanceDB take them."""
        named = {
            "aws_endpoint": self.endpoint,
            "aws_region": self.region,
            "aws_access_key_id": self.key_id,
            "aws_secret_access_key": self.secret,
            "aws_session_token": self.token,
        }
        return {name: value for name, value in named.items() if value} | dict(self.others)

    @property
    def allows_http(self) -> bool:
        return self.endpoint.lower().startswith("http://")

    @property
    def lance_options(self) -> dict[str, str]:
        """The same with what obstore is told elsewhere."""
        return {
            **self.options,
            "allow_http": str(self.allows_http).lower(),
            "connect_timeout": f"{CONNECT_S}s",
            "timeout": f"{REQUEST_S}s",
            "client_max_retries": str(MOST_RETRIES),
            "client_retry_timeout": str(RETRIES_S),
        }


def _endpoint(said: Mapping[str, Said]) -> str:
    """Empty for Amazon's own. Raises ConfigError."""
    found = said.get("AWS_ENDPOINT_URL_S3") or said.get("AWS_ENDPOINT_URL")
    if not found:
        return ""
    url = found.value.rstrip("/")
    expected = "expected http://host:port or https://host; mend it, or leave it out for Amazon S3"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not (parts.query or parts.fragment)
        named = parts.username is not None or parts.password is not None
    except ValueError:  # of a port that is none
        usable = named = False
    if named:  # not shown: it is a secret
        raise ConfigError(
            f"{found.name} has a user or a password in it: {expected}; credentials go into {' and '.join(_KEY_AND_SECRET)}"
        )
    if not usable or any(character <= " " or character > "~" for character in url):
        raise ConfigError(f"{found.name}={found.value}: {expected}")
    return url


def _region(said: Mapping[str, Said]) -> str:
    found = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION")
    if not found:
        return "us-east-1"
    if not _REGION.fullmatch(found.value):
        raise ConfigError(
            f"{found.name}={found.value!r}: expected the name of a region, of letters, digits, - and _, such as us-east-1; mend it, or "
            "leave it out"
        )
    return found.value


def _require_secret(found: Said) -> None:
    """Raises ConfigError, without showing it, for what is no key: a line too many of a file, or the quotes around it."""
    odd = next((character for character in found.value if not "!" <= character <= "~"), None)
    if odd is None and found.value[0] == found.value[-1] and found.value[0] in "\"'":
        odd = found.value[0]
    if odd is not None:
        raise ConfigError(
            f"{found.name}: has {odd!a} in it (its value is not shown); expected letters, digits and signs, without spaces, line ends "
            "and quotes; mend it"
        )
