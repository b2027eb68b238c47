"""What every section of the configuration has in common."""

import re

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def variable_name(name: str | None) -> str | None:
    """The name as it is; ValueError where no environment variable can have it."""
    # what was given is not shown: it may be the key itself
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            "this is no name of an environment variable; put the key into the environment, and its name here"
        )
    return name
