"""What went wrong with one try: may it pass, did it reach the provider, can it have been billed?"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from json import JSONDecodeError
from typing import TYPE_CHECKING

from star_pipeline.adapters.backoff import retry_after_s, retry_after_said
from star_pipeline.config.models import AgentConfig

if TYPE_CHECKING:
    import httpx

PERMANENT = {
    "AuthenticationError": "authentication",
    "PermissionDeniedError": "permission",
    "NotFoundError": "not_found",
    "ContextWindowExceededError": "context_too_long",
    "ContentPolicyViolationError": "content_filter",
    "UnsupportedParamsError": "bad_request",
    "BadRequestError": "bad_request",
    "UnprocessableEntityError": "bad_request",
    "BudgetExceededError": "quota",
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
_BY_STATUS = {
    400: ("bad_request", False),
    401: ("authentication", False),
    403: ("permission", False),
    404: ("not_found", False),
    408: ("timeout", True),
    422: ("bad_request", False),
    429: ("rate_limit", True),
    503: ("unavailable", True),
    504: ("timeout", True),
}
"""What litellm makes of a status; of the others, a server's error."""
_NEVER = frozenset({405, 410, 413, 414, 415, 431, 451, 501, 505})
"""What is refused with one of these will be refused again."""
_NEVER_REACHED = ("ClientConnectorError", "ConnectTimeout", "PoolTimeout")
_BROKEN = ("unable to get json response", "invalid response object", "empty or invalid response")
_GOOGLES = "exceeded your current quota"
"""Google says so of a minute's quota as well, and when it is renewed."""
_NO_MONEY = (
    "insufficient_quota",
    _GOOGLES,
    "credit balance",
    "insufficient balance",
    "insufficient_balance",
    "arrearage",
    "insufficient account balance",
    "insufficient credit",
    "insufficient funds",
    "out of credits",
    "more credits",
    "not enough credits",
    "payment required",
    "余额不足",
    "欠费",
)
_MONEY_OR_TIME = (*_NO_MONEY, "billing", "per day", "per-day", "daily limit", "daily quota", "(rpd)", "(tpd)")
"""What a 429 says that waiting a minute does not help with."""
LOADING = "loading"
"""The kind of a failure that ends once the server has its model in memory: waited for, and no try of its request."""
_LOADS = re.compile(
    r"(still |currently |is |be )loading\b|\bloading (the )?model|model (is )?(not (yet )?|still being )(loaded|ready)|warming up"
)
"""How llama.cpp ("Loading model"), TGI ("is currently loading") and their like say so, with a status of 500 or more."""
_CANNOT_LOAD = re.compile(
    r"requires more (system |gpu |video )?memory|(unable|failed|error) (to )?load(ing)? (the )?model|model failed to load"
)
"""A server that will never have the model in memory; Ollama says so with status 500."""
_NO_KEY = re.compile(r"missing credentials|missing .{0,40}api.?key|api.?key .{0,40}(must be set|not set|is required)")
_FILTERED = ("content_filter", "content management policy", "content policy")
TOO_LONG = re.compile(
    r"context (length|window|size)|max_model_len|maximum model length|too long|exceeds? .*(context|length)",
    re.IGNORECASE,
)
"""How a server of one's own (vLLM, SGLang, llama.cpp) refuses a long prompt; litellm knows the words of the big APIs."""
_BILLED_KINDS = {"content_filter", "context_too_long"}
"""Refusals that some providers bill: Azure does, since the prompt was processed."""
_BILLED_STATUSES = {408, 504}
"""Somebody gave up waiting; whoever worked on the request may have finished it."""
_LONGEST_MESSAGE, _LONGEST_SAID = 300, 4000


NEEDS_LOGPROBS = (
    "judge.mode: logprobs needs a server that tells logprobs and top_logprobs in chat completions (OpenAI, vLLM and llama.cpp do), "
    "else set judge.mode: written or json"
)


def remedy(kind: str, agent: AgentConfig | None = None) -> str:
    """What to do about an agent that fails for good in this way."""
    if kind == "quota":
        return "top its account up or wait until its quota is renewed, or let another agent do its work"
    if kind == "authentication" and agent and agent.api_key_env:
        return f"put a valid key into {agent.api_key_env}"
    if kind == "authentication" and agent and agent.api_base:
        return (
            "its server wants a key, and no api_key_env is set: name there the environment variable that holds the key"
        )
    if kind == "timeout":
        return (
            "where its server lets requests wait in a queue of its own, lower max_concurrency to what it works on at once, or raise "
            "timeout_s"
        )
    if kind == LOADING:
        return "wait until its server has loaded the model"
    if kind == "cannot_load":
        return "serve a smaller model, or one that its machine can hold"
    if kind == "no_logprobs":
        return NEEDS_LOGPROBS
    return "mend its model, api_base, key or server"


class Failure(Exception):
    """One try failed.

    ``passing``: another try may succeed. ``retry_after``: the server's wish in seconds. ``maybe_billed``: False only where
    the request certainly cost nothing: it never reached the server, or was refused. ``said``: the server's words, at length.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        passing: bool,
        retry_after: float | None = None,
        maybe_billed: bool = True,
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.kind, self.passing, self.retry_after, self.maybe_billed = kind, passing, retry_after, maybe_billed
        self.said = said


def classify(error: Exception, agent: AgentConfig, mask: Callable[[str], str]) -> Failure:
    """The failure behind what litellm raised. litellm gives resets and broken JSON the status 500: the causes tell more."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, Failure):  # ours: raised before litellm read the reply
            return Failure(
                cause.kind, f"{agent.model}: {mask(str(cause))}", cause.passing, maybe_billed=cause.maybe_billed
            )
    names = {family.__name__ for cause in causes for family in type(cause).__mro__}
    response = _response(causes)
    message = f"{agent.model}: {_short(mask(str(error)))}"
    if response is not None:
        return _refused(error, message, response, mask)
    if _NO_KEY.search(
        str(error)[:_LONGEST_SAID].lower()
    ):  # litellm, or the provider's own client, before anything was sent
        return Failure("authentication", message, False, maybe_billed=False)
    if any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in causes):
        address = agent.api_base or "its address"
        return Failure("connection", f"{agent.model}: nobody answers at {address}", True, maybe_billed=False)
    if "TimeoutException" in names or isinstance(error, TimeoutError) or type(error).__name__ == "Timeout":
        reached = not names.intersection(_NEVER_REACHED)
        return Failure("timeout", f"{agent.model}: no reply within {agent.timeout_s:g} s", True, maybe_billed=reached)
    if any(isinstance(cause, JSONDecodeError) for cause in causes) or any(
        phrase in str(error).lower() for phrase in _BROKEN
    ):
        return Failure("malformed_reply", message, True)
    if "TransportError" in names:
        reached = not names.intersection(_NEVER_REACHED)
        return Failure("connection", f"{agent.model}: {_short(mask(str(causes[-1])))}", True, maybe_billed=reached)
    kind, passing = _by_name(error)
    return Failure(kind, message if kind != "unexpected" else f"{message} ({type(error).__name__})", passing)


def _refused(error: Exception, message: str, response: "httpx.Response", mask: Callable[[str], str]) -> Failure:
    """The server answered litellm with an error status."""
    said = mask(f"{error} {_body(response)}"[:_LONGEST_SAID])
    return _of_answer(*_by_name(error), message, response.status_code, response.headers, said)


def of_status(
    status: int, headers: Mapping[str, str], body: str, agent: AgentConfig, mask: Callable[[str], str]
) -> Failure:
    """The failure behind an HTTP answer that is no completion; its kind is the one that litellm's error has."""
    said = mask(body[:_LONGEST_SAID])
    kind, passing = _BY_STATUS.get(status, ("server_error", True))
    message = f"{agent.model}: HTTP {status}: {_short(_message(said))}"
    return _of_answer(kind, passing, message, status, headers, said)


def _message(said: str) -> str:
    """What an error of OpenAI's form says, or all of it."""
    try:
        error = json.loads(said).get("error")
        return str(error["message"] if isinstance(error, dict) else error or said)
    except (ValueError, AttributeError, KeyError, RecursionError):
        return said


def _of_answer(kind: str, passing: bool, message: str, status: int, headers: Mapping[str, str], said: str) -> Failure:
    """What the server's words and headers tell beyond its status."""
    low = said.lower()
    if 300 <= status < 400:
        kind, passing = "redirected", False
        message = f"{message} (sent on to another address; write the one that answers itself in api_base)"
    elif status == 402 or any(phrase in low for phrase in (_MONEY_OR_TIME if status == 429 else _NO_MONEY)):
        kind, passing = "quota", False
    elif status in _NEVER:
        kind, passing = "bad_request", False
    elif status == 403:  # for which litellm has a class, and raises another
        kind, passing = "permission", False
    elif status >= 500 and _CANNOT_LOAD.search(low):
        kind, passing = "cannot_load", False
    elif status >= 500 and _LOADS.search(low):
        kind, passing = LOADING, True
    elif kind == "bad_request" and any(phrase in low for phrase in _FILTERED):
        kind, passing = "content_filter", False
    elif kind == "bad_request" and TOO_LONG.search(low):
        kind = "context_too_long"
    billed = kind in _BILLED_KINDS or status in _BILLED_STATUSES
    wish = retry_after_s(headers.get("retry-after"))
    if wish is None and status == 429:
        wish = retry_after_said(low)
    # a limit of the day that is renewed soon is waited for like any other
    if status == 429 and wish is not None and not any(phrase in low for phrase in _NO_MONEY if phrase != _GOOGLES):
        kind, passing = "rate_limit", True
    return Failure(kind, message, passing, wish, billed, said)


def _body(response: "httpx.Response") -> str:
    try:
        return str(response.text[:_LONGEST_SAID])
    except Exception:  # it was not read, or is not text
        return ""


def _by_name(error: Exception) -> tuple[str, bool]:
    # several of litellm's classes derive from openai's; the nearest known name in the family decides
    for family in type(error).__mro__:
        for table, passing in ((PERMANENT, False), (PASSING, True)):
            if family.__name__ in table:
                return table[family.__name__], passing
    return "unexpected", False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _response(causes: list[BaseException]) -> "httpx.Response | None":
    """The HTTP reply that really came: litellm makes up replies, which have no headers."""
    for cause in causes:
        response = getattr(cause, "response", None)
        if getattr(response, "headers", None):
            return response
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
