"""Whether a judge can be asked for log-probabilities, told before a run pays for anything else."""

import contextlib

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.llm.answers import Answer
from star_pipeline.adapters.llm.failures import NEEDS_LOGPROBS, Failure
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.adapters.llm.prices import price
from star_pipeline.adapters.llm.senders import Senders
from star_pipeline.config.models import AgentConfig, StarConfig
from star_pipeline.core.equations.judge_modes import letter_log_odds
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message

_QUESTION = "Which is the first letter of the alphabet, A or B? Reply with exactly one letter."


def logprobs_problem(config: StarConfig, name: str) -> str | None:
    """What is wrong with agent ``name`` as a judge by log-probabilities, with the remedy; None where nothing is, as far as is known.

    A server of one's own, which has no price, is asked for one token.
    """
    agent = config.agents[name]
    who = f"agent {name} ({agent.model})"
    # litellm leaves a parameter out that it does not know a provider to take
    if not {"logprobs", "top_logprobs"} <= set(_parameters(agent)):
        return f"{who}: its provider takes no logprobs; {NEEDS_LOGPROBS}"
    known = price(agent)
    if not agent.api_base or (known and (known.prompt or known.completion)):
        return None
    request = ChatRequest(name, (Message("user", _QUESTION),), "probe", "", config.judge_rules.request_params)
    try:
        answer = event_loop.run(_asked_once(name, agent, request))
    except Failure as failure:
        if failure.kind == "no_logprobs" or (failure.kind == "bad_request" and "logprobs" in failure.said):
            return f"{who}: {failure}; {NEEDS_LOGPROBS}"
        return None  # of what else may be wrong the run tells, or is none of it once it asks
    if letter_log_odds(answer.top_logprobs) is None:
        told = ", ".join(repr(token) for token, _ in answer.top_logprobs[:5])
        return (
            f"{who}: asked for one letter, it begins with {told}: no verdict can be read from that; expected A or B among its "
            "likeliest first tokens, take a model that does not think first, or set judge.mode: written"
        )
    return None


def _parameters(agent: AgentConfig) -> list[str]:
    if agent.goes_directly:
        return ["logprobs", "top_logprobs"]
    try:
        return list(load_litellm().get_supported_openai_params(model=agent.model) or [])
    except Exception:  # a provider that litellm does not know: it says so when it is asked
        return ["logprobs", "top_logprobs"]


async def _asked_once(name: str, agent: AgentConfig, request: ChatRequest) -> Answer:
    async with contextlib.aclosing(Senders({name: agent})) as senders:
        return await senders.send(request)
