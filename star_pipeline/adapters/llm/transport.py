"""One call through litellm's ``acompletion``: no retries, no cache, no limits; a reply, or a failure told apart."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from star_pipeline.adapters.llm.failures import Failure, classify
from star_pipeline.adapters.llm.secrets import masker, require_keys
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import ChatRequest

# where litellm's HTTP client sends a request once more, unasked, after some failures of the connection: paid twice perhaps, and counted
# once. The first is its name today, the second that of earlier versions.
_SENDS_AGAIN = ("single_connection_request", "single_connection_post_request")


def load_litellm() -> Any:
    """litellm, set up not to touch the network at import and not to write to the terminal; the offline provider is known.

    Raises ConfigError where this litellm might send a request twice.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    from star_pipeline.adapters.offline.provider import register

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    found = [name for name in _SENDS_AGAIN if hasattr(AsyncHTTPHandler, name)]
    if not found:
        raise ConfigError(
            f"litellm {version('litellm')} has no AsyncHTTPHandler.{' nor '.join(_SENDS_AGAIN)}, one of which is replaced so that no "
            "request is sent twice unasked and paid twice; install a litellm that has it (1.110.2 does), or a newer star-pipeline"
        )
    for name in found:
        setattr(AsyncHTTPHandler, name, _not_again)
    register()
    return litellm


async def _not_again(*_: Any, **__: Any) -> Any:
    raise  # litellm calls this while it handles the failure, which is raised here once more


@dataclass(frozen=True)
class Answer:
    """What a server said; the tokens are None where it did not count them."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_s: float


class Transport:
    """The agents' servers. Raises ConfigError where a key is not set."""

    def __init__(self, litellm: Any, agents: Mapping[str, AgentConfig]) -> None:
        require_keys(litellm, agents)
        self._agents = agents
        self._acompletion = litellm.acompletion
        self._mask = masker(agents)
        self._fixed = {name: _fixed_arguments(agent) for name, agent in agents.items()}

    async def send(self, request: ChatRequest) -> Answer:
        """Raises Failure."""
        agent = self._agents[request.agent]
        given = {**self._fixed[request.agent], **request.params}
        given["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.sample:
            given["seed"] = request.sample
        began = time.monotonic()
        try:
            async with asyncio.timeout(agent.timeout_s):
                response = await self._acompletion(**given)
        except Exception as error:
            # without its cause: Dagster stores causes, and litellm's may quote the key
            raise classify(error, agent, self._mask) from None
        try:
            return self._read(response, agent, time.monotonic() - began)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise Failure("malformed_reply", f"{agent.model}: the reply cannot be read: {error}", True) from None

    def _read(self, response: Any, agent: AgentConfig, latency_s: float) -> Answer:
        choices = getattr(response, "choices", None) or []
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            raise Failure("malformed_reply", f"{agent.model}: the reply holds no choices", True)
        usage = getattr(response, "usage", None)
        prompt_tokens = int(getattr(usage, "prompt_tokens", 0) or 0)
        completion_tokens = int(getattr(usage, "completion_tokens", 0) or 0)
        counted = bool(prompt_tokens or completion_tokens)
        return Answer(
            self._mask(message.content or ""),
            choices[0].finish_reason or "stop",
            prompt_tokens if counted else None,
            completion_tokens if counted else None,
            latency_s,
        )


def _fixed_arguments(agent: AgentConfig) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": agent.model,
        "timeout": agent.timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "drop_params": True,
        **agent.params,
    }
    if agent.api_base:
        given["api_base"] = agent.api_base
    if agent.api_key_env:
        given["api_key"] = os.environ[agent.api_key_env]
    return given
