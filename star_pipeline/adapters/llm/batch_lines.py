"""The lines of a batch's files: requests as they go out, replies and failures as they come back."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from star_pipeline.adapters.llm.answers import Answer, answer_of
from star_pipeline.adapters.llm.direct import body_of
from star_pipeline.adapters.llm.failures import Failure, of_status
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.wire import completion_of, error_code, objects_in
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.ports import ChatRequest

MOST_REQUESTS, MOST_BYTES = 50_000, 190 * 10**6
"""Of one file: OpenAI takes 50,000 requests and 200 MB, Azure more requests."""
CROWDED = "crowded"
"""The kind of a whole batch's failure: the provider has too many of our tokens waiting; nothing is wrong with the requests."""
_CROWDED = re.compile(
    r"token_limit_exceeded|enqueued token|queue.{0,40}(limit|full|quota)|limit.{0,40}enqueued|batch.{0,20}quota"
)
_UNDONE = {"expired": "batch_expired", "cancelled": "batch_cancelled", "failed": "batch_failed"}
"""What a batch that ended so did not answer was not worked on."""


def endpoint(agent: AgentConfig) -> str:
    return "/chat/completions" if agent.model.startswith("azure/") else "/v1/chat/completions"


def line(key: bytes, request: ChatRequest, form: RequestForm, agent: AgentConfig) -> bytes:
    """The request as a live one would go out, under its key."""
    body = body_of(request, form, agent) if agent.goes_directly else _as_litellm_sends_it(request, form, agent)
    whole = {"custom_id": key.hex(), "method": "POST", "url": endpoint(agent), "body": body}
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _as_litellm_sends_it(request: ChatRequest, form: RequestForm, agent: AgentConfig) -> JsonObject:
    litellm = load_litellm()
    name, provider, _, _ = litellm.get_llm_provider(agent.model, api_base=agent.api_base)
    params = {
        key: value for key, value in form.params(request, agent).items() if key not in ("extra_headers", "api_version")
    }
    optional = litellm.utils.get_optional_params(
        model=name, custom_llm_provider=provider, messages=form.messages(request), drop_params=True, **params
    )
    beside = optional.pop("extra_body", None) or {}
    way = litellm.utils.ProviderConfigManager.get_provider_chat_config(name, litellm.LlmProviders(provider))
    given = {"custom_llm_provider": provider, "drop_params": True}
    body: JsonObject = way.transform_request(name, form.messages(request), optional, given, {})
    if not body.get("stream"):
        body.pop("stream", None)
    return {**body, **beside}


class Outcomes:
    """What became of a batch's requests, by key, told of the files that came back and of how the batch ended."""

    def __init__(self, agent: AgentConfig, mask: Callable[[str], str], mask_key: Callable[[str], str]) -> None:
        self._agent, self._mask, self._mask_key = agent, mask, mask_key
        self._lines: dict[str, JsonObject] = {}
        self._status, self._whole = "", Failure("batch_lost", "", True)

    def read(self, files: Iterable[bytes]) -> None:
        """A reply counts more than an error, should a request have both."""
        for content in files:
            for said in objects_in(content):
                name = said.get("custom_id")
                if isinstance(name, str) and (name not in self._lines or _status(said) == 200):
                    self._lines[name] = said

    def ended(self, status: str, errors: Sequence[JsonMapping], batch: str) -> None:
        """``errors`` are those of the whole batch, each with a code, a message and perhaps a line."""
        self._status = status
        told = "; ".join(self._mask(_error(error)) for error in errors[:3])
        who = f"{self._agent.model}: batch {batch}"
        if status == "failed" and _CROWDED.search(told.lower()):
            self._whole = Failure(CROWDED, f"{who} was refused: {told}", True, maybe_billed=False)
        elif status == "failed" and told:
            status_like = 404 if "model_not_found" in told else 429 if "billing" in told.lower() else 400
            refused = of_status(status_like, {}, told, self._agent, self._mask)
            self._whole = Failure(refused.kind, f"{who} was refused: {told[:300]}", refused.passing, None, False, told)
        elif status in _UNDONE:
            which = {"failed": "failed, and does not say why", "expired": "expired before it was answered"}
            self._whole = Failure(
                _UNDONE[status],
                f"{who} {which.get(status, 'was cancelled before it was answered')}",
                True,
                maybe_billed=False,
            )
        else:
            self._whole = Failure("batch_lost", f"{who} is {status}, and says nothing of this request", True)

    @property
    def crowded(self) -> bool:
        return self._whole.kind == CROWDED and not self._lines

    def of(self, key: bytes, request: ChatRequest, latency_s: float) -> Answer | Failure:
        said = self._lines.get(key.hex())
        if said is None:
            whole = self._whole
            return Failure(whole.kind, str(whole), whole.passing, whole.retry_after, whole.maybe_billed, whole.said)
        try:
            return self._answer(said, request, latency_s)
        except Failure as failure:
            return failure
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return Failure("malformed_reply", f"{self._agent.model}: the reply cannot be read: {error}", True)

    def _answer(self, said: JsonObject, request: ChatRequest, latency_s: float) -> Answer:
        status, response = _status(said), said.get("response")
        if status is None or not isinstance(response, Mapping):
            error = said.get("error")
            told = error if isinstance(error, Mapping) else {"message": str(error)}
            code = str(told.get("code") or "server_error")
            undone = code in _UNDONE.values()
            raise Failure(
                code if undone else "server_error",
                f"{self._agent.model}: {self._mask(_error(told))}",
                True,
                maybe_billed=not undone,
            )
        body = json.dumps(response.get("body")).encode()
        status = (error_code(body) or status) if status == 200 else status
        if status != 200:
            raise of_status(status, {}, body.decode(), self._agent, self._mask)
        return answer_of(completion_of(body), request, self._agent, self._mask_key, latency_s)


def _status(said: JsonMapping) -> int | None:
    response = said.get("response")
    status = response.get("status_code") if isinstance(response, Mapping) else None
    return status if isinstance(status, int) and status else None


def _error(said: JsonMapping) -> str:
    where = f" (line {said['line']})" if said.get("line") is not None else ""
    return ": ".join(str(said[name]) for name in ("code", "message") if said.get(name))[:300] + where
