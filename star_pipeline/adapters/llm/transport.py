"""One call through litellm's ``acompletion``: no retries, no cache, no limits; a reply, or a failure told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from star_pipeline.adapters.llm.answers import Answer, answer_of
from star_pipeline.adapters.llm.failures import Failure, classify
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.secrets import NO_KEY, key_masker, key_of, masker, require_keys
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.ports import ChatRequest

if TYPE_CHECKING:
    from litellm.types.utils import ModelResponse


class Transport:
    """The agents' servers. Raises ConfigError where a key is not set."""

    def __init__(self, agents: Mapping[str, AgentConfig]) -> None:
        require_keys(agents)
        self._agents = agents
        self._acompletion = load_litellm().acompletion
        self._mask, self._mask_key = masker(agents), key_masker(agents)
        self._fixed = {name: _fixed_arguments(agent) for name, agent in agents.items()}

    async def send(self, request: ChatRequest, form: RequestForm = RequestForm()) -> Answer:
        """Raises Failure."""
        agent = self._agents[request.agent]
        given = {**self._fixed[request.agent], **form.params(request, agent), "messages": form.messages(request)}
        began = time.monotonic()
        try:
            async with asyncio.timeout(agent.timeout_s):
                response = await self._acompletion(**given)
        except Exception as error:
            # without its cause: Dagster stores causes, and litellm's may quote the key
            raise classify(error, agent, self._mask) from None
        try:
            return answer_of(_plain(response), request, agent, self._mask_key, time.monotonic() - began)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise Failure("malformed_reply", f"{agent.model}: the reply cannot be read: {error}", True) from None


def _plain(response: ModelResponse) -> JsonObject:
    """litellm's object as the server's JSON had it. Its ``stop`` stands for finish reasons that it does not know, and for
    ``error``; it keeps the server's own word beside."""
    said: JsonObject = response.model_dump()
    for choice in said.get("choices") or []:
        native = (choice.get("provider_specific_fields") or {}).get("native_finish_reason")
        if choice.get("finish_reason") in (None, "stop") and native is not None:
            choice["finish_reason"] = native
    return said


def _fixed_arguments(agent: AgentConfig) -> JsonObject:
    given: JsonObject = {
        "model": agent.model,
        "timeout": agent.timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "drop_params": True,
    }
    if agent.api_base:
        given["api_base"] = agent.api_base
    key = key_of(agent)
    if agent.api_key_env or key == NO_KEY:
        given["api_key"] = key
    return given
