"""What went wrong with one try: may it pass, did it reach the provider, can it have been billed?"""

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from json import JSONDecodeError

from star_pipeline.adapters.backoff import retry_after_s
from star_pipeline.config.models import AgentConfig

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
_NEVER_REACHED = ("ClientConnectorError", "ConnectTimeout", "PoolTimeout")
_BROKEN = ("unable to get json response", "invalid response object", "empty or invalid response")
_NO_MONEY = ("insufficient_quota", "exceeded your current quota", "credit balance", "billing")
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
_LONGEST_MESSAGE = 300


class Failure(Exception):
    """One try failed.

    ``passing``: another try may succeed. ``retry_after``: the server's wish in seconds. ``maybe_billed``: False only where
    the request certainly cost nothing: it never reached the server, or was refused.
    """

    def __init__(
        self, kind: str, message: str, passing: bool, retry_after: float | None = None, maybe_billed: bool = True
    ) -> None:
        super().__init__(message)
        self.kind, self.passing, self.retry_after, self.maybe_billed = kind, passing, retry_after, maybe_billed


def classify(error: Exception, agent: AgentConfig, mask: Callable[[str], str]) -> Failure:
    """The failure behind what litellm raised. litellm gives resets and broken JSON the status 500: the causes tell more."""
    causes = list(_causes(error))
    names = {family.__name__ for cause in causes for family in type(cause).__mro__}
    headers = _headers(causes)
    message = f"{agent.model}: {_short(mask(str(error)))}"
    if headers is not None:
        return _refused(error, message, headers)
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


def _refused(error: Exception, message: str, headers: Mapping[str, str]) -> Failure:
    """The server answered with an error status."""
    kind, passing = _by_name(error)
    status, said = getattr(error, "status_code", None), message.lower()
    if status == 403:  # for which litellm has a class, and raises another
        kind, passing = "permission", False
    elif kind == "rate_limit" and any(phrase in said for phrase in _NO_MONEY):
        kind, passing = "quota", False
    elif kind == "bad_request" and any(phrase in said for phrase in _FILTERED):
        kind, passing = "content_filter", False
    elif kind == "bad_request" and TOO_LONG.search(said):
        kind = "context_too_long"
    billed = kind in _BILLED_KINDS or status in _BILLED_STATUSES
    return Failure(kind, message, passing, retry_after_s(headers.get("retry-after")), billed)


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


def _headers(causes: list[BaseException]) -> Mapping[str, str] | None:
    """The headers of an HTTP reply that really came: litellm makes up replies, which have none."""
    for cause in causes:
        headers = getattr(getattr(cause, "response", None), "headers", None)
        if headers:
            return headers  # type: ignore[no-any-return]
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
