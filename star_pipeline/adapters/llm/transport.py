"""One call through litellm's ``acompletion``: no retries, no cache, no limits; a reply, or a failure told apart."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from star_pipeline.adapters.llm.adapting import Form
from star_pipeline.adapters.llm.failures import Failure, classify
from star_pipeline.adapters.llm.secrets import key_masker, masker, require_keys
from star_pipeline.adapters.llm.wire import guard, reason, tokens
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.equations.replies import is_broken_off
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import ChatRequest

if TYPE_CHECKING:
    import httpx
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM
    from litellm.types.utils import Choices, Message, ModelResponse

# where litellm's HTTP client sends a request once more, unasked, after some failures of the connection: paid twice perhaps, and counted
# once. The first is its name today, the second that of earlier versions.
_SENDS_AGAIN = ("single_connection_request", "single_connection_post_request")

P = ParamSpec("P")
NO_KEY = "none"
_OPENAIS_CLIENT = ("openai", "text-completion-openai", "custom_openai", "litellm_proxy")


def load_litellm() -> ModuleType:
    """litellm, set up not to touch the network at import and not to write to the terminal; the offline provider is known.

    Raises ConfigError where this litellm might send a request twice.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

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
    _guard_clients(AsyncHTTPHandler, BaseOpenAILLM)
    register()
    loaded: ModuleType = litellm
    return loaded


def _guard_clients(handler: type[AsyncHTTPHandler], openais: type[BaseOpenAILLM]) -> None:
    """Let ``wire`` look at the replies of every HTTP client that litellm makes, before litellm does."""
    if hasattr(handler, "guarded"):
        return
    if not (hasattr(handler, "create_client") and hasattr(openais, "_get_async_http_client")):
        raise ConfigError(
            f"litellm {version('litellm')} makes its HTTP clients in another place, and their replies have to be looked at so that no "
            "redirect takes a key elsewhere; install a litellm that is known to do (1.106 is), or a newer star-pipeline"
        )
    handler.guarded = True
    handler.create_client = _guarded(handler.create_client)
    openais._get_async_http_client = staticmethod(_guarded(openais._get_async_http_client))


def _guarded(make: Callable[P, httpx.AsyncClient]) -> Callable[P, httpx.AsyncClient]:
    def made(*given: P.args, **named: P.kwargs) -> httpx.AsyncClient:
        return guard(make(*given, **named))

    return made


async def _not_again(*_: object, **__: object) -> NoReturn:
    raise  # litellm calls this while it handles the failure, which is raised here once more


@dataclass(frozen=True)
class Answer:
    """What a server said; the tokens are None where it did not count them."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    top_logprobs: tuple[tuple[str, float], ...] = ()


class Transport:
    """The agents' servers. Raises ConfigError where a key is not set."""

    def __init__(self, litellm: ModuleType, agents: Mapping[str, AgentConfig]) -> None:
        require_keys(litellm, agents)
        self._agents = agents
        self._acompletion = litellm.acompletion
        self._mask, self._mask_key = masker(agents), key_masker(agents)
        self._fixed = {name: _fixed_arguments(litellm, agent) for name, agent in agents.items()}

    async def send(self, request: ChatRequest, form: Form = Form()) -> Answer:
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
            answer = self._read(response, agent, time.monotonic() - began)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise Failure("malformed_reply", f"{agent.model}: the reply cannot be read: {error}", True) from None
        if request.params.get("logprobs") and not answer.top_logprobs:
            # kept, such a reply would be found again once the server has learnt to tell them
            raise Failure("no_logprobs", f"{agent.model}: the reply tells no log-probabilities of its tokens", False)
        return answer

    def _read(self, response: ModelResponse, agent: AgentConfig, latency_s: float) -> Answer:
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
        counts = [tokens(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens")]
        counted = None not in counts and any(counts)
        return Answer(
            self._mask_key(_text(message)),
            finish_reason,
            counts[0] if counted else None,
            counts[1] if counted else None,
            latency_s,
            _top_logprobs(choices[0]),
        )


def _text(message: Message) -> str:
    """What the message says; where it holds reasoning alone, that, marked as such: the core tells it from an answer."""
    content, thought = message.content or "", getattr(message, "reasoning_content", None)
    if content.strip() or not isinstance(thought, str) or not thought.strip():
        return str(content)
    return f"<think>{re.sub('</(?=think)', '< /', thought, flags=re.IGNORECASE)}</think>"


def _top_logprobs(choice: Choices) -> tuple[tuple[str, float], ...]:
    """(token, log-probability) of the likeliest first tokens, the likeliest first; the one that came where no others are told."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content:
        return ()
    told = content[0].top_logprobs or [content[0]]
    return tuple(sorted(((str(one.token), float(one.logprob)) for one in told), key=lambda pair: -pair[1]))


def _finish_reason(choice: Choices, message: Message) -> str:
    """The server's own word. litellm says ``stop`` for those that it does not know, and for ``error``; it keeps the word beside."""
    named = choice.finish_reason or "stop"
    if named == "stop":
        native = (getattr(choice, "provider_specific_fields", None) or {}).get("native_finish_reason")
        named = "stop" if native is None else str(native)
    if not message.content and getattr(message, "refusal", None):
        return "refusal"
    return reason(named)


def _fixed_arguments(litellm: ModuleType, agent: AgentConfig) -> JsonObject:
    given: JsonObject = {
        "model": agent.model,
        "timeout": agent.timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "drop_params": True,
    }
    if agent.api_base:
        given["api_base"] = agent.api_base
    key = key_of(litellm, agent)
    if agent.api_key_env or key == NO_KEY:
        given["api_key"] = key
    return given


def key_of(litellm: ModuleType, agent: AgentConfig) -> str:
    """The key that the agent's server is sent; NO_KEY where a server of one's own has none, and OpenAI's client wants one;
    empty where the provider's own client looks for it."""
    if agent.api_key_env:
        return os.environ.get(agent.api_key_env, "")
    if not agent.api_base or agent.model.startswith("offline/"):
        return ""
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
