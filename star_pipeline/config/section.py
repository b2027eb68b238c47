"""What every section of the configuration has in common, and how secrets are kept out of it."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

_SECRET = re.compile(r"api.?key|authorization|secret|password|bearer|(^|_)token$", re.IGNORECASE)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def without_secrets(params: dict[str, Any], where: str = "") -> dict[str, Any]:
    """The parameters as they are; ValueError, naming the place, where one is named like a secret."""
    for name, value in params.items():
        if _SECRET.search(name):
            raise ValueError(f"{where}{name}: secrets come from the environment only; name the variable in api_key_env")
        if isinstance(value, dict):
            without_secrets(value, f"{where}{name}.")
    return params


def variable_name(name: str | None) -> str | None:
    """The name as it is; ValueError where no environment variable can have it."""
    # what was given is not shown: it may be the key itself
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            "this is no name of an environment variable; put the key into the environment, and its name here"
        )
    return name
