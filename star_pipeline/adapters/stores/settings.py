"""How S3 is reached: by the variables that other tools read too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from star_pipeline.core.errors import ConfigError

CONNECT_S, REQUEST_S = 5, 30
MOST_RETRIES, RETRIES_S = 6, 10
"""A store that starts again or stumbles is waited for so long; one that is gone stops the command."""
_BOOLEANS = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_SKIP_SIGNATURE")
_BOOLEAN = {"", "1", "true", "on", "yes", "y", "0", "false", "off", "no", "n"}
"""As obstore reads them."""
_KEY_AND_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


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
        """Raises ConfigError for values with which no client can be made: obstore aborts in a panic on some of them."""
        said = {name: value.strip() for name, value in environment.items() if name.startswith("AWS_")}
        for one, other in (_KEY_AND_SECRET, _KEY_AND_SECRET[::-1]):
            if said.get(one) and not said.get(other):
                raise ConfigError(
                    f"{one} is set, and {other} is not; set both, or neither to take the role of this machine"
                )
        for name in _BOOLEANS:
            if said.get(name, "").lower() not in _BOOLEAN:
                raise ConfigError(f"{name}={said[name]}: expected true or false; mend it, or leave it out")
        return cls(
            endpoint=_endpoint(said),
            region=said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION") or "us-east-1",
            key_id=said.get("AWS_ACCESS_KEY_ID", ""),
            secret=said.get("AWS_SECRET_ACCESS_KEY", ""),
            token=said.get("AWS_SESSION_TOKEN", ""),
            others=tuple((name.lower(), said[name]) for name in _BOOLEANS if said.get(name)),
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


def _endpoint(said: Mapping[str, str]) -> str:
    """Empty for Amazon's own. Raises ConfigError."""
    name = "AWS_ENDPOINT_URL_S3" if said.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    url = said.get(name, "").rstrip("/")
    if url:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            usable = usable and not (parts.query or parts.fragment)
        except ValueError:  # of a port that is none
            usable = False
        if not usable or any(character <= " " or character > "~" for character in url):
            raise ConfigError(
                f"{name}={said[name]}: expected http://host:port or https://host; mend it, or leave it out for Amazon S3"
            )
    return url
