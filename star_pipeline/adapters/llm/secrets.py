"""Keys come from the environment only; here they are looked up, and kept out of every text that is stored or shown."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import ConfigError

_NAME = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_SHORTEST = 8


def missing_keys(litellm: Any, agent: AgentConfig) -> str:
    """The environment variables that the agent's key should come from and that are not set; empty where all is well."""
    if agent.api_key_env:
        return "" if os.environ.get(agent.api_key_env) else agent.api_key_env
    if agent.api_base or agent.model.startswith("offline/"):
        return ""
    needed = litellm.validate_environment(agent.model)
    return "" if needed["keys_in_environment"] else ", ".join(needed["missing_keys"])


def require_keys(litellm: Any, agents: Mapping[str, AgentConfig]) -> None:
    """Raises ConfigError, naming agent and variable, for the first key that is not set."""
    for name, agent in agents.items():
        missing = missing_keys(litellm, agent)
        if missing:
            raise ConfigError(
                f"agent {name} ({agent.model}): {missing} is not set in the environment; export it with the key"
            )


def masker(agents: Mapping[str, AgentConfig]) -> Callable[[str], str]:
    """A function that puts ``[key]`` in the place of every secret: the agents' keys, and what the environment names like one.

    Servers quote keys in their errors, and some models in their replies.
    """
    named = {os.environ.get(agent.api_key_env or "", "") for agent in agents.values()}
    alike = {value for name, value in os.environ.items() if _NAME.search(name) and len(value) >= _SHORTEST}
    hidden = sorted((named | alike) - {""}, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in hidden:
            if secret in text:
                text = text.replace(secret, "[key]")
        return text

    return mask
