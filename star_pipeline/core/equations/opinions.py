"""Eq. 6: from a judge's replies in both orders to its opinion, and from the opinions of all judges to the candidate's row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from star_pipeline.core.equations.judge_modes import Heard, by_margin, chance_better, margin_of
from star_pipeline.core.equations.verdicts import PI_LLM, OnReversal, Ties, combine, majority, plurality
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import Candidate, JudgeOpinion, JudgeVerdict, Outcome


@dataclass(frozen=True)
class Order:
    """All that a judge said in one order; ``heard`` is its last word. ``error``: the call that failed for good."""

    heard: Heard = field(default_factory=lambda: Heard(None))
    replies: tuple[ChatReply, ...] = ()
    attempts: int = 0
    error: str | None = None

    def after(self, reply: ChatReply, heard: Heard) -> "Order":
        return Order(heard, (*self.replies, reply), self.attempts + (reply.attempts if reply.booked else 0))

    def broken(self, error: CallError) -> "Order":
        told = f"{error.kind}: {error}"
        return replace(self, heard=Heard(None), attempts=self.attempts + error.attempts, error=told)

    def shared(self) -> "Order":
        """The same for a candidate that did not have to ask."""
        return replace(self, replies=tuple(replace(reply, booked=False) for reply in self.replies), attempts=0)

    @property
    def text(self) -> str | None:
        # a lone surrogate cannot be written
        return self.replies[-1].text.encode("utf-8", "replace").decode() if self.replies else None


def opinion(
    agent: str, first: Order, swapped: Order, on_reversal: OnReversal, margin: float, tries: int
) -> JudgeOpinion:
    """What a judge's replies with the candidate as A (``first``) and as B say together."""
    booked = [reply for order in (first, swapped) for reply in order.replies if reply.booked]
    made = JudgeOpinion(
        agent=agent,
        verdict="failed",
        verdict_first=first.heard.result,
        verdict_swapped=swapped.heard.result,
        flipped=False,
        pi_llm=None,
        log_odds_first=first.heard.log_odds,
        log_odds_swapped=swapped.heard.log_odds,
        margin=None,
        reply_first=first.text,
        reply_swapped=swapped.text,
        error=None,
        attempts=first.attempts + swapped.attempts,
        prompt_tokens=sum(reply.prompt_tokens for reply in booked),
        completion_tokens=sum(reply.completion_tokens for reply in booked),
        cost_usd=sum(reply.cost_usd for reply in booked),
    )
    errors = [order.error for order in (first, swapped) if order.error]
    if errors:
        return replace(made, error="; ".join(dict.fromkeys(errors)))
    if first.heard.result is None or swapped.heard.result is None:
        told = dict.fromkeys(order.heard.why_not for order in (first, swapped) if order.heard.why_not)
        reason = f"no verdict in {tries} replies; " + "; ".join(filter(None, told))
        return replace(made, verdict="unparsed", error=reason)
    verdict, flipped, pi_llm = combine(first.heard.result, swapped.heard.result, on_reversal)
    if first.heard.log_odds is None or swapped.heard.log_odds is None:  # another mode
        return replace(made, verdict=verdict, flipped=flipped, pi_llm=pi_llm)
    found = margin_of(first.heard.log_odds, swapped.heard.log_odds)
    verdict = by_margin(found, margin)
    return replace(made, verdict=verdict, flipped=flipped, margin=found, pi_llm=PI_LLM[verdict])


def together(
    candidate: Candidate,
    base_candidate_id: str | None,
    template: str,
    opinions: Sequence[JudgeOpinion],
    on_reversal: OnReversal,
    soft: bool,
    ties: Ties = "half",
) -> JudgeVerdict:
    """The candidate's row: of one judge its opinion, of several their majority and the mean of their margins.

    Where ``ties`` lose, pi_llm is 0 wherever it would be that of a tie: only what is judged better can come before the reference.
    """
    one = opinions[0] if len(opinions) == 1 else None
    if one:
        verdict, flipped, pi_llm = one.verdict, one.flipped, one.pi_llm
    else:
        verdict, flipped, pi_llm = majority(opinions, on_reversal)
    if ties == "lose" and pi_llm == PI_LLM["tie"]:
        pi_llm = PI_LLM["worse"]
    margins = [said.margin for said in opinions if said.margin is not None]
    margin = math.fsum(margins) / len(margins) if margins and pi_llm is not None else None
    p_better = None if margin is None else chance_better(margin)
    return JudgeVerdict(
        candidate_id=candidate.candidate_id,
        seed_id=candidate.seed_id,
        base_candidate_id=base_candidate_id,
        template=template,
        verdict=verdict,
        verdict_first=one.verdict_first if one else _order_alone([said.verdict_first for said in opinions]),
        verdict_swapped=one.verdict_swapped if one else _order_alone([said.verdict_swapped for said in opinions]),
        flipped=flipped,
        pi_llm=p_better if soft and p_better is not None else pi_llm,
        reply_first=one.reply_first if one else _told({said.agent: said.reply_first for said in opinions}),
        reply_swapped=one.reply_swapped if one else _told({said.agent: said.reply_swapped for said in opinions}),
        error=one.error if one else _told({said.agent: said.error for said in opinions}, ": ", "; "),
        attempts=sum(said.attempts for said in opinions),
        prompt_tokens=sum(said.prompt_tokens for said in opinions),
        completion_tokens=sum(said.completion_tokens for said in opinions),
        cost_usd=sum(said.cost_usd for said in opinions),
        judge_agent=", ".join(said.agent for said in opinions),
        log_odds_first=one.log_odds_first if one else None,
        log_odds_swapped=one.log_odds_swapped if one else None,
        margin=margin,
        p_better=p_better,
        judges=None if one else tuple(opinions),
    )


def _order_alone(said: Sequence[str | None]) -> Outcome | None:
    heard = [word for word in said if word]
    return plurality(heard) if heard else None


def _told(said: dict[str, str | None], border: str = ":\n", between: str = "\n\n") -> str | None:
    """All that the judges said, each under its name."""
    return between.join(f"{agent}{border}{text}" for agent, text in said.items() if text is not None) or None
