"""How S3 is reached: by the variables that other tools read too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

CONNECT_S, REQUEST_S = 5, 60
MOST_RETRIES, RETRIES_S = 6, 10
"""A store that starts again or stumbles is waited for so long; one that is gone stops the command."""
_PASSED_ON = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_SKIP_SIGNATURE")


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
        said = {name: value.strip() for name, value in environment.items() if name.startswith("AWS_")}
        return cls(
            endpoint=(said.get("AWS_ENDPOINT_URL_S3") or said.get("AWS_ENDPOINT_URL") or "").rstrip("/"),
            region=said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION") or "us-east-1",
            key_id=said.get("AWS_ACCESS_KEY_ID", ""),
            secret=said.get("AWS_SECRET_ACCESS_KEY", ""),
            token=said.get("AWS_SESSION_TOKEN", ""),
            others=tuple((name.lower(), said[name]) for name in _PASSED_ON if said.get(name)),
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
