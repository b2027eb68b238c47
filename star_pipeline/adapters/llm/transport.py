"""One call through litellm's ``acompletion``: no retries, no cache, no limits; a reply, or a failure told apart."""

import asyncio
import functools
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from star_pipeline.adapters.llm.failures import Failure, classify
from star_pipeline.adapters.llm.secrets import key_masker, masker, require_keys
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.replies import is_broken_off

_TEXT_PARTS, _REASONING_PARTS = (
    ("text", "output_text"),
    ("thinking", "reasoning", "reasoning_text", "redacted_thinking"),
)

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
    _take_parts(litellm.Message)
    register()
    return litellm


async def _not_again(*_: Any, **__: Any) -> Any:
    raise  # litellm calls this while it handles the failure, which is raised here once more


def _take_parts(message: Any) -> None:
    """Let litellm's class for a message take content that is a list of parts, as some servers send it, which it refuses."""
    plain = message.__init__
    if hasattr(plain, "takes_parts"):
        return

    @functools.wraps(plain)
    def taking(self: Any, content: Any = None, *rest: Any, **named: Any) -> None:
        if isinstance(content, list):
            content, thought = _joined(content)
            named["reasoning_content"] = named.get("reasoning_content") or thought or None
        plain(self, content, *rest, **named)

    taking.takes_parts = True  # type: ignore[attr-defined]
    message.__init__ = taking


def _joined(parts: list[Any]) -> tuple[str, str]:
    """(the text, the reasoning) of a message's parts; what is neither, such as a picture, is left out."""
    text: list[str] = []
    thought: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict) and part.get("type") in (*_REASONING_PARTS, *_TEXT_PARTS, None):
            kind = part.get("type")
            inner = part.get(str(kind)) if kind in _REASONING_PARTS else None
            inner = inner if isinstance(inner, str | list) else part.get("text", part.get("content"))
            said = "".join(_joined(inner)) if isinstance(inner, list) else inner if isinstance(inner, str) else ""
            (thought if kind in _REASONING_PARTS else text).append(said)
    return "".join(text), "".join(thought)


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
        self._mask, self._mask_key = masker(agents), key_masker(agents)
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
        finish_reason = _finish_reason(choices[0], message)
        if is_broken_off(finish_reason):
            # what came may have been billed; the next try may come to its end
            told = f"the server broke the reply off (finish reason {finish_reason!r})"
            raise Failure("broken_off", f"{agent.model}: {told}", True)
        usage = getattr(response, "usage", None)
        prompt_tokens = int(getattr(usage, "prompt_tokens", 0) or 0)
        completion_tokens = int(getattr(usage, "completion_tokens", 0) or 0)
        counted = bool(prompt_tokens or completion_tokens)
        return Answer(
            self._mask_key(_text(message)),
            finish_reason,
            prompt_tokens if counted else None,
            completion_tokens if counted else None,
            latency_s,
        )


def _text(message: Any) -> str:
    """What the message says; where it holds reasoning alone, that, marked as such: the core tells it from an answer."""
    content, thought = message.content or "", getattr(message, "reasoning_content", None)
    if content.strip() or not isinstance(thought, str) or not thought.strip():
        return str(content)
    return f"<think>{re.sub('</(?=think)', '< /', thought, flags=re.IGNORECASE)}</think>"


def _finish_reason(choice: Any, message: Any) -> str:
    """The server's own word. litellm says ``stop`` for those that it does not know, and for ``error``; it keeps the word beside."""
    named = choice.finish_reason or "stop"
    if named == "stop":
        native = (getattr(choice, "provider_specific_fields", None) or {}).get("native_finish_reason")
        named = "stop" if native is None else str(native)
    if not message.content and getattr(message, "refusal", None):
        return "refusal"
    return str(named)


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
