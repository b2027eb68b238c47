"""What became of a batch's request is booked: its reply with what it cost, or its reservation, released or kept."""

from star_pipeline.adapters.llm.answers import Answer
from star_pipeline.adapters.llm.batch_lines import Outcomes
from star_pipeline.adapters.llm.failures import Failure
from star_pipeline.adapters.llm.prices import Price, max_tokens
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import CallError
from star_pipeline.core.journal import Entry, Journal, Paid, Sent


async def book(
    journal: Journal, number: int, agent: AgentConfig, cost: Price, one: Sent, outcomes: Outcomes, took_s: float
) -> Entry | Failure | None:
    """The reply to use, or why there is none; None where another process was first to find out."""
    answer = outcomes.of(one.key, one.request, took_s)
    if isinstance(answer, Answer):
        entry = _entry(one, agent, cost, answer)
        try:
            paid = Paid.of(one.key, one.request, agent.model, one.prompt_bytes, entry)
            return await journal.add(paid, one.reservation, number)
        except CallError as error:
            answer = Failure(error.kind, str(error), False)
    failure, billed_as = answer, answer.kind if answer.maybe_billed else None
    [mine] = await journal.drop(number, [one], billed_as)
    return failure if mine else None


def _entry(one: Sent, agent: AgentConfig, cost: Price, answer: Answer) -> Entry:
    """The reply as it is booked, on who sent the request. Where no tokens are counted, the cost is the most that they can have cost."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        most = max_tokens({**agent.params, **one.params}) or len(answer.text.encode("utf-8", "replace"))
        pico = cost.pico(one.prompt_bound, most)
    else:
        pico = cost.pico(answer.prompt_tokens, answer.completion_tokens)
    return Entry(
        one.lake, one.purpose, answer.text, answer.finish_reason, answer.prompt_tokens or 0, answer.completion_tokens or 0, pico,
        answer.latency_s, one.tries, answer.top_logprobs,
    )  # fmt: skip  # a field's value each
