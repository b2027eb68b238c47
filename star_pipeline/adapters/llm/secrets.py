"""Keys come from the environment only; here they are looked up, and kept out of every text that is stored or shown."""

import os
import re
from collections.abc import Callable, Mapping

from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.equations.replies import MASKED
from star_pipeline.core.errors import ConfigError

_NAME = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_SHORTEST, _LONG = 8, 16
NO_KEY = "none"
_OPENAIS_CLIENT = ("openai", "text-completion-openai", "custom_openai", "litellm_proxy")
_USUAL = {
    "gemini": ("GOOGLE_API_KEY",),
    "bedrock": ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
    "sagemaker": ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "azure": ("AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET"),
    "huggingface": ("HF_TOKEN",),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
}
"""Where a provider's key may be too, beside PROVIDER_API_KEY."""
_PLACEHOLDER = re.compile(
    r"sk|no|not|none|null|nil|keys?|api|apikey|llm|required|needed|necessary|empty|dummy|your|here|placeholder|token|fake|local|localhost"
    r"|test|testing|example|unused|ignored?|anything|any|na|n|a|lm|studio|ollama|vllm|server|secret|my|change|me|changeme|the|in|goes"
    r"|insert|replace|with|this|abc|openai|[x0]*|\d{1,4}"
)
"""The words that people write where a key is asked for and none is needed."""


def missing_keys(agent: AgentConfig) -> str:
    """The environment variables that the agent's key should come from and that are not set; empty where all is well."""
    if agent.api_key_env:
        return "" if os.environ.get(agent.api_key_env) else agent.api_key_env
    if agent.api_base or agent.model.startswith("offline/"):
        return ""
    needed = load_litellm().validate_environment(agent.model)
    return "" if needed["keys_in_environment"] else ", ".join(needed["missing_keys"])


def require_keys(agents: Mapping[str, AgentConfig]) -> None:
    """Raises ConfigError, naming agent and variable, for the first key that is not set."""
    for name, agent in agents.items():
        missing = missing_keys(agent)
        if missing:
            raise ConfigError(
                f"agent {name} ({agent.model}): {missing} is not set in the environment; export it with the key"
            )


def usual_key(agent: AgentConfig) -> str:
    """The provider's own key, for a server of OpenAI's kind where the agent names no variable; empty where there is none."""
    provider = agent.model.partition("/")[0]
    names = [f"{provider.upper()}_API_KEY", *(["OPENAI_API_KEY"] if provider in _OPENAIS_CLIENT else [])]
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def key_of(agent: AgentConfig) -> str:
    """The key that the agent's server is sent; NO_KEY where a server of one's own has none, and OpenAI's client wants one;
    empty where the provider's own client looks for it."""
    if agent.api_key_env:
        return os.environ.get(agent.api_key_env, "")
    if not agent.api_base or agent.model.startswith("offline/"):
        return ""
    if agent.goes_directly:
        return usual_key(agent)
    litellm = load_litellm()
    try:
        _, provider, found, _ = litellm.get_llm_provider(agent.model, api_base=agent.api_base)
    except Exception:  # litellm says so when it is asked
        return ""
    usual = [f"{provider.upper()}_API_KEY", *litellm.validate_environment(agent.model)["missing_keys"]]
    if provider in _OPENAIS_CLIENT:
        usual.append("OPENAI_API_KEY")
    elif provider not in litellm.openai_compatible_providers:
        return ""
    known = next((os.environ[name] for name in usual if os.environ.get(name)), "")
    return known or found or NO_KEY


def masker(agents: Mapping[str, AgentConfig]) -> Callable[[str], str]:
    """A function that puts ``[key]`` in the place of every secret in an error: the agents' keys, and what the environment names like one.

    Servers quote keys in their errors. Errors are no data, so that a word too many may go; for replies there is ``key_masker``.
    """
    alike = {value for name, value in os.environ.items() if _NAME.search(name) and len(value) >= _SHORTEST}
    own = {key for key in _keys(agents) if len(key) >= _SHORTEST or not _is_placeholder(key)}
    return _replacing(own | alike, "[key]")


def key_masker(agents: Mapping[str, AgentConfig]) -> Callable[[str], str]:
    """A function that puts ``replies.MASKED`` in the place of a key of the agents', and alters nothing else of a reply.

    A key is what a variable holds that an agent's settings, or its provider, name; a short one or a placeholder (``none``, ``EMPTY``,
    ``sk-no-key-required``) opens nothing, and is a word like others.
    """
    return _replacing({key for key in _keys(agents) if len(key) >= _LONG and not _is_placeholder(key)}, MASKED)


def _keys(agents: Mapping[str, AgentConfig]) -> set[str]:
    """What the variables hold that the agents' keys come from."""
    names: set[str] = set()
    for agent in agents.values():
        provider = agent.model.partition("/")[0] if "/" in agent.model else "openai"
        names.update(
            (agent.api_key_env,) if agent.api_key_env else (f"{provider.upper()}_API_KEY", *_USUAL.get(provider, ()))
        )
    return {os.environ.get(name, "") for name in names} - {""}


def _is_placeholder(key: str) -> bool:
    """Whether a key is none, such as ``none``, ``EMPTY`` and ``sk-no-key-required``."""
    return all(_PLACEHOLDER.fullmatch(word) for word in re.split(r"[^a-z0-9]+", key.lower()))


def _replacing(secrets: set[str], stand_in: str) -> Callable[[str], str]:
    hidden = sorted(secrets, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in hidden:
            if secret in text:
                text = text.replace(secret, stand_in)
        return text

    return mask
