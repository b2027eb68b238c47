"""What is taken of a server's reply, by whichever way it came."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.adapters.llm.wire import reason, tokens
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.equations.replies import is_broken_off
from star_pipeline.core.ports import ChatRequest


@dataclass(frozen=True)
class Answer:
    """What a server said; the tokens are None where it did not count them."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    top_logprobs: tuple[tuple[str, float], ...] = ()


def answer_of(
    said: JsonMapping, request: ChatRequest, agent: AgentConfig, mask_key: Callable[[str], str], latency_s: float
) -> Answer:
    """The answer in a chat completion that ``wire.tidy`` has looked at. Raises Failure."""
    choice = said["choices"][0]
    message = choice["message"]
    finish_reason = reason(choice.get("finish_reason"))
    if not message.get("content") and message.get("refusal"):
        finish_reason = "refusal"
    if is_broken_off(finish_reason):
        # what came may have been billed; the next try may come to its end
        told = f"the server broke the reply off (finish reason {finish_reason!r})"
        raise Failure("broken_off", f"{agent.model}: {told}", True)
    usage = said.get("usage") or {}
    counts = [tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    counted = None not in counts and any(counts)
    answer = Answer(
        mask_key(_text(message)),
        finish_reason,
        counts[0] if counted else None,
        counts[1] if counted else None,
        latency_s,
        _top_logprobs(choice.get("logprobs")),
    )
    if request.params.get("logprobs") and not answer.top_logprobs:
        # kept, such a reply would be found again once the server has learnt to tell them
        raise Failure("no_logprobs", f"{agent.model}: the reply tells no log-probabilities of its tokens", False)
    return answer


def _text(message: JsonMapping) -> str:
    """What the message says; where it holds reasoning alone, that, marked as such: the core tells it from an answer."""
    content = message.get("content") or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if content.strip() or not isinstance(thought, str) or not thought.strip():
        return str(content)
    return f"<think>{re.sub('</(?=think)', '< /', thought, flags=re.IGNORECASE)}</think>"


def _top_logprobs(said: object) -> tuple[tuple[str, float], ...]:
    """(token, log-probability) of the likeliest first tokens, the likeliest first; the one that came where no others are told."""
    content = said.get("content") if isinstance(said, Mapping) else None
    if not content:
        return ()
    told = content[0].get("top_logprobs") or [content[0]]
    return tuple(sorted(((str(one["token"]), float(one["logprob"])) for one in told), key=lambda pair: -pair[1]))
