"""LLM calls through litellm's ``acompletion``: concurrency and rate limits per agent, retries, and every failure told apart.

This is the seam for the journal and the budget: whatever wraps ``ChatModel.complete`` sees every request and every reply.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiolimiter
import tenacity

from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import AgentDown, CallError, ConfigError
from star_pipeline.core.ports import ChatReply, ChatRequest

PERMANENT = {
    "AuthenticationError": "authentication",
    "PermissionDeniedError": "permission",
    "NotFoundError": "not_found",
    "ContextWindowExceededError": "context_too_long",
    "ContentPolicyViolationError": "content_filter",
    "UnsupportedParamsError": "bad_request",
    "BadRequestError": "bad_request",
    "UnprocessableEntityError": "bad_request",
    "BudgetExceededError": "budget",
}
PASSING = {
    "Timeout": "timeout",
    "TimeoutError": "timeout",
    "RateLimitError": "rate_limit",
    "APIConnectionError": "connection",
    "ServiceUnavailableError": "unavailable",
    "InternalServerError": "server_error",
    "BadGatewayError": "server_error",
    "APIResponseValidationError": "malformed_reply",
    "JSONSchemaValidationError": "malformed_reply",
    "APIError": "server_error",
}
_LONGEST_WAIT_S = 60.0
_DEAD_AFTER = {"authentication": 1, "permission": 1, "connection": 2, "not_found": 3}
"""How many calls may fail for good in this way before an agent that has never answered counts as dead."""


class _Failure(Exception):
    """One try failed. ``retry_after`` is the server's wish in seconds."""

    def __init__(self, kind: str, message: str, passing: bool, retry_after: float | None) -> None:
        super().__init__(message)
        self.kind, self.passing, self.retry_after = kind, passing, retry_after


def load_litellm() -> Any:
    """litellm, set up not to touch the network at import and not to write to the terminal; the offline provider is known."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm

    from star_pipeline.adapters.offline.provider import register

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    register()
    return litellm


class LitellmChat:
    """All agents of a configuration. An instance lives within one event loop."""

    def __init__(
        self, agents: Mapping[str, AgentConfig], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._agents = agents
        self._sleep = sleep
        self._litellm = load_litellm()
        require_keys(self._litellm, agents)
        self._answered: set[str] = set()
        self._refusals: dict[str, int] = {}
        self._slots = {name: asyncio.Semaphore(agent.max_concurrency) for name, agent in agents.items()}
        self._rates = {
            name: aiolimiter.AsyncLimiter(1, 60 / agent.requests_per_minute)
            for name, agent in agents.items()
            if agent.requests_per_minute
        }

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Send, again if the failure may pass, at most ``max_tries`` times. Raises CallError once it has failed for good."""
        agent = self._agents[request.agent]
        tries = 0
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(agent.max_tries),
            wait=_wait,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, _Failure) and error.passing),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    tries += 1
                    reply = await self._once(request, agent, tries)
        except _Failure as failure:
            self._give_up_on_the_dead(request.agent, failure)
            raise CallError(failure.kind, str(failure), tries) from failure
        self._answered.add(request.agent)
        return reply

    def _give_up_on_the_dead(self, name: str, failure: "_Failure") -> None:
        """Stop early, rather than fail thousands of times, where an agent never answered and the reason will not pass."""
        if name in self._answered or failure.kind not in _DEAD_AFTER:
            return
        self._refusals[name] = self._refusals.get(name, 0) + 1
        if self._refusals[name] >= _DEAD_AFTER[failure.kind]:
            raise AgentDown(
                f"agent {name} has not answered once ({failure.kind}): {failure}; mend its model, api_base or key (see "
                "star-pipeline doctor), then run again: what is finished stays"
            ) from failure

    async def _once(self, request: ChatRequest, agent: AgentConfig, tries: int) -> ChatReply:
        async with self._slots[request.agent]:
            if request.agent in self._rates:
                await self._rates[request.agent].acquire()
            began = time.monotonic()
            try:
                async with asyncio.timeout(agent.timeout_s):
                    response = await self._litellm.acompletion(**arguments(request, agent))
            except Exception as error:
                raise _classify(error, agent) from error
        try:
            return _reply(self._litellm, response, agent, time.monotonic() - began, tries)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise _Failure(
                "malformed_reply", f"{agent.model}: the reply cannot be read: {error}", True, None
            ) from error


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


def arguments(request: ChatRequest, agent: AgentConfig) -> dict[str, Any]:
    """What is handed to ``litellm.acompletion``. A re-ask (``sample`` > 0) sends its number as ``seed``."""
    given: dict[str, Any] = {
        "model": agent.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "timeout": agent.timeout_s,
        "max_retries": 0,
        "num_retries": 0,
        "drop_params": True,
        **agent.params,
        **request.params,
    }
    if agent.api_base:
        given["api_base"] = agent.api_base
    if agent.api_key_env:
        given["api_key"] = os.environ[agent.api_key_env]
    if request.sample:
        given["seed"] = request.sample
    return given


def _classify(error: Exception, agent: AgentConfig) -> Exception:
    if any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in _causes(error)):
        return _Failure("connection", f"{agent.model}: nobody answers at {agent.api_base or 'its address'}", True, None)
    if getattr(error, "status_code", None) == 403:  # for which litellm has a class, and raises another
        return _Failure("permission", f"{agent.model}: {_message(error, agent)}", False, None)
    # several of litellm's classes derive from openai's; the nearest known name in the family decides
    for family in type(error).__mro__:
        for table, passing in ((PERMANENT, False), (PASSING, True)):
            if family.__name__ in table:
                kind = table[family.__name__]
                message = _message(error, agent) or f"no reply within {agent.timeout_s:g} s"
                return _Failure(kind, f"{agent.model}: {message}", passing, _retry_after(error))
    return _Failure("unexpected", f"{agent.model}: {type(error).__name__}: {_message(error, agent)}", False, None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _message(error: Exception, agent: AgentConfig) -> str:
    text = " ".join(str(error).split())
    key = os.environ.get(agent.api_key_env or "")
    if key:
        text = text.replace(key, "[key]")  # some providers quote it
    return text if len(text) <= 300 else f"{text[:300]}…"


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None


_JITTER = tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    """Full jitter, and never less than the server asks for."""
    failure = state.outcome.exception() if state.outcome else None
    asked = getattr(failure, "retry_after", None) or 0.0
    return max(_JITTER(state), min(asked, 600.0))


def _reply(litellm: Any, response: Any, agent: AgentConfig, latency_s: float, tries: int) -> ChatReply:
    choices = getattr(response, "choices", None) or []
    message = getattr(choices[0], "message", None) if choices else None
    if message is None:
        raise _Failure("malformed_reply", f"{agent.model}: the reply holds no choices", True, None)
    usage = getattr(response, "usage", None)
    prompt_tokens = int(getattr(usage, "prompt_tokens", 0) or 0)
    completion_tokens = int(getattr(usage, "completion_tokens", 0) or 0)
    return ChatReply(
        text=message.content or "",
        finish_reason=choices[0].finish_reason or "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=_cost(litellm, agent, prompt_tokens, completion_tokens),
        latency_s=latency_s,
        attempts=tries,
    )


def price(litellm: Any, agent: AgentConfig) -> tuple[float, float] | None:
    """USD per prompt and per completion token: the configuration's, else litellm's map; None where neither knows one."""
    if agent.input_cost_per_token is not None or agent.output_cost_per_token is not None:
        return agent.input_cost_per_token or 0.0, agent.output_cost_per_token or 0.0
    try:
        known = litellm.get_model_info(agent.model)
    except Exception:  # litellm raises a bare Exception for a model that its map lacks
        return None
    return known.get("input_cost_per_token") or 0.0, known.get("output_cost_per_token") or 0.0


def _cost(litellm: Any, agent: AgentConfig, prompt_tokens: int, completion_tokens: int) -> float:
    per_prompt, per_completion = price(litellm, agent) or (0.0, 0.0)
    return prompt_tokens * per_prompt + completion_tokens * per_completion
